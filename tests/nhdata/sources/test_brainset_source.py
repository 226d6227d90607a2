"""The brainset source on files that torch_brain wrote, and on such files spoilt."""

import shutil
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch_brain.data as tb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nhdata.recording import Recording
from nhdata.sources import SourceError, SourceOptions
from nhdata.sources.brainset.source import BrainsetSource
from nhdata.store.ticks import check_recording

RNG = np.random.default_rng(0)
TIMES = np.sort(RNG.uniform(0, 60, 900))
UNITS = RNG.integers(0, 5, 900)
MOVES_S = np.cumsum(RNG.uniform(0.01, 0.02, 3000)) + 2


def write_file(path: Path, start_s: float | None = None, stop_s: float | None = None, **units) -> Path:
    """A recording of 60 s with five units; with `start_s` and `stop_s`, a piece cut from it."""
    starts = np.arange(0.0, 50.0, 5.0)
    whole = tb.Interval(0.0, 60.0)
    data = tb.Data(
        brainset=tb.BrainsetDescription("lab_2020", "v1", "1.0.0", "https://example.org", "a test"),
        subject=tb.SubjectDescription("M1", species="MACACA_MULATTA"),
        session=tb.SessionDescription("m1/day 1", recording_date=np.datetime64("2020-02-03T00:00:00").item()),
        device=tb.DeviceDescription("array_1"),
        spikes=tb.IrregularTimeSeries(TIMES, unit_index=UNITS, domain="auto"),
        units=tb.ArrayDict(
            **{
                "id": [f"elec{k}/unit_{k}" for k in range(5)],
                "unit_number": np.arange(5) + 10,
                "waveform": np.zeros((5, 48)),
                **units,
            }
        ),
        trials=tb.Interval(
            start=starts,
            end=starts + 4,
            go_cue_time=np.where(starts == 10, np.nan, starts + 1),
            result=["R", "F"] * 5,
            is_valid=starts > 20,
            targets=np.zeros((10, 2)),
            timekeys=["start", "end", "go_cue_time"],
        ),
        movement_phases=tb.Data(hold=tb.Interval(starts, starts + 1), domain=tb.Interval(starts, starts + 4)),
        cursor=tb.IrregularTimeSeries(MOVES_S, pos=np.column_stack([MOVES_S, -MOVES_S]), n=np.arange(3000)),
        wheel=tb.IrregularTimeSeries(MOVES_S, value=np.sin(MOVES_S).astype(np.float32)),
        licks=tb.IrregularTimeSeries(np.array([3.0, 4.5, 40.0])),
        eye=tb.RegularTimeSeries(x=np.arange(600.0), lfp=np.zeros((600, 9)), sampling_rate=20.0, domain_start=25.0),
        gappy=tb.RegularTimeSeries.from_gappy_timeseries(
            [30.0, 30.1, 30.4], value=np.array([1, 2, 3]), sampling_rate=10.0
        ),
        train_domain=tb.Interval([0.0, 30.0], [20.0, 60.0]),
        test_domain=tb.Interval(20.0, 30.0),
        domain=whole,
    )
    path.parent.mkdir(exist_ok=True, parents=True)
    (data if start_s is None else data.slice(start_s, stop_s)).save(path)
    return path


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    return write_file(tmp_path_factory.mktemp("brainset") / "a.h5")


@pytest.fixture
def file(pristine, tmp_path) -> Path:
    return Path(shutil.copy(pristine, tmp_path / "a.h5"))


def load_one(path: Path) -> Recording:
    source = BrainsetSource(SourceOptions())
    (ref,) = source.iter_sessions([path])
    recording = source.load(ref)
    assert recording.session_id == ref.session_id
    check_recording(recording)
    return recording


def test_spikes_and_units(pristine) -> None:
    recording = load_one(pristine)
    np.testing.assert_array_equal(recording.spikes.time, TIMES)
    np.testing.assert_array_equal(recording.spikes.unit, UNITS)
    assert recording.spikes.sample_rate_hz is None
    assert recording.stop_s == 60
    units = {name: values.tolist() for name, values in recording.units.items()}
    assert units == {
        "cluster_id": [0, 1, 2, 3, 4],
        "probe": ["unknown"] * 5,
        "region": ["unknown"] * 5,
        "quality": ["unrated"] * 5,
        "id": [f"elec{k}/unit_{k}" for k in range(5)],
        "unit_number": [10, 11, 12, 13, 14],
    }


def test_who_and_when(pristine) -> None:
    recording = load_one(pristine)
    assert recording.session_id.startswith("lab_2020_m1-day-1-")
    assert (recording.subject, recording.lab, recording.date) == ("M1", None, "2020-02-03")
    provenance = recording.provenance
    assert provenance.original_ids == {"brainset": "lab_2020", "session": "m1/day 1", "device": "array_1"}
    assert provenance.dropped == {}
    assert [(f.name, f.size) for f in provenance.files] == [("a.h5", pristine.stat().st_size)]


def test_a_session_id_with_its_brainset_is_not_prefixed_again(file) -> None:
    for session_id, expected in (("lab_2020_x", "lab_2020_x"), ("x", "lab_2020_x"), ("lab_2020", "lab_2020_lab_2020")):
        with h5py.File(file, "r+") as h5:
            h5["session"].attrs["id"] = session_id
        assert load_one(file).session_id == expected
    with h5py.File(file, "r+") as h5:
        del h5["session"], h5["brainset"]
    assert load_one(file).session_id == "a"


def test_between_the_pieces_of_a_domain_nobody_recorded(file) -> None:
    assert "invalid_times" not in load_one(file).intervals
    with h5py.File(file, "r+") as h5:
        for name, values in (("start", [0.0, 30.0]), ("end", [20.0, 55.0])):
            del h5[f"domain/{name}"]
            h5[f"domain/{name}"] = values
    recording = load_one(file)
    invalid = recording.intervals["invalid_times"]
    assert invalid["start_s"].tolist() == [20, 55]
    assert invalid["stop_s"].tolist() == [30, recording.stop_s]


def test_intervals(pristine) -> None:
    intervals = load_one(pristine).intervals
    starts = np.arange(0.0, 50.0, 5.0)
    assert set(intervals) == {"trials", "movement_phases_hold", "licks", "train_domain", "test_domain"}
    trials = intervals["trials"]
    assert set(trials) == {"start_s", "stop_s", "go_cue_time", "result", "is_valid"}
    np.testing.assert_array_equal(trials["start_s"], starts)
    np.testing.assert_array_equal(trials["stop_s"], starts + 4)
    np.testing.assert_array_equal(trials["go_cue_time"], np.where(starts == 10, np.nan, starts + 1))
    assert trials["result"].tolist() == ["R", "F"] * 5
    assert trials["is_valid"].tolist() == (starts > 20).tolist()
    np.testing.assert_array_equal(intervals["movement_phases_hold"]["stop_s"], starts + 1)
    assert intervals["licks"]["start_s"].tolist() == intervals["licks"]["stop_s"].tolist() == [3, 4.5, 40]
    assert intervals["train_domain"]["start_s"].tolist() == [0, 30]
    assert intervals["train_domain"]["stop_s"].tolist() == [20, 60]


def test_series(pristine) -> None:
    series = load_one(pristine).series
    assert set(series) == {"cursor_pos", "cursor_n", "wheel", "eye_x", "gappy"}
    np.testing.assert_array_equal(series["cursor_pos"].time_s, MOVES_S)
    np.testing.assert_array_equal(series["cursor_pos"].value, np.column_stack([MOVES_S, -MOVES_S]))
    assert series["cursor_n"].value.dtype == np.float64
    assert series["wheel"].value.dtype == np.float32
    assert series["wheel"].unit == "unknown"
    np.testing.assert_array_equal(series["eye_x"].time_s, 25 + np.arange(600) / 20)
    np.testing.assert_array_equal(series["eye_x"].value, np.arange(600))
    np.testing.assert_allclose(series["gappy"].time_s, [30, 30.1, 30.4], atol=1e-12)
    assert series["gappy"].value.tolist() == [1, 2, 3]


def test_a_piece_keeps_the_clock_of_the_recording_it_was_cut_from(tmp_path) -> None:
    piece = load_one(write_file(tmp_path / "piece.h5", 10.0, 40.0))
    inside = (TIMES >= 10) & (TIMES < 40)
    np.testing.assert_allclose(piece.spikes.time, TIMES[inside], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(piece.spikes.unit, UNITS[inside])
    np.testing.assert_allclose(piece.intervals["trials"]["start_s"], np.arange(10, 40, 5))
    np.testing.assert_allclose(piece.intervals["trials"]["go_cue_time"], [np.nan, 16, 21, 26, 31, 36])
    np.testing.assert_allclose(piece.intervals["licks"]["start_s"], [], atol=0)
    moves = MOVES_S[(MOVES_S >= 10) & (MOVES_S < 40)]
    np.testing.assert_allclose(piece.series["cursor_pos"].time_s, moves, rtol=0, atol=1e-12)
    np.testing.assert_allclose(piece.series["eye_x"].time_s[[0, -1]], [25, 39.95])
    assert piece.stop_s == 40


@pytest.mark.parametrize(
    ("columns", "good", "quality", "rule"),
    [
        ({"quality": ["good", "MUA", "Good", "noise", "sua"]}, [0, 2, 4], ["good", "Good", "sua"], "quality is good"),
        ({"ks_label": ["good", "mua", "mua", "mua", "good"]}, [0, 4], ["good", "good"], "ks_label is good"),
        ({"good": [True, False, False, True, False]}, [0, 3], ["good", "good"], "column good"),
        ({"good": [True] * 2 + [False] * 3, "quality": list("abcde")}, [0, 1], ["a", "b"], "column good"),
        ({"type": [1, 2, 3, 4, 5]}, [0, 1, 2, 3, 4], ["unrated"] * 5, "every unit"),
    ],
)
def test_good_units(tmp_path, columns, good, quality, rule) -> None:
    recording = load_one(write_file(tmp_path / "a.h5", cluster_id=np.arange(5) * 7, **columns))
    assert recording.units["cluster_id"].tolist() == [k * 7 for k in good]
    assert recording.units["quality"].tolist() == quality
    assert recording.provenance.rule.startswith(rule)
    assert sum(recording.provenance.dropped.values()) == 5 - len(good)
    for row, unit in enumerate(good):
        np.testing.assert_array_equal(recording.spikes.time[recording.spikes.unit == row], TIMES[unit == UNITS])


def test_cluster_ids_are_the_rows_unless_they_are_unique_on_a_probe(tmp_path) -> None:
    ids, probes = [1, 2, 1, 2, 3], ["p0", "p0", "p1", "p1", "p1"]
    two = load_one(write_file(tmp_path / "two.h5", cluster_id=ids, probe=probes)).units
    assert (two["cluster_id"].tolist(), two["probe"].tolist()) == (ids, probes)
    large = np.array(ids, np.uint64) + np.arange(5, dtype=np.uint64) * 10 + 2**63
    beyond = load_one(write_file(tmp_path / "large.h5", cluster_id=large, probe=probes)).units
    assert (beyond["cluster_id"].tolist(), beyond["cluster_id_2"].tolist()) == ([0, 1, 2, 3, 4], large.tolist())
    one = load_one(write_file(tmp_path / "one.h5", cluster_id=ids, brain_area=["M1", "M1", "", "none", "PMd"])).units
    assert one["cluster_id"].tolist() == [0, 1, 2, 3, 4]
    assert one["region"].tolist() == ["M1", "M1", "unknown", "unknown", "PMd"]


def test_folders_are_searched_and_a_broken_file_is_still_named(tmp_path, pristine) -> None:
    (tmp_path / "deep").mkdir()
    shutil.copy(pristine, tmp_path / "deep" / "b.h5")
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    source = BrainsetSource(SourceOptions())
    refs = list(source.iter_sessions([tmp_path, tmp_path / "deep" / "b.h5"]))
    assert [(ref.path.name, ref.session_id is None) for ref in refs] == [("a.h5", True), ("b.h5", False)]
    with pytest.raises(SourceError, match=r"a\.h5: not a whole HDF5 file"):
        source.load(refs[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"no \*\.h5 file"):
        list(source.iter_sessions([tmp_path / "empty"]))


def replace(h5: h5py.File, name: str, values) -> None:
    attrs = dict(h5[name].attrs)
    del h5[name]
    h5[name] = values
    h5[name].attrs.update(attrs)


def claim_much(h5: h5py.File) -> None:
    for name in ("timestamps", "unit_index"):
        dtype = h5["spikes"][name].dtype
        del h5["spikes"][name]
        h5["spikes"].create_dataset(name, (1 << 45,), dtype, chunks=(1 << 16,))


def at(i: int, value: float) -> np.ndarray:
    times = TIMES.copy()
    times[i] = value
    return times


SPOIL = {
    "not ours": (lambda h5: h5.attrs.__delitem__("object"), "not a brainset"),
    "no spikes": (lambda h5: h5.__delitem__("spikes"), "has no spikes/timestamps"),
    "no unit_index": (lambda h5: h5.__delitem__("spikes/unit_index"), "has no spikes/unit_index"),
    "no units": (lambda h5: h5.__delitem__("units"), "has no units"),
    "empty units": (lambda h5: [h5["units"].__delitem__(name) for name in list(h5["units"])], "has no units"),
    "too large a unit": (lambda h5: replace(h5, "spikes/unit_index", np.full(900, 5)), "says unit 5 of spike 0"),
    "negative unit": (lambda h5: replace(h5, "spikes/unit_index", np.full(900, -1)), "says unit -1 of spike 0"),
    "units of text": (lambda h5: replace(h5, "spikes/unit_index", np.full(900, b"a")), "not one list of numbers"),
    "unsorted": (lambda h5: replace(h5, "spikes/timestamps", at(500, 0.0)), "spike 500 is at 0.0, earlier"),
    "NaN": (lambda h5: replace(h5, "spikes/timestamps", at(7, np.nan)), "spike 7 is at nan"),
    "negative": (lambda h5: replace(h5, "spikes/timestamps", at(0, -0.5)), "spike 0 is at -0.5"),
    "lengths": (lambda h5: replace(h5, "spikes/timestamps", TIMES[:-1]), "899 spike times but 900"),
    "empty": (lambda h5: replace(h5, "spikes/timestamps", TIMES[:0]), "empty recording"),
    "absurd size": (claim_much, "more than the file holds"),
    "uneven units": (lambda h5: replace(h5, "units/id", np.array([b"a"])), "columns of 1 and 5 rows"),
    "uneven trials": (lambda h5: replace(h5, "trials/end", np.zeros(3)), "columns of 3 and 10 rows"),
    "trials of text": (lambda h5: replace(h5, "trials/end", np.full(10, b"a")), "no numbers for the start"),
    "no times": (lambda h5: h5.__delitem__("cursor/timestamps"), "/cursor has no timestamps"),
    "no rate": (lambda h5: h5["eye"].attrs.__delitem__("sampling_rate"), "/eye has no sampling_rate"),
    "no domain": (lambda h5: h5.__delitem__("eye/domain"), "/eye has no sampling_rate or no domain"),
    "offset": (lambda h5: h5.attrs.__setitem__("absolute_start", np.nan), "absolute_start is nan"),
    "early": (lambda h5: h5.attrs.__setitem__("absolute_start", -1.0), "absolute_start is -1.0"),
}


@pytest.mark.parametrize("what", SPOIL)
def test_bad_input_is_one_line_with_a_remedy(file, what) -> None:
    spoil, problem = SPOIL[what]
    with h5py.File(file, "r+") as h5:
        spoil(h5)
    with pytest.raises(SourceError) as caught:
        load_one(file)
    assert str(file) in str(caught.value)
    assert problem in caught.value.problem
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("part", [0, 100, 0.5, -1])
def test_a_truncated_file_is_refused(file, part) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(part * len(data)) if isinstance(part, float) else part])
    with pytest.raises(SourceError, match="not a whole HDF5 file"):
        load_one(file)


def test_links_to_other_files_are_not_followed(file, tmp_path) -> None:
    other = Path(shutil.copy(file, tmp_path / "other.h5"))
    (tmp_path / "secret").write_bytes(np.arange(10.0).tobytes())
    with h5py.File(file, "r+") as h5:
        h5["stolen"] = h5py.ExternalLink(other.name, "/cursor")
        h5["loop"] = h5["/"]
        h5["trials"].create_dataset("secret", (10,), "f8", external=[(tmp_path / "secret", 0, 80)])
        layout = h5py.VirtualLayout((10,), "f8")
        layout[:] = h5py.VirtualSource(str(other), "trials/start", (10,))
        h5["trials"].create_virtual_dataset("virtual", layout)
    recording = load_one(file)
    assert not [name for name in recording.series if "stolen" in name]
    assert not {"secret", "virtual"} & set(recording.intervals["trials"])
    with h5py.File(file, "r+") as h5:
        del h5["spikes"]
        h5["spikes"] = h5py.ExternalLink(other.name, "/spikes")
    with pytest.raises(SourceError, match="has no spikes"):
        load_one(file)


ODD = st.one_of(
    st.sampled_from([np.float64(3), b"text", "text", np.zeros((2, 3, 4)), h5py.Empty("f8"), np.array([], "f4")]),
    st.sampled_from([np.zeros(5, "c16"), np.zeros(5, [("a", "i4")]), np.arange(10, dtype=">i2"), np.full(10, np.inf)]),
    st.sampled_from([np.full(900, np.nan), np.array([b"\xff\xfe"] * 5), np.zeros((900, 2)), np.full(5, True)]),
    st.sampled_from([np.full(900, 1 << 63, "u8"), np.arange(900, dtype=np.longdouble), np.array([["a"]], "S1")]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_part_may_be_missing_or_something_else(pristine, tmp_path_factory, data) -> None:
    path = tmp_path_factory.getbasetemp() / "odd.h5"
    shutil.copy(pristine, path)
    with h5py.File(path, "r+") as h5:
        names: list[str] = []
        h5.visit(names.append)
        name = data.draw(st.sampled_from(sorted(names)))
        keys = sorted(h5[name].attrs)
        value = data.draw(st.none() | ODD)
        if keys and data.draw(st.booleans()):
            key = data.draw(st.sampled_from(keys))
            del h5[name].attrs[key]
            if value is not None:
                h5[name].attrs[key] = value
        else:
            del h5[name]
            if value is not None:
                h5[name] = value
    with suppress(SourceError):
        load_one(path)


def test_without_the_filter_every_unit_is_kept_and_marked(tmp_path) -> None:
    good = np.array([True, False, True, True, False])
    path = write_file(tmp_path / "rated.h5", good=good)
    assert load_one(path).n_units == 3
    source = BrainsetSource(SourceOptions(no_filter=True))
    every = source.load(next(source.iter_sessions([path])))
    assert every.units["good"].tolist() == good.tolist()
    assert len(every.spikes.time) == len(TIMES)
    assert every.provenance.dropped == {}


def test_columns_that_differ_in_capitals_or_have_no_latin_letter_are_kept(file) -> None:
    with h5py.File(file, "a") as opened:
        n = len(opened["units/id"])
        for name, part in (("Rate", 0.0), ("rate", 0.5), ("率", 0.25)):
            opened[f"units/{name}"] = np.arange(n) + part
    recording = load_one(file)
    added = [values for name, values in recording.units.items() if name.lower().startswith(("rate", "unnamed"))]
    assert sorted(float(values[0]) % 1 for values in added) == [0.0, 0.25, 0.5]
    assert sum("is stored as" in note for note in recording.provenance.notes) >= 2


@pytest.mark.parametrize(("text", "n_notes"), [("3 February", 1), ("2020-13-45", 1), ("", 0), ("2020-02-03", 0)])
def test_a_date_that_is_not_iso_8601_is_noted(file, text, n_notes):
    with h5py.File(file, "a") as open_file:
        open_file["session"].attrs["recording_date"] = text
    recording = load_one(file)
    assert recording.date == ("2020-02-03" if text == "2020-02-03" else None)
    assert sum("date not known: recording_date" in note for note in recording.provenance.notes) == n_notes
