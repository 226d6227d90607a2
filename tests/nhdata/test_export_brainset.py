"""Exported brainsets: torch_brain and temporaldata open them, and what goes out comes back."""

import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest
import temporaldata
import torch_brain.data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch_brain.datasets import Dataset, DatasetIndex

from nhcatalog.errors import UserError
from nhdata.export import brainset
from nhdata.export.brainset import instants, write_brainset
from nhdata.export.temporaldata import RESERVED, free_name
from nhdata.recording import Provenance, Recording, Series, Spikes
from nhdata.sources import SourceOptions
from nhdata.sources.brainset.source import BrainsetSource
from nhdata.sources.phy.source import PhySource
from nhdata.store.encode import encode
from nhdata.store.session import Session
from nhdata.store.write import write_session

READERS = [torch_brain.data, temporaldata]
WINDOWS = [(0.0, 40.0), (3.25, 9.5), (11.0, 12.0), (39.0, 60.0), (20.0, 20.0), (39.9, 40.0)]


def a_recording(seed: int = 0, **changes) -> Recording:
    """40 s exactly, with a spike in the last tick, spans that overlap, and every kind of column."""
    rng = np.random.default_rng(seed)
    starts = np.arange(1.0, 39.0, 2.0)
    fields = {
        "source": "lab",
        "session_id": "m1-day1",
        "spikes": Spikes(np.append(np.sort(rng.uniform(0, 40, 700)), 39.999999), rng.integers(0, 4, 701)),
        "units": {
            "cluster_id": np.array([3, 5, 3, 900]),
            "probe": np.array(["p0", "p0", "p1", "p1"], object),
            "region": np.array(["CA1", "CA3", "unknown", "CA1"], object),
            "depth_um": np.array([1.5, np.nan, 3.0, np.inf]),
            "quality": np.array(["good", "A", "unrated", ""], object),
            "place": np.array(["Área 3ª", "β", "", "x"], object),
            "split": np.array([True, False, True, False]),
            "snr": np.array([1, 2, 3, 4], np.float32),
        },
        "stop_s": 40.0,
        "provenance": Provenance((), {"eid": "x"}, "label == 1", {}),
        "intervals": {
            "trials": {
                "start_s": starts,
                "stop_s": starts + 1.5,
                "go_cue_time": np.where(starts == 7, np.nan, starts + 0.5),
                "reaction_time": np.full(len(starts), 0.3),
                "side": np.array(["left", ""] * 10, object)[: len(starts)],
                "end": starts.astype(np.int32),
            },
            "nested": {
                "start_s": np.array([5.0, 0.0, 6.0]),
                "stop_s": np.array([8.0, 30.0, 7.0]),
                "name": np.array(["b", "a", "c"], object),
            },
            "wheel": {"start_s": np.array([1.0, np.nan]), "stop_s": np.array([2.0, 3.0])},
            "none": {"start_s": np.empty(0), "stop_s": np.empty(0)},
        },
        "series": {
            "wheel": Series(np.arange(1, 31) * 1.0, rng.normal(size=30), "rad"),
            "xy": Series(np.sort(rng.uniform(0, 40, 50)), rng.normal(size=(50, 2)).astype(np.float32), "cm"),
            "keys": Series(np.array([3.0, 1.0, np.nan]), np.array([30.0, 10.0, 0.0]), "V"),
            "nothing": Series(np.empty(0), np.empty(0), "m"),
        },
        "subject": "M1",
        "lab": "a lab",
        "date": "2024-02-29",
    }
    return Recording(**(fields | changes))


def stored(recording: Recording, folder: Path) -> Session:
    write_session(folder, encode(recording))
    return Session(folder)


def loaded(path: Path) -> Recording:
    source = BrainsetSource(SourceOptions())
    (ref,) = source.iter_sessions([path])
    return source.load(ref)


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Session:
    return stored(a_recording(), tmp_path_factory.mktemp("session") / "s")


@pytest.fixture(scope="module")
def path(session, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("out") / "m1-day1.h5"
    write_brainset(session, path)
    return path


@pytest.fixture(params=itertools.product(READERS, [True, False]), ids=lambda p: f"{p[0].__name__}-{p[1]}")
def data(request, path):
    reader, lazy = request.param
    with reader.Data.load(path, lazy=lazy) as data:
        yield data


def test_readers_get_the_same_spikes(data, session) -> None:
    times_s, unit = session.spikes()
    np.testing.assert_array_equal(data.spikes.timestamps, times_s)
    np.testing.assert_array_equal(data.spikes.unit_index, unit)
    assert data.spikes.timestamps.dtype == np.float64
    assert data.spikes.unit_index.dtype == np.int64
    assert (data.domain.start.tolist(), data.domain.end.tolist()) == ([0.0], [40.0])
    assert data.absolute_start == 0


@pytest.mark.parametrize("window", WINDOWS)
def test_readers_cut_the_same_windows(data, session, window) -> None:
    start_s, stop_s = window
    piece = data.slice(start_s, stop_s)
    times_s, unit = session.spikes(start_s, stop_s)
    np.testing.assert_array_equal(piece.spikes.timestamps, times_s - start_s)
    np.testing.assert_array_equal(piece.spikes.unit_index, unit)
    for name, (time_s, value, _) in session.series().items():
        series = getattr(piece, {"wheel": "wheel_", "keys": "keys_"}.get(name, name))
        order = np.argsort(time_s, kind="stable")
        keep = order[(time_s[order] >= start_s) & (time_s[order] < stop_s)]
        np.testing.assert_array_equal(series.timestamps, time_s[keep] - start_s)
        np.testing.assert_array_equal(series.value, value[keep])
    trials = session.intervals()["trials"]
    keep = (trials["stop_s"] > start_s) & (trials["start_s"] < stop_s)
    np.testing.assert_array_equal(piece.trials.start, trials["start_s"][keep] - start_s)
    np.testing.assert_array_equal(piece.trials.go_cue_time, trials["go_cue_time"][keep] - start_s)
    np.testing.assert_array_equal(piece.trials.reaction_time, trials["reaction_time"][keep])
    nested = session.intervals()["nested"]
    keep = np.flatnonzero((nested["start_s"] >= start_s) & (nested["start_s"] < stop_s))
    keep = keep[np.argsort(nested["start_s"][keep])]
    np.testing.assert_array_equal(piece.nested.timestamps, nested["start_s"][keep] - start_s)
    np.testing.assert_array_equal(piece.nested.end, nested["stop_s"][keep] - start_s)
    assert piece.nested.name.tolist() == nested["name"][keep].tolist()


def test_readers_get_units_and_names(data, session) -> None:
    assert data.units.id.tolist() == ["m1-day1/p0/3", "m1-day1/p0/5", "m1-day1/p1/3", "m1-day1/p1/900"]
    assert data.units.region.tolist() == ["CA1", "CA3", "unknown", "CA1"]
    assert [place.decode() for place in data.units.place] == ["Área 3ª", "β", "", "x"]
    np.testing.assert_array_equal(data.units.depth_um, [1.5, np.nan, 3.0, np.inf])
    assert data.units.split_.tolist() == [True, False, True, False]
    assert data.trials.side.tolist() == (["left", ""] * 10)[:19]
    assert data.trials.end_.tolist() == list(range(1, 39, 2))
    assert (data.brainset.id, data.session.id, data.subject.id) == ("lab", "m1-day1", "M1")
    assert (data.session.recording_date, data.session.lab) == ("2024-02-29", "a lab")
    for group, needed in (
        (data.brainset, torch_brain.data.BrainsetDescription),
        (data.subject, torch_brain.data.SubjectDescription),
    ):
        attributes = {name: getattr(group, name) for name in group.keys()}  # noqa: SIM118
        needed(**attributes)  # checks them


def test_torch_brain_s_dataset_reads_a_folder_of_them(session, path) -> None:
    dataset = Dataset(path.parent)
    assert dataset.recording_ids == ["m1-day1"] == [dataset.get_recording("m1-day1").session.id]
    sample = dataset[DatasetIndex("m1-day1", 10.0, 11.0)]
    np.testing.assert_array_equal(sample.spikes.timestamps, session.spikes(10.0, 11.0)[0] - 10.0)


def test_layout(path) -> None:
    """What temporaldata documents, whichever version of it is installed."""
    with h5py.File(path) as file:
        assert (file.attrs["object"], file.attrs["absolute_start"]) == ("Data", 0.0)
        assert set(file["spikes"]) == {"timestamps", "unit_index", "timestamp_indices_1s", "domain"}
        assert file["spikes"].attrs["object"] == "IrregularTimeSeries"
        times = file["spikes/timestamps"][:]
        expected = [(times < second).sum() for second in range(42)]
        assert file["spikes/timestamp_indices_1s"][:].tolist() == expected
        assert file["units"].attrs["object"] == "ArrayDict"
        assert b"id" in file["units"].attrs["_unicode_keys"]
        assert file["units/id"].dtype.kind == "S"
        assert file["trials"].attrs["object"] == "Interval"
        assert file["trials"].attrs["timekeys"].tolist() == [b"start", b"end", b"go_cue_time"]
        assert file["nested"].attrs["object"] == "IrregularTimeSeries"
        assert file["xy/value"].attrs["unit"] == "cm"
        datasets = []
        file.visititems(lambda name, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None)
        assert all(item.chunks is None for item in datasets)


def test_reserved_names_are_all_that_the_readers_use() -> None:
    used = {"timestamps", "timestamp_indices_1s"}
    for reader in READERS:
        for kind in ("Data", "ArrayDict", "Interval", "IrregularTimeSeries", "RegularTimeSeries"):
            used |= {name for name in dir(getattr(reader, kind)) if not name.startswith("_")}
    assert used <= RESERVED
    assert free_name("split", {"split_": 0}) == "split__"


def test_only_columns_of_instants_are_shifted_by_a_slice() -> None:
    start_s = np.arange(0.0, 500.0, 5.0)
    table = {
        "start_s": start_s,
        "stop_s": start_s + 4,
        "stimOn_times": start_s + 1,
        "response_time": np.full(100, 0.2),
        "go_time": np.full(100, np.nan),
        "time_of_day": start_s,
        "count_time": np.arange(100),
    }
    assert instants(table) == ["stimOn_times", "go_time"]


def same(ours: np.ndarray, theirs: np.ndarray) -> None:
    if theirs.dtype == object:
        assert [v or "" for v in ours] == theirs.tolist()
    else:
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_there_and_back(session, path, tmp_path) -> None:
    back = loaded(path)
    again = stored(back, tmp_path / "again")
    assert back.session_id == "lab_m1-day1"
    assert (back.subject, back.lab, back.date) == ("M1", "a lab", "2024-02-29")
    assert (again.t_start_s, again.duration_s, again.tick_hz) == (session.t_start_s, session.duration_s, 1e6)
    for ours, theirs in zip(session.ticks(), again.ticks(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    units = again.units()
    assert units.pop("id").tolist() == ["m1-day1/p0/3", "m1-day1/p0/5", "m1-day1/p1/3", "m1-day1/p1/900"]
    assert units.pop("source_n_spikes").tolist() == units["n_spikes"].tolist()
    assert units.keys() == session.units().keys()
    for name, values in session.units().items():
        same(values, units[name])
    intervals = session.intervals()
    for table in (intervals["nested"], intervals["wheel"]):
        order = np.argsort(table["start_s"])
        order = order[np.isfinite(table["start_s"][order])]
        for name in table:
            table[name] = table[name][order]
    assert again.intervals().keys() == intervals.keys()
    for name, table in intervals.items():
        columns = again.intervals()[name]
        assert table.keys() == columns.keys()
        for column, values in table.items():
            same(values, columns[column])
    series = again.series()
    assert series.keys() == session.series().keys()
    for name, (time_s, value, unit) in session.series().items():
        order = np.argsort(time_s)[: np.isfinite(time_s).sum()]
        assert series[name][2] == unit
        same(time_s[order], series[name][0])
        same(value[order], series[name][1])


def test_the_second_export_is_the_first(path, tmp_path) -> None:
    """A brainset's own ids of units, its id and its session's survive being stored."""
    write_brainset(stored(loaded(path), tmp_path / "s"), tmp_path / "lab_m1-day1.h5")
    with h5py.File(path) as first, h5py.File(tmp_path / "lab_m1-day1.h5") as second:
        assert second["brainset"].attrs["id"] == "lab"
        assert second["session"].attrs["id"] == "lab_m1-day1"
        for name in ("spikes/timestamps", "spikes/unit_index", "units/id", "trials/start", "xy/value"):
            np.testing.assert_array_equal(first[name][:], second[name][:])
    assert loaded(tmp_path / "lab_m1-day1.h5").session_id == "lab_m1-day1"


def test_units_kept_without_a_filter_are_told_from_good_ones(tmp_path) -> None:
    units = {**a_recording().units, "good": np.array([True, False, False, True])}
    written = stored(a_recording(units=units), tmp_path / "s")
    write_brainset(written, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["units/good"][:].tolist() == [True, False, False, True]
    back = loaded(tmp_path / "a.h5")
    assert back.units["cluster_id"].tolist() == [3, 900]
    assert back.provenance.dropped == {"rated 'A'": 1, "rated 'unrated'": 1}


def test_a_domain_in_pieces_survives(tmp_path) -> None:
    pieces = {"start_s": np.array([0.0, 20.0]), "stop_s": np.array([15.0, 40.0])}
    written = stored(a_recording(source="brainset", intervals={"domain": pieces}), tmp_path / "s")
    write_brainset(written, tmp_path / "a.h5")
    with torch_brain.data.Data.load(tmp_path / "a.h5") as data:
        assert (data.domain.start.tolist(), data.domain.end.tolist()) == ([0, 20], [15, 40])
    back = loaded(tmp_path / "a.h5").intervals["domain"]
    assert {name: values.tolist() for name, values in back.items()} == {"start_s": [0, 20], "stop_s": [15, 40]}


def test_many_blocks_are_as_one(session, path, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(brainset, "BLOCK_SPIKES", 64)
    write_brainset(session, tmp_path / "blocks.h5")
    with h5py.File(path) as one, h5py.File(tmp_path / "blocks.h5") as many:
        for name in ("timestamps", "unit_index", "timestamp_indices_1s"):
            np.testing.assert_array_equal(one["spikes"][name][:], many["spikes"][name][:])


def test_a_failed_export_leaves_what_was_there(session, tmp_path, monkeypatch) -> None:
    target = tmp_path / "a.h5"
    target.write_bytes(b"older")

    def full(*args) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(brainset, "_write_units", full)
    with pytest.raises(OSError, match="No space"):
        write_brainset(session, target)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.h5", b"older")]


def test_a_file_is_replaced_at_once(session, tmp_path) -> None:
    target = tmp_path / "a.h5"
    target.write_bytes(b"older")
    with target.open("rb") as reader:
        write_brainset(session, target)
        assert reader.read() == b"older"
    assert h5py.is_hdf5(target)
    assert list(tmp_path.iterdir()) == [target]


def test_times_that_span_years_are_an_error_and_not_a_huge_index(tmp_path) -> None:
    series = {"speed": Series(np.array([0.0, 1e12]), np.zeros(2), "rad")}
    with pytest.raises(UserError, match="times of speed run from"):
        write_brainset(stored(a_recording(series=series), tmp_path / "s"), tmp_path / "a.h5")


def test_samples_come_back_within_half_a_microsecond(tmp_path) -> None:
    """A clock that counts samples is not one of those for seconds, so another tick is the nearest."""
    samples = np.sort(np.random.default_rng(1).choice(40 * 30_000, 500))
    before = stored(a_recording(spikes=Spikes(samples, np.arange(500) % 4, 30_000.0)), tmp_path / "a")
    write_brainset(before, tmp_path / "a.h5")
    back = loaded(tmp_path / "a.h5")
    np.testing.assert_array_equal(back.spikes.time, before.spikes()[0])
    after = stored(back, tmp_path / "b")
    difference_s = np.abs(after.spikes()[0] - before.spikes()[0])
    assert 0 < difference_s.max() <= 0.5e-6 + 1e-12
    np.testing.assert_array_equal(np.rint(after.spikes()[0] * 30_000), samples)


SECONDS = st.floats(0, 5000, width=32).map(float)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    times=st.lists(SECONDS, min_size=1, max_size=60).map(sorted),
    spans=st.lists(st.tuples(SECONDS, SECONDS), max_size=8),
    text=st.lists(TEXT, min_size=8, max_size=8),
    value=arrays(np.float64, st.tuples(st.integers(0, 9), st.integers(1, 3)), elements=st.floats(allow_nan=True)),
)
def test_any_recording_comes_back(tmp_path_factory, times, spans, text, value) -> None:
    folder = tmp_path_factory.mktemp("any")
    start_s, stop_s = np.array(spans).reshape(-1, 2).T
    recording = a_recording(
        spikes=Spikes(np.array(times), np.arange(len(times)) % 4),
        intervals={"spans": {"start_s": start_s, "stop_s": stop_s, "name": np.array(text, object)[: len(spans)]}},
        series={"signal": Series(np.arange(len(value)) * 1.0, value, "V")},
        stop_s=max(times),
    )
    session = stored(recording, folder / "s")
    write_brainset(session, folder / "a.h5")

    back = loaded(folder / "a.h5")
    np.testing.assert_array_equal(back.spikes.time, session.spikes()[0])
    np.testing.assert_array_equal(back.spikes.unit, session.spikes()[1])
    assert back.stop_s == session.t_stop_s
    order = np.lexsort((stop_s, start_s))
    for name, values in session.intervals()["spans"].items():
        same(values[order], back.intervals["spans"][name])
    same(session.series()["signal"][0], back.series["signal"].time_s)
    same(session.series()["signal"][1], back.series["signal"].value)
    for reader, lazy in itertools.product(READERS, [True, False]):
        with reader.Data.load(folder / "a.h5", lazy=lazy) as data:
            piece = data.slice(1.0, 3000.0)
            np.testing.assert_array_equal(piece.spikes.timestamps, session.spikes(1.0, 3000.0)[0] - 1.0)


@pytest.mark.realdata
@pytest.mark.parametrize("reader", READERS)
def test_a_real_recording_is_the_same_to_the_readers(realdata, tmp_path, reader) -> None:
    source = PhySource(SourceOptions(sample_rate_hz=30_000.0))
    (ref,) = source.iter_sessions([realdata / "phy" / "neuropixels_trial"])
    session = stored(source.load(ref), tmp_path / "s")
    write_brainset(session, tmp_path / "a.h5")
    with reader.Data.load(tmp_path / "a.h5") as data:
        assert len(data.units.id) == 140
        for start_s in np.arange(session.t_start_s, session.t_stop_s, session.duration_s / 7):
            piece = data.slice(start_s, start_s + 2.5)
            times_s, unit = session.spikes(start_s, start_s + 2.5)
            np.testing.assert_array_equal(piece.spikes.timestamps, times_s - start_s)
            np.testing.assert_array_equal(piece.spikes.unit_index, unit)
