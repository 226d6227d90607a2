"""Units that were observed for part of a session: their rates, features, masks and scores."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from pynwb import NWBHDF5IO, NWBFile

import nhdata
from nhcatalog.catalog import Catalog
from nhdata.derivatives.chosen import choose
from nhdata.derivatives.features import FeaturesJob, feature_table
from nhdata.ingest import ingest
from nhdata.loading import WindowDataset
from nhdata.observed import merged, observed_spans, within
from nhdata.sources import open_source
from nhdata.store.rebuild import rebuild_catalog
from nhdata.store.validate import validate
from nhmodel.units import mean_counts

STOP_S = 120.0
Intervals = Sequence[Sequence[float]]


def write(path: Path, observed: Sequence[Intervals], rate_hz: float = 10.0) -> Path:
    """Write units that fire at `rate_hz` while they are observed."""
    rng = np.random.default_rng(0)
    file = NWBFile("observed", "observed", pd.Timestamp("2024-05-01T12:00:00Z").to_pydatetime())
    for intervals in observed:
        times = [rng.uniform(a, b, round(rate_hz * (b - a))) for a, b in intervals]
        file.add_unit(spike_times=np.sort(np.concatenate(times)), obs_intervals=intervals)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Twelve units, of which six are observed in the second minute only and one in two pieces."""
    halves = [[[0.0, STOP_S]]] * 6 + [[[60.0, STOP_S]]] * 5 + [[[0.0, 30.0], [90.0, STOP_S]]]
    return write(tmp_path / "observed.nwb", halves)


@pytest.fixture
def store(path: Path, tmp_path: Path) -> Path:
    root = tmp_path / "data.zarr"
    assert ingest(root, "nwb", [path]).failed == []
    return root


def test_rates_are_over_the_observed_time(store: Path) -> None:
    rows = nhdata.open(store).sql("select rate_hz, observed_share from units order by unit_index").to_pylist()
    assert [row["rate_hz"] for row in rows] == pytest.approx([10.0] * 12, rel=0.02)
    assert [row["observed_share"] for row in rows] == pytest.approx([1.0] * 6 + [0.5] * 6, abs=0.01)
    notes = nhdata.open(store).sql("select value from provenance where kind = 'note'").to_pylist()
    assert {"value": "6 of 12 units are observed for part of the session only"} in notes
    assert validate(store, deep=True) == []


def test_features_are_over_the_observed_part_of_their_window(store: Path) -> None:
    rates = nhdata.open(store).sql(
        "select f.rate_hz from unit_features f join units using (unit_id) order by unit_index"
    )
    first_minute = rates["rate_hz"].to_pylist()
    assert first_minute[:6] == pytest.approx([10.0] * 6, rel=0.15)
    assert first_minute[6:11] == [None] * 5
    assert first_minute[11] == pytest.approx(10.0, rel=0.15)
    session = nhdata.open(store).session("observed")
    assert session.features(60.0, 119.0).values[:, 0] == pytest.approx([10.0] * 12, rel=0.2)
    (chosen,) = choose(nhdata.open(store))
    table = feature_table(FeaturesJob(window_s=(30.0, 60.0), sets=("reference", "irregularity")), chosen)
    assert table["rate_hz"].to_pylist()[6:] == [None] * 6
    assert table["cv2"].to_pylist()[6:] == [None] * 6


def test_no_window_gives_an_unobserved_unit_as_silent(store: Path) -> None:
    spans = nhdata.open(store).session("observed").observed()
    windows = WindowDataset(store, split="all", shuffle=False, history_s=0.5, horizon_s=0.5)
    n = 0
    for batch in windows:
        for t_s, mask in zip(batch.t_s.tolist(), batch.unit_mask, strict=True):
            for unit in range(12):
                own = spans.get(unit, np.array([[0.0, STOP_S]]))
                inside = any(a <= t_s - 0.5 + 1e-6 and t_s + 0.5 - 1e-6 <= b for a, b in own.tolist())
                assert bool(mask[unit]) == inside, (t_s, unit)
                n += not inside
        assert torch.equal(batch.unit_id < 0, ~batch.unit_mask)
    assert n > 300


def test_moving_averages_do_not_take_unobserved_time_for_silence(store: Path) -> None:
    found = []
    for batch in WindowDataset(store, split="all", shuffle=False, ema_tau_s=(5.0,)):
        found.append(batch.ema_hz[:, 0, 6:11][batch.unit_mask[:, 6:11]])
    averages = torch.cat(found)
    assert len(averages) > 100
    assert averages.min() > 4.0
    assert averages.mean() == pytest.approx(10.0, rel=0.05)


def test_means_do_not_learn_unobserved_time_as_silence(store: Path) -> None:
    windows = WindowDataset(store, split="all", shuffle=False, history_s=0.5, horizon_s=0.5, bin_s=0.02)
    assert mean_counts(windows) / 0.02 == pytest.approx([10.0] * 12, rel=0.1)


def test_a_part_of_the_selection_and_rebuild_keep_it(store: Path) -> None:
    rebuild_catalog(store)
    assert Catalog(store / "catalog").verify() == []
    select = "select unit_id from units where unit_index in (3, 8, 11)"
    batch = next(iter(WindowDataset(store, select=select, split="all", shuffle=False)))
    early = batch.t_s < 50
    assert batch.unit_mask[early, 0].all()
    assert not batch.unit_mask[early, 1].any()


def test_units_observed_alike_need_no_table(tmp_path: Path) -> None:
    path = write(tmp_path / "alike.nwb", [[[0.0, 50.0], [70.0, STOP_S]]] * 3)
    source = open_source("nwb")
    (ref,) = source.iter_sessions([path])
    assert list(source.load(ref).intervals) == ["invalid_times"]


@pytest.mark.parametrize("damage", ["index", "nan", "backwards", "shape"])
def test_malformed_intervals_cost_a_note_and_no_spikes(damage: str, path: Path) -> None:
    with h5py.File(path, "a") as file:
        if damage == "index":
            file["units/obs_intervals_index"][-1] = 200
        elif damage == "nan":
            file["units/obs_intervals"][3, 0] = np.nan
        elif damage == "shape":
            values = file["units/obs_intervals"][:].ravel()
            del file["units/obs_intervals"]
            file["units/obs_intervals"] = values
        else:
            file["units/obs_intervals"][3] = [50.0, 20.0]
    source = open_source("nwb")
    (ref,) = source.iter_sessions([path])
    recording = source.load(ref)
    assert recording.n_units == 12
    assert "observed_intervals" not in recording.intervals
    assert any(note.startswith("obs_intervals left out") for note in recording.provenance.notes)


def test_spikes_outside_are_kept_with_a_note(path: Path) -> None:
    with h5py.File(path, "a") as file:
        stops = file["units/spike_times_index"][:]
        file["units/spike_times"][stops[6]] = 5.0  # the first spike of the eighth unit
    source = open_source("nwb")
    (ref,) = source.iter_sessions([path])
    recording = source.load(ref)
    assert "1 spikes lie outside the observed intervals of their unit" in recording.provenance.notes
    assert len(recording.spikes.time) == len(h5py.File(path)["units/spike_times"])


def test_intervals() -> None:
    assert merged(np.array([[5.0, 7.0], [0.0, 2.0], [2.0, 3.0], [4.0, 4.0]])).tolist() == [[0.0, 3.0], [5.0, 7.0]]
    assert within(np.array([[0.0, 3.0], [5.0, 7.0]]), 2.0, 5.0).tolist() == [[2.0, 3.0]]
    assert observed_spans({}) == {}
