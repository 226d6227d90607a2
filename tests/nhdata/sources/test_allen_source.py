"""The Allen source on small files laid out like AllenSDK's, and on a cache written by AllenSDK itself."""

from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nhdata
from nhdata.ingest import ingest
from nhdata.recording import Recording
from nhdata.sources import SourceError, SourceOptions, open_source
from nhdata.sources.allen.units import passes

NAN = float("nan")
CHANNELS = [
    # id, structure in the file, valid, depth; structure, CCF in channels.csv
    (11, "VISp", True, 20, "VISp5", (8000.0, 2000.0, 7000.0)),
    (10, "CA1", True, 40, None, (8100.0, -1000.0, 7100.0)),
    (13, "None", True, 60, None, (-1000.0, -1000.0, -1000.0)),
    (12, "", True, 80, None, (-1000.0, -1000.0, -1000.0)),
    (14, "LGd", False, 100, "LGd", (8200.0, 2200.0, 7200.0)),
    (15, "root", True, 120, None, (8300.0, 2300.0, 7300.0)),
]
UNITS = [
    # id, peak channel, quality, isi_violations, amplitude_cutoff, presence_ratio
    (101, 10, "good", 0.5, 0.1, 0.95),
    (102, 11, "noise", 0.0, 0.0, 1.0),
    (103, 11, "good", 0.51, 0.0, 1.0),
    (104, 11, "good", NAN, 0.0, 1.0),
    (105, 11, "good", 0.0, 0.11, 1.0),
    (106, 11, "good", 0.0, NAN, 1.0),
    (107, 11, "good", 0.0, 0.0, 0.94),
    (108, 13, "good", 0.0, 0.0, 1.0),
    (109, 12, "good", 0.0, 0.0, 1.0),
    (110, 14, "good", 0.0, 0.0, 1.0),
    (111, 99, "good", 0.0, 0.0, 1.0),
    (112, 15, "good", 0.0, 0.0, 1.0),
    (113, 11, "good", 0.0, 0.0, NAN),
    (114, 11, "good", 0.2, 0.01, 0.99),
]
GOOD = [101, 112, 114]
TEXT = h5py.string_dtype()


def trains() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [np.sort(rng.uniform(0, 50, 20 + i)) for i in range(len(UNITS))]


def write_table(file: h5py.File, name: str, columns: dict) -> h5py.Group:
    table = file.create_group(name)
    table.attrs["colnames"] = np.array(list(columns), dtype=TEXT)
    for column, values in columns.items():
        values = list(values)
        table.create_dataset(column, data=values, dtype=TEXT if isinstance(values[0], str) else None)
    return table


def write_session(path: Path, channel_number: str = "local_index") -> None:
    """A session file with the tree of AllenSDK's, by h5py alone."""
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        for name, text in {
            "identifier": "715093703",
            "session_start_time": "2019-01-19T00:54:18-08:00",
            "general/stimulus": "functional_connectivity",
            "general/subject/subject_id": "M1",
            "general/subject/genotype": "wt/wt",
        }.items():
            file.create_dataset(name, data=text, dtype=TEXT)
        file["general/subject"].attrs["specimen_name"] = "Mouse-1"
        ids, structures, valid, depths, *_ = zip(*CHANNELS, strict=True)
        columns = {"id": ids, "location": structures, "group_name": ["probeB"] * 6, "valid_data": valid}
        columns |= {"probe_vertical_position": depths, "probe_horizontal_position": [11] * 6, channel_number: range(6)}
        write_table(file, "general/extracellular_ephys/electrodes", columns)
        names = ("id", "peak_channel_id", "quality", "isi_violations", "amplitude_cutoff", "presence_ratio")
        columns = dict(zip(names, zip(*UNITS, strict=True), strict=True))
        columns |= {"cluster_id": range(14), "snr": np.arange(14.0), "firing_rate": np.full(14, 3.0)}
        units = write_table(file, "units", columns)
        units["spike_times"] = np.concatenate(trains())
        units["spike_times_index"] = np.cumsum([len(train) for train in trains()]).astype(np.uint32)
        units["waveform_mean"] = np.zeros((14 * 82,))
        units["waveform_mean_index"] = np.arange(1, 15) * 82
        spans = {"start_time": [1.0, 2.0, NAN], "stop_time": [2.0, 99.0, 100.0]}
        movie = {"stimulus_name": ["natural_movie_one"] * 3, "frame": [0.0, 899.0, 1.0]}
        write_table(file, "intervals/natural_movie_one_presentations", spans | movie)
        write_table(file, "intervals/spontaneous_presentations", spans)
        invalid = write_table(file, "intervals/invalid_times", {"start_time": [5.0, 7.0], "stop_time": [6.0, 8.0]})
        invalid["tags"] = np.array(["EcephysProbe", "810", "probeB", "all_probes"], dtype=TEXT)
        invalid["tags_index"] = np.array([3, 4], np.uint8)
        light = {"start_time": [20.0], "stop_time": [20.1], "level": [1.5], "condition": ["pulse"]}
        write_table(file, "processing/optotagging/optogenetic_stimulation", light)
        for name, values in (("running_speed", [1.0, NAN, 3.0]), ("running_speed_end_times", [NAN] * 3)):
            series = file.create_group(f"processing/running/{name}")
            series["timestamps"] = np.arange(3) / 60
            series["data"] = np.array(values)
            series["data"].attrs["unit"] = "cm/s"


@pytest.fixture
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A cache folder with one session; the parameter is the writer's name for the channel's number."""
    folder = tmp_path / "cache"
    write_session(folder / "session_715093703" / "session_715093703.nwb", getattr(request, "param", "local_index"))
    ids, *_, structures, ccf = zip(*CHANNELS, strict=True)
    axes = ("anterior_posterior", "dorsal_ventral", "left_right")
    channels = {"id": ids, "ecephys_structure_acronym": structures}
    channels |= {f"{axis}_ccf_coordinate": values for axis, values in zip(axes, zip(*ccf, strict=True), strict=True)}
    pd.DataFrame(channels).to_csv(folder / "channels.csv", index=False)
    sessions = {"id": [1, 715093703], "specimen_id": [7, 699733581], "session_type": ["x", "brain_observatory_1.1"]}
    pd.DataFrame(sessions).to_csv(folder / "sessions.csv", index=False)
    return folder


def session_file(cache: Path) -> Path:
    return cache / "session_715093703" / "session_715093703.nwb"


def load_one(path: Path, **options) -> Recording:
    source = open_source("allen", SourceOptions(**options))
    (ref,) = source.iter_sessions([path])
    return source.load(ref)


@pytest.mark.parametrize("cache", ["local_index", "probe_channel_number"], indirect=True)
def test_the_default_filter_drops_and_counts(cache: Path) -> None:
    recording = load_one(cache)
    assert recording.units["cluster_id"].tolist() == GOOD
    assert recording.provenance.dropped == {
        "peak channel not in the file": 1,
        "peak channel not valid": 1,
        "in no brain structure": 2,
        "quality not 'good'": 1,
        "amplitude_cutoff > 0.1 or NaN": 2,
        "presence_ratio < 0.95 or NaN": 2,
        "isi_violations > 0.5 or NaN": 2,
    }
    assert "good" not in recording.units
    for row, index in enumerate([0, 11, 13]):
        np.testing.assert_array_equal(recording.spikes.time[recording.spikes.unit == row], trains()[index])


def test_no_filter_keeps_every_unit_and_says_which_are_good(cache: Path, tmp_path: Path) -> None:
    recording = load_one(cache, no_filter=True)
    units = recording.units
    assert units["cluster_id"].tolist() == [unit[0] for unit in UNITS]
    assert units["cluster_id"][units["good"]].tolist() == GOOD
    assert recording.provenance.dropped == {}
    assert recording.provenance.rule == "every unit in the file (--no-filter)"
    np.testing.assert_array_equal(recording.spikes.time, np.concatenate(trains()))
    assert (units["probe"][10], units["region"][10], units["region"][7]) == ("unknown", "unknown", "unknown")

    ingest(tmp_path / "data.zarr", "allen", [cache], options=SourceOptions(no_filter=True))
    store = nhdata.open(tmp_path / "data.zarr")
    assert store.sql("select cluster_id from units where good order by 1").to_pydict() == {"cluster_id": GOOD}
    assert store.sql("select count(*) n from units").to_pylist() == [{"n": 14}]


def test_places_come_from_the_caches_channels(cache: Path) -> None:
    units = load_one(cache).units
    assert units["region"].tolist() == ["CA1", "root", "VISp5"]
    assert units["probe"].tolist() == ["probeB"] * 3
    assert units["depth_um"].tolist() == [40, 120, 20]
    assert units["peak_channel"].tolist() == [10, 15, 11]
    assert units["ccf_ap_um"].tolist() == [8100, 8300, 8000]
    np.testing.assert_array_equal(units["ccf_dv_um"], [NAN, 2300, 2000])
    assert units["ccf_lr_um"].tolist() == [7100, 7300, 7000]
    assert units["snr"].tolist() == [0, 11, 13]
    assert units["firing_rate_hz"].tolist() == [3, 3, 3]
    assert units["sorter_cluster_id"].tolist() == [0, 11, 13]
    assert not {"waveform_mean", "spike_times_index"} & units.keys()


def test_identity(cache: Path) -> None:
    recording = load_one(cache)
    assert recording.session_id == "715093703"
    assert (recording.subject, recording.lab, recording.date) == ("699733581", "allen", "2019-01-19")
    assert recording.provenance.original_ids == {
        "ecephys_session_id": "715093703",
        "specimen_id": "699733581",
        "specimen_name": "Mouse-1",
        "subject_id": "M1",
        "session_type": "brain_observatory_1.1",
        "genotype": "wt/wt",
    }
    names = [file.name for file in recording.provenance.files]
    assert names == ["channels.csv", "session_715093703/session_715093703.nwb", "sessions.csv"]


def test_a_single_file_without_tables(cache: Path) -> None:
    alone = session_file(cache).rename(cache.parent / "my copy.nwb")
    recording = load_one(alone)
    assert recording.units["cluster_id"].tolist() == GOOD
    assert recording.units["region"].tolist() == ["CA1", "root", "VISp"]
    assert not {"ccf_ap_um", "ccf_dv_um", "ccf_lr_um"} & recording.units.keys()
    assert recording.subject == "M1"
    assert recording.provenance.original_ids["session_type"] == "functional_connectivity"
    assert [file.name for file in recording.provenance.files] == ["my copy.nwb"]


def test_a_session_that_the_tables_do_not_know(cache: Path) -> None:
    for name in ("channels.csv", "sessions.csv"):
        pd.read_csv(cache / name).iloc[:1].to_csv(cache / name, index=False)
    recording = load_one(cache)
    assert recording.units["region"].tolist() == ["CA1", "root", "VISp5"]
    np.testing.assert_array_equal(recording.units["ccf_ap_um"], [NAN, NAN, 8000])
    assert recording.subject == "M1"


def test_stimuli_and_invalid_times(cache: Path) -> None:
    recording = load_one(cache)
    assert set(recording.intervals) == {
        "natural_movie_one_presentations",
        "spontaneous_presentations",
        "invalid_times",
        "optogenetic_stimulation",
    }
    movie = recording.intervals["natural_movie_one_presentations"]
    assert (movie["start_s"].tolist(), movie["frame"].tolist()) == ([1, 2], [0, 899])
    assert recording.intervals["invalid_times"]["tags"].tolist() == ["EcephysProbe 810 probeB", "all_probes"]
    assert recording.intervals["optogenetic_stimulation"]["level"].tolist() == [1.5]
    assert recording.stop_s == 99.0


def test_tags_of_another_length_are_left_out(cache: Path) -> None:
    with h5py.File(session_file(cache), "a") as file:
        del file["intervals/invalid_times/tags"], file["intervals/invalid_times/tags_index"]
        file["intervals/invalid_times/tags"] = np.array(["one", "two", "three"], dtype=TEXT)
    assert set(load_one(cache).intervals["invalid_times"]) == {"start_s", "stop_s"}


def test_running_speed(cache: Path) -> None:
    series = load_one(cache).series
    assert list(series) == ["running_speed"]
    assert series["running_speed"].unit == "cm/s"
    np.testing.assert_array_equal(series["running_speed"].value, [1, NAN, 3])
    np.testing.assert_array_equal(series["running_speed"].time_s, np.arange(3) / 60)


def test_what_may_be_missing(cache: Path) -> None:
    with h5py.File(session_file(cache), "a") as file:
        del file["processing"], file["intervals"], file["general/subject"], file["general/stimulus"]
    recording = load_one(cache)
    assert (recording.series, recording.intervals) == ({}, {})
    assert recording.n_units == len(GOOD)
    assert recording.stop_s == np.concatenate(trains()).max()


def test_folders_are_searched_for_sessions_only(cache: Path) -> None:
    (cache / "session_715093703" / "probe_810_lfp.nwb").write_bytes(b"")
    (cache / "session_9").mkdir()
    (cache / "session_9" / "session_9.nwb").write_text("broken")
    refs = list(open_source("allen").iter_sessions([cache, session_file(cache)]))
    assert [(ref.path.name, ref.session_id) for ref in refs] == [
        ("session_715093703.nwb", "715093703"),
        ("session_9.nwb", None),
    ]
    (empty := cache / "empty").mkdir()
    with pytest.raises(SourceError, match=r"no session_\*\.nwb file"):
        list(open_source("allen").iter_sessions([empty]))


def change(path: Path, name: str, values: object = None) -> None:
    with h5py.File(path, "a") as file:
        del file[name]
        if values is not None:
            file.create_dataset(name, data=values)


ELECTRODES = "general/extracellular_ephys/electrodes"
SPOIL = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:20_000]), "not a whole NWB"),
    "another lab's": (lambda path: change(path, "identifier", "Mouse 1"), "'Mouse 1' is no ecephys session id"),
    "no identifier": (lambda path: change(path, "identifier"), "has no identifier"),
    "no units": (lambda path: change(path, "units"), "has no units"),
    "no quality": (lambda path: change(path, "units/quality"), "has no column quality in units"),
    "numbers for quality": (lambda path: change(path, "units/quality", np.ones(14)), "has no column quality"),
    "no metric": (lambda path: change(path, "units/isi_violations"), "has no column isi_violations in units"),
    "short column": (lambda path: change(path, "units/presence_ratio", [1.0]), "has no column presence_ratio"),
    "no electrodes": (lambda path: change(path, ELECTRODES), f"has no {ELECTRODES}"),
    "no validity": (lambda path: change(path, f"{ELECTRODES}/valid_data"), "has no column valid_data in general/"),
    "channel twice": (lambda path: change(path, f"{ELECTRODES}/id", [1, 1, 2, 3, 4, 5]), "has a channel twice"),
    "nan spike": (lambda path: change(path, "units/spike_times", np.full(371, NAN)), "spike 0 is at nan"),
}


@pytest.mark.parametrize("what", SPOIL)
def test_bad_files_are_named_with_a_remedy(cache: Path, what: str) -> None:
    spoil, problem = SPOIL[what]
    spoil(session_file(cache))
    with pytest.raises(SourceError) as caught:
        load_one(cache)
    assert caught.value.problem.startswith(f"{session_file(cache)}: ")
    assert problem in caught.value.problem
    assert any(word in caught.value.remedy for word in ("again", "anew", "name a"))


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("channels.csv", "", "not a table with a column id"),
        ("channels.csv", "a,b\n1,2\n", "not a table with a column id"),
        ("channels.csv", "id,ecephys_structure_acronym\n1,VISp\n", "no column anterior_posterior_ccf_coordinate"),
        ("sessions.csv", "id,specimen_id\n715093703,1\n715093703,2\n", "has an id twice"),
        ("sessions.csv", "id\n\udcff\n", "not a table with a column id"),
    ],
)
def test_bad_tables_are_named_with_a_remedy(cache: Path, name: str, text: str, problem: str) -> None:
    (cache / name).write_text(text, errors="surrogateescape")
    with pytest.raises(SourceError) as caught:
        load_one(cache)
    assert caught.value.problem.startswith(f"{cache / name}: ")
    assert problem in caught.value.problem
    assert "download it again" in caught.value.remedy


def test_a_session_without_any_structure_has_no_good_unit(cache: Path) -> None:
    change(session_file(cache), f"{ELECTRODES}/location", np.full(6, NAN))
    assert load_one(cache).n_units == 0


UNIT = st.fixed_dictionaries(
    {
        "quality": st.sampled_from(["good", "Good", "noise", ""]),
        "isi_violations": st.sampled_from([0.0, 0.5, 0.5001, NAN]),
        "amplitude_cutoff": st.sampled_from([0.0, 0.1, 0.1001, NAN]),
        "presence_ratio": st.sampled_from([1.0, 0.95, 0.9499, NAN]),
        "valid_data": st.sampled_from([True, False, NAN]),
        "location": st.sampled_from(["VISp", "root", "None", "", NAN]),
    }
)


@given(st.lists(UNIT, min_size=1, max_size=12))
def test_a_unit_is_good_if_it_passes_every_rule(units: list[dict]) -> None:
    good, dropped = passes(pd.DataFrame(units))
    expected = [
        unit["valid_data"] is True
        and unit["location"] in ("VISp", "root")
        and unit["quality"] == "good"
        and unit["amplitude_cutoff"] in (0.0, 0.1)
        and unit["presence_ratio"] in (0.95, 1.0)
        and unit["isi_violations"] in (0.0, 0.5)
        for unit in units
    ]
    assert good.tolist() == expected
    assert dropped.total() == len(units) - sum(expected)


@pytest.mark.realdata
def test_the_cache_that_allensdk_wrote(realdata: Path) -> None:
    folder = realdata / "allen"
    with h5py.File(folder / "session_715093703" / "session_715093703.nwb") as file:
        table, electrodes = file["units"], file[ELECTRODES]
        names = ("isi_violations", "amplitude_cutoff", "presence_ratio", "peak_channel_id")
        units = pd.DataFrame({name: table[name][:] for name in names}, index=table["id"][:])
        units["quality"] = table["quality"].asstr()[:]
        channels = pd.DataFrame({"valid": electrodes["valid_data"][:]}, index=electrodes["id"][:])
        channels["structure"] = electrodes["location"].asstr()[:]
        channels["depth"] = electrodes["probe_vertical_position"][:]
        channels["probe"] = electrodes["group_name"].asstr()[:]
        split = np.split(table["spike_times"][:], table["spike_times_index"][:])[:-1]
        spike_times = dict(zip(units.index, split, strict=True))
        n_presentations = {name: len(spans["id"]) for name, spans in file["intervals"].items()}
        frames = file["intervals/natural_movie_three_presentations/frame"][:]
        speed = file["processing/running/running_speed/data"][:]
    units = units.join(channels, on="peak_channel_id")
    csv = pd.read_csv(folder / "channels.csv", index_col="id")
    units = units.join(csv.filter(like="ecephys_structure").join(csv.filter(like="ccf")), on="peak_channel_id")
    good = units.query(
        "quality == 'good' and isi_violations <= 0.5 and amplitude_cutoff <= 0.1 and presence_ratio >= 0.95 and valid"
    )
    assert (len(units), len(good)) == (119, 38)

    recording = load_one(folder)
    assert recording.units["cluster_id"].tolist() == good.index.tolist()
    assert sum(recording.provenance.dropped.values()) == 119 - 38
    assert recording.spikes.time.size == sum(len(spike_times[unit]) for unit in good.index) == 242_704
    for row, unit in enumerate(good.index):
        np.testing.assert_array_equal(recording.spikes.time[recording.spikes.unit == row], spike_times[unit])
    assert recording.units["depth_um"].tolist() == good["depth"].tolist()
    assert Counter(recording.units["probe"]) == Counter(good["probe"])
    assert recording.units["region"].tolist() == good["ecephys_structure_acronym"].fillna("root").tolist()
    assert recording.units["ccf_ap_um"].tolist() == good["anterior_posterior_ccf_coordinate"].tolist()
    assert {name: len(spans["start_s"]) for name, spans in recording.intervals.items()} == n_presentations
    np.testing.assert_array_equal(recording.intervals["natural_movie_three_presentations"]["frame"], frames)
    np.testing.assert_array_equal(recording.series["running_speed"].value, speed)
    assert (recording.subject, recording.date) == ("699733581", "2019-01-19")
    assert recording.provenance.original_ids["session_type"] == "brain_observatory_1.1"
    assert load_one(folder, no_filter=True).n_units == 119


def test_a_table_of_sessions_that_is_none_is_named(cache: Path) -> None:
    (cache / "sessions.csv").write_text("foo\n")
    with pytest.raises(SourceError, match=r"sessions\.csv: not a table with a column id"):
        load_one(cache)


def test_the_note_of_a_bad_start_time_reaches_the_recording(cache: Path) -> None:
    change(session_file(cache), "session_start_time", "May 2024")
    recording = load_one(cache)
    assert recording.date is None
    assert "date not known: session_start_time 'May 2024' is not ISO 8601" in recording.provenance.notes
