"""What is known of units comes from the stretch that may be looked at, and from nothing else."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nhcatalog.errors import UserError
from nhdata.features.coupling import population_coupling
from nhdata.loading import WindowDataset
from nhdata.recording import Recording
from nhdata.store.store import open_store
from nhmodel.model import UnitTable
from nhmodel.units import rows_by_id, unit_table

Windows = Callable[..., WindowDataset]
TRAIN_STOP_S = 63.0


def equal(found: UnitTable, expected: UnitTable) -> bool:
    """Bitwise, NaN where NaN."""
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(("split", "stop_s"), [("train", TRAIN_STOP_S), ("reference", 30.0)])
def test_spikes_after_the_stretch_change_nothing(
    split: str,
    stop_s: float,
    recordings: list[Recording],
    make_store: Callable[..., Path],
    with_other_future: Callable[[Recording, float], Recording],
    open_windows: Windows,
) -> None:
    def known(name: str, recording: Recording) -> UnitTable:
        return unit_table(open_windows(make_store(name, [recording]), split, reference_s=30.0))

    before = known("as it was", recordings[0])
    assert equal(known("other future", with_other_future(recordings[0], stop_s)), before)
    assert not equal(known("other present", with_other_future(recordings[0], stop_s - 1)), before)


def test_mean_is_that_of_the_horizons_of_training(recordings: list[Recording], units: UnitTable) -> None:
    for number, recording in enumerate(recordings):
        time_s = recording.spikes.time / 30000
        inside = (time_s >= 0.5) & (time_s < TRAIN_STOP_S)  # horizons lie side by side from the first history on
        spikes = np.bincount(recording.spikes.unit[inside], minlength=12)
        n_bins = 125 * 25
        expected = (spikes + 0.5) / (n_bins + 0.5 * n_bins / spikes.mean())
        np.testing.assert_allclose(units.log_mean[12 * number : 12 * number + 12].exp(), expected, rtol=1e-6)


def test_features_are_those_of_the_first_minute(store: Path, units: UnitTable) -> None:
    opened = open_store(store)
    stored = np.concatenate([opened.session(session_id).features().values for session_id in opened.session_ids])
    np.testing.assert_array_equal(units.features[:, :33], stored)


def test_coupling_is_that_of_the_first_minute(recordings: list[Recording], units: UnitTable) -> None:
    for number, recording in enumerate(recordings):
        counts = np.zeros((12, 6000))
        first = recording.spikes.time < 60 * 30000
        np.add.at(counts, (recording.spikes.unit[first], recording.spikes.time[first] // 300), 1)
        expected = [np.corrcoef(one, counts.sum(0) - one)[0, 1] for one in counts]
        np.testing.assert_allclose(units.features[12 * number : 12 * number + 12, 33], expected, atol=1e-12)


def test_features_of_a_short_reference_are_those_of_the_reference(store: Path, open_windows: Windows) -> None:
    one = "select unit_id from units where session_id like '%001'"
    found = unit_table(open_windows(store, "reference", reference_s=20.0, select=one))
    opened = open_store(store)
    session = opened.session(opened.session_ids[1])
    np.testing.assert_array_equal(found.features[:, :33], session.features(0.0, 20.0).values)
    np.testing.assert_array_equal(found.features[:, 33], population_coupling(session.trains(0.0, 20.0)))


def test_units_of_a_selection_keep_what_is_known_of_them(store: Path, open_windows: Windows, units: UnitTable) -> None:
    some = "select unit_id from units where unit_index in (2, 7) and session_id not like '%001'"
    found = unit_table(open_windows(store, "train", select=some))
    places = [2, 7, 26, 31]
    np.testing.assert_array_equal(found.features, units.features[places])
    # the mean of a session's selected units weighs half a spike
    torch.testing.assert_close(found.log_mean, units.log_mean[places], atol=0.01, rtol=0)


def test_rows_are_those_of_training_and_minus_one_elsewhere(store: Path, open_windows: Windows) -> None:
    known = open_windows(store, "train")
    trained = known.unit_ids[30:20:-1]
    row = unit_table(known, rows_by_id(trained)).row.tolist()
    assert [row[k] for k in range(30, 20, -1)] == list(range(10))
    assert {row[k] for k in range(36) if not 20 < k <= 30} == {-1}
    assert set(unit_table(known).row.tolist()) == {-1}


def test_means_are_of_their_own_session(
    recordings: list[Recording], make_store: Callable[..., Path], open_windows: Windows
) -> None:
    """A silent unit leans on the mean of its own session, whatever else is in the store."""
    spikes = recordings[0].spikes
    quiet = replace(recordings[0], spikes=replace(spikes, time=spikes.time[::50], unit=spikes.unit[::50]))
    alone = unit_table(open_windows(make_store("alone", [quiet]), "train"))
    together = unit_table(open_windows(make_store("together", [quiet, recordings[1]]), "train"))
    assert torch.equal(together.log_mean[:12], alone.log_mean)


def test_a_session_without_a_window_is_named(
    recordings: list[Recording], make_store: Callable[..., Path], open_windows: Windows
) -> None:
    spikes = recordings[0].spikes
    early = spikes.time < 1.2 * 30000
    short = replace(
        recordings[0],
        session_id="short",
        stop_s=1.2,
        spikes=replace(spikes, time=spikes.time[early], unit=spikes.unit[early]),
        intervals={},
        series={},
    )
    path = make_store("data.zarr", [recordings[1], short])
    with pytest.raises(
        UserError, match=r"session short is too short: no window of 0\.5 \+ 0\.5 s fits its part 'train'"
    ):
        unit_table(open_windows(path, "train"))


def test_a_session_too_short_for_a_window_is_named(
    recordings: list[Recording], make_store: Callable[..., Path], open_windows: Windows
) -> None:
    first = replace(recordings[0].spikes, time=np.zeros(12, np.int64), unit=np.arange(12))
    short = replace(recordings[0], spikes=first, stop_s=0.0, intervals={}, series={})
    known = open_windows(make_store("mixed", [short, recordings[1]]), "train")
    with pytest.raises(UserError, match=f"session {short.session_id} is too short"):
        unit_table(known)
