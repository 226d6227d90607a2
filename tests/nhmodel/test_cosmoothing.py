"""Units that are held out: their spikes are not heard, and yet they are told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nhdata.loading import WindowBatch, WindowDataset
from nhdata.recording import Recording
from nhmodel.config import Config
from nhmodel.cosmoothing import CoSmoothingRidge, co_smoothed, held_out_units, smoothed
from nhmodel.evaluation import evaluate
from nhmodel.metrics import ScoreSums, scores
from nhmodel.model import NeuroHorizon, UnitTable
from nhmodel.training import train

TASK = ("data.task=co-smoothing", "data.horizon_s=0.5")


@pytest.fixture
def model(awake: Callable[..., NeuroHorizon]) -> NeuroHorizon:
    return awake(*TASK)


@pytest.fixture
def batch(store: Path, open_windows: Callable[..., WindowDataset]) -> WindowBatch:
    return next(iter(open_windows(store)))


@torch.no_grad()
def test_what_a_held_out_unit_does_cannot_change_what_is_said_of_it(
    model: NeuroHorizon, batch: WindowBatch, units: UnitTable
) -> None:
    """Nor what is said of any other unit: other spikes of it, other averages, none at all."""
    held_out = held_out_units(12).expand_as(batch.unit_mask)
    assert held_out.any()
    expected = model(batch, units, held_out=held_out)
    assert expected.shape == batch.history.shape
    window = torch.repeat_interleave(torch.arange(len(batch)), batch.cu_seqlens.diff())
    theirs = held_out[window, batch.token_unit]
    moved = torch.where(theirs, batch.token_time_s * 0.3, batch.token_time_s)
    other = replace(
        batch,
        token_time_s=moved,
        history=torch.where(held_out[:, None], 9, batch.history),
        ema_hz=torch.where(held_out[:, None], 99.0, batch.ema_hz),
        counts=torch.full_like(batch.counts, 7),
    )
    assert torch.equal(model(other, units, held_out=held_out), expected)
    theirs_not = replace(batch, token_time_s=torch.where(theirs, batch.token_time_s, batch.token_time_s * 0.3))
    assert not torch.equal(model(theirs_not, units, held_out=held_out), expected)


@torch.no_grad()
def test_bins_of_the_history_look_both_ways(model: NeuroHorizon, batch: WindowBatch, units: UnitTable) -> None:
    """A spike in the last bin changes what is said of the first."""
    held_out = held_out_units(12).expand_as(batch.unit_mask)
    late = batch.token_time_s > -0.02
    assert late.any()
    other = replace(batch, token_time_s=torch.where(late, batch.token_time_s - 0.1, batch.token_time_s))
    changed = model(other, units, held_out=held_out)[:, 0] != model(batch, units, held_out=held_out)[:, 0]
    assert changed.any()


def test_ridge_finds_units_that_follow_others() -> None:
    rng = np.random.default_rng(0)
    rate = np.exp(smoothed(rng.normal(size=(400, 25, 1)) * 4, 3.0)) * 0.3
    heard, target = rng.poisson(rate * np.ones(8)).astype(np.uint8), rng.poisson(rate * [1.0, 0.5]).astype(np.uint8)
    null = target[:300].mean((0, 1)).astype(np.float32)
    ridge = CoSmoothingRidge().fit(heard[:250], target[:250], (heard[250:300], target[250:300]), null)
    sums = ScoreSums()
    sums.add("a", np.arange(100.0), target[300:], ridge.predict(heard[300:]), null)
    assert (scores(sums)["fp_bps"] or 0) > 0.2


def test_a_run_that_co_smooths_is_scored_on_units_it_did_not_hear(
    store: Path,
    make_config: Callable[..., Config],
    stranger: Recording,
    make_store: Callable[..., Path],
    tmp_path: Path,
) -> None:
    config = make_config(*TASK, "train.max_steps=40", "train.validate_every=20", "train.lr=0.01")
    standing = train(store, config, tmp_path / "run")
    result = evaluate(tmp_path / "run", store)
    value = result.to_json("x")
    assert value["task"] == "co-smoothing"
    row = {row["model"]: row for row in value["scores"]}
    assert list(row) == ["neurohorizon", "null", "flat", "ridge"]
    assert row["null"]["fp_bps"] == 0
    assert row["neurohorizon"]["fp_bps"] > 0
    assert {session["n_units"] for session in value["sessions"]} == {1}
    assert standing.best > 0
    assert value["delta_best_baseline"]["baseline"] == "ridge"
    new = evaluate(tmp_path / "run", make_store("new", [stranger]), reference_s=40.0)
    assert new.regimes == ["zero-shot"]


def test_co_smoothed_counts_are_those_of_the_model(
    model: NeuroHorizon, store: Path, open_windows: Callable[..., WindowDataset], units: UnitTable
) -> None:
    one = "select unit_id from units where session_id like '%000'"
    windows = open_windows(store, select=one)
    known = units._replace(features=units.features[:12], log_mean=units.log_mean[:12], row=units.row[:12])
    found = co_smoothed(model, windows, known)
    assert found.shape == (33, 25, 1)
    batch = next(iter(windows))
    with torch.no_grad():
        expected = model(batch, known, held_out=held_out_units(12).expand_as(batch.unit_mask)).exp()[..., [5]]
    np.testing.assert_allclose(found[: len(batch)], expected, rtol=1e-5)
