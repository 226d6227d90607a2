"""The audit finds leaks that were put there, and none where there are none."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nhdata.loading import Splits, WindowBatch, WindowDataset, audit_batches, audit_splits, shuffle_quality
from nhdata.loading.arena import SLOT_BYTES

OPTIONS: dict[str, Any] = {"history_s": 0.5, "horizon_s": 0.5, "bin_s": 0.1, "batch_size": 16}
NAMES = ("train", "valid", "test")


@pytest.mark.parametrize("splits", [Splits(), Splits(n_blocks=3), Splits(by="unit")], ids=str)
def test_splits_are_clean(store: Path, splits: Splits) -> None:
    parts = [WindowDataset(store, split=name, splits=splits, ema_tau_s=(1.0,), **OPTIONS) for name in NAMES]
    assert audit_splits(*parts) == []
    for windows in parts:
        assert audit_batches(windows) == []
    some = "select unit_id from units where unit_index % 3 = 1"
    assert audit_batches(WindowDataset(store, select=some, unit_dropout=0.4, **OPTIONS)) == []


def test_an_overlap_is_found(store: Path) -> None:
    train, test = (WindowDataset(store, split=name, **OPTIONS) for name in ("train", "test"))
    everything = WindowDataset(store, split="all", **OPTIONS)
    assert len(audit_splits(train, everything)) == 3, "one for each session"
    assert "[0.000, 42.000) s of sim-n12-t60-s0-000: 'train' and 'all' share it" in audit_splits(train, everything)
    test._sessions[0].stretches[0, 0] = 41.9 * 30_000
    assert [p[:24] for p in audit_splits(train, test)] == ["[41.900, 42.000) s of si"]


def test_a_history_that_reaches_into_another_split_is_found(store: Path) -> None:
    test = WindowDataset(store, split="test", **OPTIONS)
    stretches = [session.stretches.copy() for session in test._sessions]
    for session in test._sessions:  # as if only horizons had to stay inside
        session.stretches[:, 0] -= 15_000
    test._planned = None
    planned = test.plan()
    for session, own in zip(test._sessions, stretches, strict=True):
        session.stretches[:] = own
    test._planned = (0, 0), planned
    problems = audit_splits(test, n_epochs=1)
    assert len(problems) == 3
    assert "of sim-n12-t60-s0-000 leaves split 'test'" in problems[0]


def test_averages_of_training_that_look_back_at_a_test_are_found(store: Path) -> None:
    splits = Splits(n_blocks=2)
    train, test = (WindowDataset(store, split=n, splits=splits, ema_tau_s=(1.0,), **OPTIONS) for n in ("train", "test"))
    assert audit_splits(train, test) == []
    train._look_back = [np.array([[0, 60 * 30_000]])] * 3
    assert any("averages of 'train' look back at 'test' of" in p for p in audit_splits(train, test))


def leaks_tokens(batch: WindowBatch) -> WindowBatch:
    time_s = batch.token_time_s.clone()
    time_s[int(batch.cu_seqlens[1]) - 1] = 0.01
    return replace(batch, token_time_s=time_s)


def leaks_counts(batch: WindowBatch) -> WindowBatch:
    """The canary: a history that ends a bin late."""
    return replace(batch, history=torch.cat([batch.history[:, 1:], batch.counts[:, :1]], dim=1))


def leaks_averages(batch: WindowBatch) -> WindowBatch:
    return replace(batch, ema_hz=batch.ema_hz + 10.0 * batch.counts[:, :1])


def shuffles_history(batch: WindowBatch) -> WindowBatch:
    """The control: histories of other windows."""
    return replace(batch, history=batch.history.roll(1, 0))


def shuffles_tokens(batch: WindowBatch) -> WindowBatch:
    return replace(batch, token_unit=batch.token_unit.flip(0))


def shifts_horizon(batch: WindowBatch) -> WindowBatch:
    return replace(batch, counts=batch.counts.roll(1, 1))


@pytest.mark.parametrize(
    ("leak", "found"),
    [
        (leaks_tokens, "1 tokens are not of the past"),
        (leaks_counts, "its history is not what was counted before it"),
        (leaks_averages, "its averages are not those of its past"),
        (shuffles_history, "its history is not what was counted before it"),
        (shuffles_tokens, "its tokens are not the spikes of its history"),
        (shifts_horizon, "its counts are not those of its horizon"),
    ],
)
def test_leaks_and_controls_are_caught(store: Path, leak: Any, found: str) -> None:
    windows = WindowDataset(store, ema_tau_s=(1.0,), **OPTIONS)

    def leaky() -> Iterator[WindowBatch]:
        yield from map(leak, windows)

    assert any(found in problem for problem in audit_batches(windows, leaky(), n_batches=2))


def test_quality_of_a_shuffle(train: Any, windows_over: Any) -> None:
    """Random is 1; memory buys it; none at all is a batch of one minute."""
    n = 60 * 131_072
    hour = 3600 * 1000
    tick = np.linspace(0, hour - 1, n).astype(np.uint32)
    windows = windows_over(*[train(tick, np.zeros(n, np.uint16), [0], 1000.0, hour)] * 2, shuffle=True, batch_size=32)
    budgets = [SLOT_BYTES * slots / 1e6 for slots in (200, 60, 24, 8)]
    full, half, fifth, least = shuffle_quality(windows, budgets)
    assert full.same_minute == pytest.approx(1, abs=0.1)
    assert full.same_session == pytest.approx(1, abs=0.05)
    assert full.same_minute < half.same_minute < fifth.same_minute < least.same_minute < 60
    assert half.same_minute < 5
    windows.shuffle, windows._planned = False, None
    assert shuffle_quality(windows)[0].same_minute > 50
