"""The NWB source on a file written by PyNWB and on real ones."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO

from nhdata.recording import Recording
from nhdata.sources import SourceError, SourceOptions
from nhdata.sources import _spikes as spikes_module
from nhdata.sources.nwb.file import read_date
from nhdata.sources.nwb.source import NwbSource

SOURCE = NwbSource(SourceOptions())


def load_one(path: Path) -> Recording:
    (ref,) = SOURCE.iter_sessions([path])
    return SOURCE.load(ref)


def trains(path: Path) -> list[np.ndarray]:
    with NWBHDF5IO(path, "r") as io:
        units = io.read().units
        return [units["spike_times"][i][:] for i in range(len(units))]


@pytest.mark.parametrize("block", [1 << 22, 7])
def test_good_units_and_their_spikes(nwb_file: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(spikes_module.blocks, "__defaults__", (block,))
    recording = load_one(nwb_file)
    assert recording.units["cluster_id"].tolist() == [100, 102, 104]
    assert recording.units["quality"].tolist() == ["good", "Good", "good"]
    assert recording.provenance.dropped == {"rated 'mua'": 1, "rated 'noise'": 1}
    expected = trains(nwb_file)
    for row, index in enumerate([0, 2, 4]):
        np.testing.assert_array_equal(recording.spikes.time[recording.spikes.unit == row], expected[index])


def test_places_and_metrics(nwb_file: Path) -> None:
    units = load_one(nwb_file).units
    assert units["probe"].tolist() == ["probeA", "probeB", "probeA"]
    assert units["region"].tolist() == ["VISp", "CA3", "unknown"]
    assert units["x_um"].tolist() == [0, 3, 1]
    assert units["y_um"].tolist() == [0, 30, 10]
    assert units["snr"].tolist() == [1, 3, 5]
    assert units["firing_rate_hz"].tolist() == [0, 4, 8]
    assert not {"shape", "electrodes", "spike_times_index", "electrode_group"} & units.keys()


def test_identity(nwb_file: Path) -> None:
    recording = load_one(nwb_file)
    assert recording.session_id.startswith("Mouse-1-")
    assert recording.provenance.original_ids == {"identifier": "Mouse 1/é"}
    assert (recording.subject, recording.lab, recording.date) == ("M1", "A lab", "2022-03-04")
    (file,) = recording.provenance.files
    assert (file.name, file.size) == ("session.nwb", nwb_file.stat().st_size)


def test_intervals(nwb_file: Path) -> None:
    recording = load_one(nwb_file)
    trials = recording.intervals["trials"]
    assert list(trials) == ["start_s", "stop_s", "side"]
    assert trials["start_s"].tolist() == [0, 5]
    assert trials["side"].tolist() == ["left", "left"]
    assert recording.stop_s == 80.0


def test_series(nwb_file: Path) -> None:
    series = load_one(nwb_file).series
    assert list(series) == ["xy", "speed", "running_xy"]
    assert (series["xy"].unit, series["xy"].value.shape) == ("cm", (5, 2))
    assert series["xy"].time_s.tolist() == [0, 0.5, 1, 1.5, 2]
    np.testing.assert_allclose(series["speed"].time_s, [4.0, 4.1, 4.2])
    assert series["speed"].value.tolist() == [0.5, 1.0, 1.5]


def observe(path: Path, *spans: tuple[float, float]) -> None:
    with h5py.File(path, "a") as file:
        file["units/obs_intervals"] = np.array(spans)
        file["units/obs_intervals_index"] = np.full(5, len(spans))


@pytest.mark.parametrize(
    ("spans", "gaps"),
    [
        ([(0, 20), (20, 100)], None),
        ([(0, 20), (30, 100)], [(20, 30)]),
        ([(30, 45), (5, 20), (5, 10), (44, 60)], [(0, 5), (20, 30), (60, 80)]),
        ([(np.nan, 20), (7, 3)], None),
    ],
)
def test_times_that_nobody_observed_are_invalid(
    nwb_file: Path, spans: list[tuple[float, float]], gaps: list[tuple[float, float]] | None
) -> None:
    observe(nwb_file, *spans)
    found = load_one(nwb_file).intervals.get("invalid_times")
    assert gaps == (None if found is None else list(zip(found["start_s"], found["stop_s"], strict=True)))


def test_a_file_that_rates_nothing_keeps_every_unit(nwb_file: Path) -> None:
    with h5py.File(nwb_file, "a") as file:
        del file["units/quality"], file["units/electrodes"], file["units/electrode_group"]
    recording = load_one(nwb_file)
    assert recording.units["quality"].tolist() == ["unrated"] * 5
    assert recording.units["probe"].tolist() == recording.units["region"].tolist() == ["unknown"] * 5


@pytest.mark.parametrize(
    ("column", "words", "n_good"),
    [
        ("quality", ["ok", "ok", "bad", "bad", "bad"], 0),
        ("quality", ["", "", "", "", ""], 5),
        ("KSLabel", ["good", "mua", "SUA", "mua", "single unit"], 3),
        ("group", ["shank1", "shank1", "shank2", "shank2", "shank2"], 5),
    ],
)
def test_which_columns_are_ratings(nwb_file: Path, column: str, words: list[str], n_good: int) -> None:
    with h5py.File(nwb_file, "a") as file:
        del file["units/quality"]
        file["units"].create_dataset(column, data=words, dtype=h5py.string_dtype())
    assert load_one(nwb_file).n_units == n_good


def spoil_spikes(path: Path, index: int, value: float) -> None:
    with h5py.File(path, "a") as file:
        file["units/spike_times"][index] = value


def delete(path: Path, name: str) -> None:
    with h5py.File(path, "a") as file:
        del file[name]


def spoil_index(path: Path, row: int, value: int) -> None:
    with h5py.File(path, "a") as file:
        index = file["units/spike_times_index"][:].astype(np.int64)
        index[row] = value
        attrs = dict(file["units/spike_times_index"].attrs)
        del file["units/spike_times_index"]
        file["units/spike_times_index"] = index
        file["units/spike_times_index"].attrs.update(attrs)


SPOIL = {
    "not hdf5": (lambda path: path.write_text("hello"), "not a whole NWB"),
    "empty file": (lambda path: path.write_bytes(b""), "not a whole NWB"),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "not a whole NWB",
    ),
    "no units": (lambda path: delete(path, "units"), "has no units"),
    "no spikes": (lambda path: delete(path, "units/spike_times"), "has no units/spike_times"),
    "no index": (lambda path: delete(path, "units/spike_times_index"), "spike_times_index"),
    "no identifier": (lambda path: delete(path, "identifier"), "has no identifier"),
    "nan": (lambda path: spoil_spikes(path, 50, np.nan), "spike 50 is at nan"),
    "negative": (lambda path: spoil_spikes(path, 40, -2.0), "spike 40 is at -2.0"),
    "unsorted": (lambda path: spoil_spikes(path, 3, 49.99), "spike 4 is at"),
    "index past the end": (lambda path: spoil_index(path, 4, 10_000), "passes the end"),
    "index decreases": (lambda path: spoil_index(path, 1, 3), "decreases"),
    "index nowhere": (lambda path: spoil_index(path, slice(None), 0), "empty recording"),
    "short stops": (lambda path: delete_last_stop(path), "stop_time"),
}


def delete_last_stop(path: Path) -> None:
    with h5py.File(path, "a") as file:
        stops = file["intervals/trials/stop_time"][:-1]
        del file["intervals/trials/stop_time"]
        file["intervals/trials/stop_time"] = stops


@pytest.mark.parametrize("what", SPOIL)
def test_bad_input_is_named_with_a_remedy(nwb_file: Path, what: str) -> None:
    spoil, problem = SPOIL[what]
    spoil(nwb_file)
    with pytest.raises(SourceError) as caught:
        load_one(nwb_file)
    assert str(nwb_file) in str(caught.value)
    assert problem in caught.value.problem
    assert any(word in caught.value.remedy for word in ("again", "anew", "name a file"))


def test_a_broken_file_among_others_is_still_named(nwb_file: Path) -> None:
    (nwb_file.parent / "broken.nwb").write_text("no")
    refs = list(SOURCE.iter_sessions([nwb_file.parent, nwb_file]))
    assert [ref.path.name for ref in refs] == ["broken.nwb", "session.nwb"]
    assert refs[0].session_id is None


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no \*\.nwb file .*: name an NWB file"):
        list(SOURCE.iter_sessions([tmp_path]))


@pytest.mark.realdata
@pytest.mark.parametrize(("folder", "n_files"), [("hc3", 1), ("human", 1), ("aplysia", 21), ("retina", 4)])
def test_real_files_have_the_units_they_say(realdata: Path, folder: str, n_files: int) -> None:
    refs = list(SOURCE.iter_sessions([realdata / "nwb" / folder]))
    assert len(refs) == n_files
    for ref in refs:
        recording = SOURCE.load(ref)
        with h5py.File(ref.path) as file:
            times = file["units/spike_times"][:]
            counts = np.diff(file["units/spike_times_index"][:].astype(int), prepend=0)
        assert recording.session_id == ref.session_id
        np.testing.assert_array_equal(np.bincount(recording.spikes.unit), counts)
        np.testing.assert_array_equal(recording.spikes.time, times)
        assert recording.stop_s >= times.max()


@pytest.mark.realdata
def test_what_real_files_say_besides(realdata: Path) -> None:
    human = load_one(realdata / "nwb" / "human")
    assert human.n_units == 35
    assert set(human.units["quality"]) == {"unrated"}
    assert {name: len(table["start_s"]) for name, table in human.intervals.items()} == {
        "encoding_table": 90,
        "recognition_table": 180,
        "timediscrimination_table": 180,
    }
    hc3 = load_one(realdata / "nwb" / "hc3")
    assert hc3.n_units == 61
    assert sorted(set(hc3.units["probe"])) == [f"shank{i}" for i in range(1, 9)]
    assert hc3.series["position"].value.shape == (30137, 2)


def change_units(path: Path, **columns) -> None:
    with h5py.File(path, "a") as file:
        for name, values in columns.items():
            if name in file["units"]:
                del file["units"][name]
            file["units"][name] = values


def test_ids_that_repeat_or_are_words_or_beyond_int64_are_replaced_by_the_row(nwb_file) -> None:
    whole = load_one(nwb_file)
    n = h5py.File(nwb_file)["units/id"].shape[0]
    large = 2**63 + 5 + np.arange(n, dtype=np.uint64)
    for ids in (np.full(n, 7), np.array([f"u{k}" for k in range(n)], dtype=h5py.string_dtype()), large):
        change_units(nwb_file, id=ids)
        recording = load_one(nwb_file)
        np.testing.assert_array_equal(recording.spikes.time, whole.spikes.time)
        assert set(recording.units["cluster_id"]) <= set(range(n))
        assert {str(i) for i in recording.units["source_id"]} <= {"7", *(f"u{k}" for k in range(n)), *map(str, large)}
        assert "cluster_id is the row" in recording.provenance.notes[0]


def test_a_column_good_decides_and_the_filter_can_be_left_off(nwb_file) -> None:
    n = h5py.File(nwb_file)["units/id"].shape[0]
    good = np.arange(n) % 2 == 0
    change_units(nwb_file, good=good)
    recording = load_one(nwb_file)
    assert (recording.n_units, recording.provenance.rule) == (good.sum(), "column good")
    source = NwbSource(SourceOptions(no_filter=True))
    every = source.load(next(source.iter_sessions([nwb_file])))
    assert every.n_units == n
    np.testing.assert_array_equal(every.units["good"], good)
    with h5py.File(nwb_file) as file:
        assert len(every.spikes.time) == file["units/spike_times"].shape[0]


def test_what_is_left_out_is_noted_and_a_wrong_spike_names_its_unit(nwb_file) -> None:
    n = h5py.File(nwb_file)["units/id"].shape[0]
    change_units(nwb_file, story=np.array(["x" * 300] * n, dtype=h5py.string_dtype()))
    with h5py.File(nwb_file, "a") as file:
        file["intervals/trials/stop_time"][0] = np.nan
        n_trials = len(file["intervals/trials/stop_time"])
        first, second = file["units/spike_times_index"][:2]
    notes = load_one(nwb_file).provenance.notes
    assert notes[0].startswith("column story left out")
    assert notes[1] == "columns left out, not one value a row: shape"
    assert notes[2] == f"2 of {n_trials} rows of trials left out: no start or no stop"
    with h5py.File(nwb_file, "a") as file:
        file["units/spike_times"][second - 1] = np.nan
    with pytest.raises(SourceError, match=rf"spike {second - 1} is at nan, not a number, in row 1 of units"):
        load_one(nwb_file)
    assert second > first


@pytest.mark.parametrize(("text", "n_notes"), [("May 2024", 1), ("2024-05-01T10:00:00-07:00", 0)])
def test_a_start_time_that_is_not_iso_8601_is_noted(tmp_path, text, n_notes):
    with h5py.File(tmp_path / "date.h5", "w") as file:
        file["session_start_time"] = text
        date, notes = read_date(file)
    assert (date is None) == bool(n_notes)
    assert len(notes) == n_notes


def test_the_note_of_a_bad_start_time_reaches_the_recording(nwb_file):
    with h5py.File(nwb_file, "a") as file:
        del file["session_start_time"]
        file["session_start_time"] = "May 2024"
    recording = load_one(nwb_file)
    assert recording.date is None
    assert "date not known: session_start_time 'May 2024' is not ISO 8601" in recording.provenance.notes


@pytest.mark.parametrize(("dtype", "n_notes"), [("float32", 1), ("float64", 0)])
def test_coarse_spike_times_are_noted(nwb_file: Path, dtype: str, n_notes: int) -> None:
    with h5py.File(nwb_file, "a") as file:
        times = file["units/spike_times"][:]
        del file["units/spike_times"]
        file["units/spike_times"] = times.astype(dtype)
    step_ms = 1e3 * np.spacing(times.max().astype(np.float32))
    notes = [note for note in load_one(nwb_file).provenance.notes if note.startswith("spike times are")]
    assert notes == [f"spike times are float32: steps of {step_ms:.3g} ms at the end"] * n_notes
