"""The IBL source on a small session and on a real one."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import signal

import nhdata
from nhdata.ingest import ingest
from nhdata.recording import Recording
from nhdata.sources import SourceError, SourceOptions
from nhdata.sources.ibl.behaviour import wheel_velocity
from nhdata.sources.ibl.regions import region_columns
from nhdata.sources.ibl.source import IblSource

SOURCE = IblSource(SourceOptions())


def load_one(path: Path) -> Recording:
    (ref,) = SOURCE.iter_sessions([path])
    return SOURCE.load(ref)


def probe00(session: Path) -> Path:
    return session / "alf" / "probe00" / "pykilosort"


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(path, change(np.load(path)), allow_pickle=True)


def test_both_probes_become_one_recording(alf_session: Path) -> None:
    recording = load_one(alf_session)
    units = recording.units
    assert units["probe"].tolist() == ["probe00"] * 3 + ["probe01"] * 4
    assert units["cluster_id"].tolist() == [1, 3, 5, 0, 2, 4, 5]
    assert recording.provenance.dropped == {"no row in clusters.metrics": 2, "label != 1": 3}
    assert (recording.lab, recording.subject, recording.date) == ("alab", "AB_001", "2023-04-05")
    assert recording.stop_s == 70.0

    for row, (probe, cluster) in enumerate(zip(units["probe"], units["cluster_id"], strict=True)):
        folder = probe00(alf_session) if probe == "probe00" else alf_session / "alf" / "probe01"
        times, clusters = (np.load(folder / f"spikes.{name}.npy") for name in ("times", "clusters"))
        np.testing.assert_array_equal(recording.spikes.time[recording.spikes.unit == row], times[clusters == cluster])


def test_metrics_and_places_belong_to_their_cluster(alf_session: Path) -> None:
    units = {name: values[:3] for name, values in load_one(alf_session).units.items()}  # clusters 1, 3 and 5
    assert units["firing_rate_hz"].tolist() == [1.5, 3.5, 5.5]
    np.testing.assert_allclose(units["amp_median_uv"], [10, 30, 50])
    assert units["ks_label"].tolist() == ["good"] * 3
    assert units["depth_um"].tolist() == [20, 60, 100]
    assert [text[-1] for text in units["uuid"]] == ["1", "3", "5"]
    assert units["peak_channel"].tolist() == [0, 3, 1]
    assert units["x_um"].tolist() == [0, 30, 10]
    assert units["y_um"].tolist() == [0, 60, 20]
    assert units["region"].tolist() == ["root", "CP", "VISp"]
    assert units["cosmos"].tolist() == ["root", "CNU", "Isocortex"]


def test_regions_by_hand() -> None:
    ids = np.array([385, np.nan, -385, 123456789, 0, 997, 382, -1e18])
    table = region_columns(ids)
    assert table["region"].tolist() == [
        "VISp",
        "unknown",
        "VISp",
        "unknown",
        "void",
        "root",
        "CA1",
        "unknown",
    ]
    assert table["beryl"].tolist() == ["VISp", "unknown", "VISp", "unknown", "void", "root", "CA1", "unknown"]
    assert table["cosmos"].tolist() == [
        "Isocortex",
        "unknown",
        "Isocortex",
        "unknown",
        "void",
        "root",
        "HPF",
        "unknown",
    ]
    assert region_columns(np.empty(0))["region"].tolist() == []


def test_trials_and_movements(alf_session: Path) -> None:
    intervals = load_one(alf_session).intervals
    assert intervals["trials"]["start_s"].tolist() == [1, 4]
    assert intervals["trials"]["stop_s"].tolist() == [3, 70]
    assert intervals["trials"]["choice"].tolist() == [1, -1]
    assert intervals["trials"]["stimOff_times"].tolist() == [2.5, 6.5]
    assert intervals["wheel_moves"]["peakAmplitude"].tolist() == [0.2, -0.1]


def test_trials_from_a_file_for_each_column(alf_session: Path) -> None:
    (alf_session / "alf" / "_ibl_trials.table.pqt").unlink()
    np.save(alf_session / "alf" / "_ibl_trials.intervals.npy", np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    trials = load_one(alf_session).intervals["trials"]
    assert list(trials) == ["start_s", "stop_s", "stimOff_times"]
    assert trials["stop_s"].tolist() == [2, 4, 6]


def test_wheel_velocity_is_that_of_ibl(alf_session: Path) -> None:
    series = load_one(alf_session).series
    times, position = (np.load(alf_session / "alf" / f"_ibl_wheel.{name}.npy") for name in ("timestamps", "position"))
    np.testing.assert_array_equal(series["wheel_position"].time_s, times)
    np.testing.assert_array_equal(series["wheel_position"].value, position)

    n = int(np.ceil((times[-1] - times[0]) * 1000))
    even = times[0] + np.arange(n) * 0.001
    after = np.clip(np.searchsorted(times, even, side="right"), 1, len(times) - 1)
    share = (even - times[after - 1]) / (times[after] - times[after - 1])
    interpolated = position[after - 1] + share * (position[after] - position[after - 1])
    smooth = signal.sosfiltfilt(signal.butter(8, 20 / 500, output="sos"), interpolated)
    expected = np.concatenate([[0.0], (smooth[1:] - smooth[:-1]) * 1000])
    assert series["wheel_velocity"].unit == "rad/s"
    np.testing.assert_allclose(series["wheel_velocity"].time_s, even, atol=1e-9)
    np.testing.assert_allclose(series["wheel_velocity"].value, expected, atol=1e-6)


def test_a_steady_wheel_has_its_speed_and_a_short_one_none() -> None:
    time_s = np.arange(0, 10, 0.01)
    at, velocity = wheel_velocity(time_s, 3.0 * time_s)
    middle = (at > 1) & (at < 9)
    np.testing.assert_allclose(velocity[middle], 3.0, atol=1e-6)
    assert len(wheel_velocity(np.array([0.0, 0.02]), np.array([0.0, 1.0]))[1]) == 0


def test_a_session_without_behaviour_ends_with_its_last_spike(alf_session: Path) -> None:
    for file in (alf_session / "alf").glob("_ibl_*"):
        file.unlink()
    recording = load_one(alf_session)
    assert (dict(recording.intervals), dict(recording.series)) == ({}, {})
    last = [np.load(path)[-1] for path in alf_session.rglob("spikes.times.npy")]
    assert recording.stop_s == max(last)


def test_newest_revision_best_sorter_and_names_with_uuid(alf_session: Path) -> None:
    old = probe00(alf_session)
    best = old.parent / "iblsorter"
    old.rename(best)
    old.mkdir()
    np.save(old / "spikes.times.npy", np.array([1.0]))
    times = best / "spikes.times.npy"
    revised = best / "#2024-05-06#"
    revised.mkdir()
    np.save(revised / f"spikes.times.{uuid.uuid4()}.npy", np.load(times) + 1.0)
    older = best / "#2023-01-01#"
    older.mkdir()
    np.save(older / "spikes.times.npy", np.load(times) + 9.0)
    recording = load_one(alf_session)
    assert recording.provenance.revision == "2024-05-06"
    assert recording.spikes.time[recording.spikes.unit < 3].min() >= 1.0
    first = np.load(times)[np.isin(np.load(best / "spikes.clusters.npy"), [1, 3, 5])][0]
    assert recording.spikes.time[0] == first + 1.0


def test_files_read_are_on_record(alf_session: Path) -> None:
    files = {file.name: file.size for file in load_one(alf_session).provenance.files}
    assert "alf/probe01/spikes.times.npy" in files
    assert "alf/_ibl_wheel.position.npy" in files
    assert all((alf_session / name).stat().st_size == size for name, size in files.items())


@pytest.mark.parametrize("up", [0, 1, 2, 3, 4, 5])
def test_any_folder_above_or_within_names_the_session(alf_session: Path, up: int) -> None:
    paths = [probe00(alf_session), alf_session, *alf_session.parents]
    refs = list(SOURCE.iter_sessions([paths[up], alf_session]))
    assert [ref.path for ref in refs] == [alf_session]


def test_session_id_depends_on_the_name_only(alf_session: Path) -> None:
    (ref,) = SOURCE.iter_sessions([alf_session])
    namespace = uuid.uuid5(uuid.NAMESPACE_DNS, "internationalbrainlab.org")
    assert ref.session_id == str(uuid.uuid5(namespace, "alab/AB_001/2023-04-05/002"))


@pytest.mark.parametrize("index", [True, False])
def test_session_id_is_ibls_where_one_knows_it(alf_session: Path, index: bool) -> None:
    eid, other, local = str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid3(uuid.NAMESPACE_DNS, "x"))
    columns = {
        "id": [other, eid, local],
        "lab": ["alab"] * 3,
        "subject": ["AB_001"] * 3,
        "date": pd.to_datetime(["2023-04-05"] * 3).date,
        "number": np.array([1, 2, 2], np.uint16),
    }
    table = pd.DataFrame(columns)
    (table.set_index("id") if index else table).to_parquet(alf_session.parents[4] / "sessions.pqt")
    recording = load_one(alf_session)
    assert recording.session_id == eid
    assert recording.provenance.original_ids["eid"] == eid


def test_tables_without_label_go_by_bitwise_fail(alf_session: Path) -> None:
    path = probe00(alf_session) / "clusters.metrics.pqt"
    metrics = pd.read_parquet(path).drop(columns="label").assign(bitwise_fail=[0, 4, 1, 0])  # clusters 5, 3, 2, 1
    metrics.to_parquet(path)
    recording = load_one(alf_session)
    assert recording.units["cluster_id"][:2].tolist() == [1, 5]
    assert recording.provenance.rule == "bitwise_fail == 0 or label == 1"


def test_no_good_unit_is_no_error(alf_session: Path) -> None:
    for path in alf_session.rglob("clusters.metrics.pqt"):
        pd.read_parquet(path).assign(label=0.5).to_parquet(path)
    recording = load_one(alf_session)
    assert recording.n_units == 0
    assert len(recording.spikes.time) == 0


SPOIL = {
    "missing times": ("spikes.times.npy", lambda path: path.unlink(), "no such file"),
    "missing metrics": ("clusters.metrics.pqt", lambda path: path.unlink(), "no such file"),
    "truncated": ("spikes.times.npy", lambda path: path.write_bytes(path.read_bytes()[:-9]), "truncated"),
    "nan": (
        "spikes.times.npy",
        lambda path: rewrite(path, lambda t: np.r_[t[:5], np.nan, t[6:]]),
        "spike 5 is at nan",
    ),
    "negative": (
        "spikes.times.npy",
        lambda path: rewrite(path, lambda t: np.r_[-0.5, t[1:]]),
        "spike 0 is at -0.5",
    ),
    "unsorted": (
        "spikes.times.npy",
        lambda path: rewrite(path, lambda t: t[::-1]),
        "earlier than the spike before",
    ),
    "objects": (
        "spikes.times.npy",
        lambda path: rewrite(path, lambda t: t.astype(object)),
        "holds Python objects",
    ),
    "lengths": ("spikes.times.npy", lambda path: rewrite(path, lambda t: t[:-1]), "899 spike times but 900"),
    "stranger": (
        "spikes.clusters.npy",
        lambda path: rewrite(path, lambda c: np.r_[c[:-1], 77]),
        "cluster 77 has spikes",
    ),
    "depths": ("clusters.depths.npy", lambda path: rewrite(path, lambda d: d[:-1]), "has 5 rows"),
    "channel": ("clusters.channels.npy", lambda path: rewrite(path, lambda c: c + 7), "names 10"),
    "metrics": (
        "clusters.metrics.pqt",
        lambda path: path.write_bytes(b"PAR1nonsensePAR1"),
        "not a readable Parquet",
    ),
    "no id": (
        "clusters.metrics.pqt",
        lambda path: pd.DataFrame({"label": [1.0]}).to_parquet(path),
        "cluster_id",
    ),
    "twice": (
        "clusters.metrics.pqt",
        lambda path: pd.DataFrame({"cluster_id": [1, 1], "label": [1.0, 0.0]}).to_parquet(path),
        "twice",
    ),
    "no label": (
        "clusters.metrics.pqt",
        lambda path: pd.DataFrame({"cluster_id": [1]}).to_parquet(path),
        "neither",
    ),
}


@pytest.mark.parametrize("what", SPOIL)
def test_bad_input_is_named_with_a_remedy(alf_session: Path, what: str) -> None:
    name, spoil, problem = SPOIL[what]
    path = probe00(alf_session) / name
    spoil(path)
    with pytest.raises(SourceError) as caught:
        load_one(alf_session)
    message = str(caught.value)
    assert str(path.parent) in message
    assert problem in caught.value.problem
    assert "download" in caught.value.remedy or "again" in caught.value.remedy
    assert "\n" not in message


def test_bad_behaviour_is_named(alf_session: Path) -> None:
    rewrite(alf_session / "alf" / "_ibl_wheel.position.npy", lambda p: p[:-1])
    with pytest.raises(SourceError, match=r"_ibl_wheel\.position\.npy: has 2999 rows"):
        load_one(alf_session)


def test_an_empty_recording_is_an_error(alf_session: Path) -> None:
    for path in alf_session.rglob("spikes.*.npy"):
        rewrite(path, lambda values: values[:0])
    with pytest.raises(SourceError, match="empty recording"):
        load_one(alf_session)


def test_a_folder_without_sessions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no IBL session .*: name a ONE cache folder"):
        list(SOURCE.iter_sessions([tmp_path]))
    with pytest.raises(SourceError, match="nowhere: no such file or folder"):
        list(SOURCE.iter_sessions([tmp_path / "nowhere"]))


@pytest.mark.realdata
def test_a_real_session_has_the_units_its_files_say(realdata: Path) -> None:
    recording = load_one(realdata / "ibl_alf")
    (folder,) = realdata.glob("ibl_alf/*/Subjects/*/*/*/alf/probe00/pykilosort")
    metrics = pd.read_parquet(folder / "clusters.metrics.pqt").set_index("cluster_id")
    good = sorted(metrics.index[metrics["label"] == 1])
    times, clusters = np.load(folder / "spikes.times.npy"), np.load(folder / "spikes.clusters.npy")
    assert len(good) == recording.n_units == 140
    assert recording.units["cluster_id"].tolist() == good
    np.testing.assert_array_equal(recording.units["firing_rate_hz"], metrics.loc[good, "firing_rate"])
    keep = np.isin(clusters, good)
    np.testing.assert_array_equal(recording.spikes.time, times[keep])
    np.testing.assert_array_equal(np.array(good)[recording.spikes.unit], clusters[keep])
    assert sum(recording.provenance.dropped.values()) == len(np.load(folder / "clusters.channels.npy")) - 140


def test_a_folder_of_no_date_is_noted(alf_session: Path) -> None:
    session = alf_session.parents[1] / "2023-13-45" / "002"
    session.parent.mkdir()
    alf_session.rename(session)
    recording = load_one(session)
    assert recording.date is None
    assert "date not known: the folder's date '2023-13-45' is not ISO 8601" in recording.provenance.notes


def test_columns_of_trials_keep_their_values_whatever_they_are_called(alf_session: Path, tmp_path: Path) -> None:
    path = alf_session / "alf" / "_ibl_trials.table.pqt"
    own = {
        "good": [True, False, True],
        "source": ["left", "right", "left"],
        "RT": [0.1, 0.2, 0.3],
        "rt": [1.0, 2.0, 3.0],
        "层": [5.0, 6.0, 7.0],
        "Start_S": [8.0, 9.0, 10.0],
    }
    pd.read_parquet(path).assign(**own).to_parquet(path)
    assert ingest(tmp_path / "d.zarr", "ibl", [alf_session], min_good_units=1).failed == []
    store = nhdata.open(tmp_path / "d.zarr")
    rows = store.sql("select start_s, fields from intervals where name = 'trials' order by interval_index").to_pylist()
    assert [row["start_s"] for row in rows] == [1.0, 4.0]
    fields = [json.loads(row["fields"]) for row in rows]
    kept = [[row[name] for row in fields] for name in fields[0]]
    assert all(values[:2] in kept for values in own.values())
    assert len({name.lower() for name in fields[0]}) == len(fields[0])
    assert [row["source"] for row in fields] == ["left", "right"]
