"""Nothing at or after the end of a window's history can reach its forecast; and the check itself can fail."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nhdata.loading import WindowBatch, WindowDataset
from nhdata.recording import Recording
from nhmodel.model import NeuroHorizon, UnitTable

FIRST_EDIT_S = 45.0
Edit = Callable[[Recording, NDArray[np.bool_]], tuple[NDArray[Any], NDArray[Any]]]


def deleted(recording: Recording, late: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    return recording.spikes.time[~late], recording.spikes.unit[~late]


def added(recording: Recording, late: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """A volley of every unit on the very tick at which a history ends, and noise after it."""
    rng = np.random.default_rng(0)
    first, n = int(FIRST_EDIT_S * 30000), recording.n_units
    more = np.concatenate([np.full(n, first), rng.integers(first, 89 * 30000, 5000)])
    return (
        np.concatenate([recording.spikes.time, more]),
        np.concatenate([recording.spikes.unit, np.arange(n), rng.integers(0, n, 5000)]),
    )


def moved(recording: Recording, late: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(0)
    time, unit = recording.spikes.time.copy(), recording.spikes.unit.copy()
    time[late] = rng.integers(int(FIRST_EDIT_S * 30000), 89 * 30000, late.sum())
    unit[late] = rng.integers(0, recording.n_units, late.sum())
    return time, unit


def edited(recording: Recording, edit: Edit) -> Recording:
    """The recording with another future: everything before `FIRST_EDIT_S` is as it was."""
    time, unit = edit(recording, recording.spikes.time >= FIRST_EDIT_S * 30000)
    return replace(recording, spikes=replace(recording.spikes, time=time, unit=unit))


class Leaky(WindowDataset):
    """A loader whose histories end one bin too late."""

    def collate(self, windows: NDArray[np.int64]) -> WindowBatch:
        late = windows.copy()
        late[:, 1] += round(self.bin_s * self.selection.sessions[0].tick_hz)
        right = super().collate(windows)
        return replace(super().collate(late), counts=right.counts, t_s=right.t_s)


def batch_until_edit(windows: WindowDataset) -> WindowBatch:
    """The windows whose history ends by `FIRST_EDIT_S`; that of the last ends there."""
    marks = windows.plan().windows
    batch = windows.collate(marks[marks[:, 1] <= FIRST_EDIT_S * 30000])
    assert batch.t_s[-1] == FIRST_EDIT_S
    return batch


@pytest.fixture(scope="module")
def one_session(units: UnitTable) -> UnitTable:
    """The rows of the first session's units."""
    return UnitTable(*(x[:12] for x in units))


@pytest.mark.parametrize("edit", [deleted, added, moved])
def test_the_future_cannot_reach_the_forecast(
    edit: Edit,
    recordings: list[Recording],
    make_store: Callable[..., Path],
    open_windows: Callable[..., WindowDataset],
    awake: Callable[..., NeuroHorizon],
    one_session: UnitTable,
) -> None:
    model = awake()
    stores = make_store("a", recordings[:1]), make_store("b", [edited(recordings[0], edit)])
    before, after = (batch_until_edit(open_windows(store, "all")) for store in stores)
    assert torch.equal(model(after, one_session), model(before, one_session))
    assert torch.equal(after.counts[:-1], before.counts[:-1])
    assert not torch.equal(after.counts[-1], before.counts[-1])


def test_the_check_flags_a_loader_that_leaks_one_bin(
    recordings: list[Recording],
    make_store: Callable[..., Path],
    open_windows: Callable[..., WindowDataset],
    awake: Callable[..., NeuroHorizon],
    one_session: UnitTable,
) -> None:
    model = awake()
    stores = make_store("a", recordings[:1]), make_store("b", [edited(recordings[0], added)])
    before, after = (batch_until_edit(open_windows(store, "all", kind=Leaky)) for store in stores)
    assert not torch.equal(model(after, one_session), model(before, one_session))


def test_targets_cannot_change_the_forecast(
    store: Path, open_windows: Callable[..., WindowDataset], awake: Callable[..., NeuroHorizon], units: UnitTable
) -> None:
    model, batch = awake(), next(iter(open_windows(store)))
    other = replace(batch, counts=torch.randint_like(batch.counts, 100))
    assert torch.equal(model(other, units), model(batch, units))


@pytest.mark.parametrize("j", [1, 12, 24])
def test_a_bins_query_reaches_that_bin_and_later_ones_only(
    j: int,
    store: Path,
    open_windows: Callable[..., WindowDataset],
    awake: Callable[..., NeuroHorizon],
    units: UnitTable,
) -> None:
    model, batch = awake("model.decoder_depth=2"), next(iter(open_windows(store)))
    with torch.no_grad():
        before = model(batch, units)
        model.bins[j] += torch.randn(16)
        after = model(batch, units)
    assert torch.equal(after[:, :j], before[:, :j])
    assert ((after - before)[:, j:].abs().amax((0, 2)) > 0).all()
