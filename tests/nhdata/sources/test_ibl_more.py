"""The IBL source: revisions, collections, licks, motion energy, tasks, early spikes, lists."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nhdata.recording import Recording
from nhdata.sources import SourceError, SourceOptions
from nhdata.sources.ibl.behaviour import wheel_velocity
from nhdata.sources.ibl.list import read_list, session_name
from nhdata.sources.ibl.source import IblSource

EID, PID = "6713a4a7-faed-4df2-acab-ee4e63326f8d", "56f2a378-78d2-4132-b3c8-8c1ba82be598"
HEADER = ",pid,eid,probe_name,session_number,date,subject,lab\n"
NO_START = "1 of 3 rows of trials left out: no start or no stop"
ROW = f"0,{PID},{EID},probe01,2,2023-04-05,AB_001,alab\n"


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def load(path: Path, **options: object) -> Recording:
    source = IblSource(SourceOptions(**options))  # type: ignore[arg-type]
    (ref,) = source.iter_sessions([path])
    return source.load(ref)


def probe00(session: Path) -> Path:
    return session / "alf" / "probe00" / "pykilosort"


def revise(folder: Path, revision: str, shift_s: float, into: Path | None = None) -> Path:
    """Another version of a probe's spikes, later by `shift_s`."""
    revised = (into or folder) / f"#{revision}#"
    revised.mkdir(parents=True)
    np.save(revised / "spikes.times.npy", np.load(folder / "spikes.times.npy") + shift_s)
    shutil.copy(folder / "spikes.clusters.npy", revised)
    return revised


def first_of(recording: Recording, probe: str) -> float:
    rows = np.flatnonzero(recording.units["probe"] == probe)
    return float(recording.spikes.time[np.isin(recording.spikes.unit, rows)].min())


def test_spikes_by_revision_and_behaviour_newest(alf_session: Path) -> None:
    plain = load(alf_session)
    for folder in (probe00(alf_session), alf_session / "alf" / "probe01"):
        revise(folder, "2024-05-06", 1.0)
        revise(folder, "2025-01-01", 5.0)
    newer = alf_session / "alf" / "#2025-01-01#"
    newer.mkdir()
    np.save(newer / "_ibl_wheelMoves.intervals.npy", np.array([[3.0, 4.5], [5.0, 5.5]]))

    for options, revision, shift_s in (({"revision": "2024-05-06"}, "2024-05-06", 1.0), ({}, "2025-01-01", 5.0)):
        recording = load(alf_session, **options)
        assert recording.provenance.revision == revision
        np.testing.assert_array_equal(recording.spikes.time, plain.spikes.time + shift_s)
        assert recording.intervals["wheel_moves"]["stop_s"][0] == 4.5


def test_a_revision_that_is_not_there_is_named_with_those_that_are(alf_session: Path) -> None:
    revise(probe00(alf_session), "2024-05-06", 1.0)
    with pytest.raises(
        SourceError, match=r"pykilosort: has no spikes of revision 2023-01-01, but of 2024-05-06, no revision"
    ):
        load(alf_session, revision="2023-01-01")
    with pytest.raises(SourceError, match="probe01: has no spikes of revision 2024-05-06, but of no revision"):
        load(alf_session, revision="2024-05-06")


def test_the_better_sorter_wins_though_its_spikes_are_revised_only(alf_session: Path) -> None:
    """As in caches into which ONE brought the default revision beside an old sorting."""
    probe = alf_session / "alf" / "probe01"
    better = probe / "iblsorter"
    revise(probe, "2024-05-06", 2.0, into=better)
    for file in probe.glob("c*"):
        shutil.copy(file, better)
    assert first_of(load(alf_session), "probe01") == np.load(better / "#2024-05-06#" / "spikes.times.npy")[0]


def test_the_sorter_that_has_the_revision_wins(alf_session: Path) -> None:
    probe = alf_session / "alf" / "probe01"
    revise(probe, "2024-05-06", 2.0)
    revise(probe, "2025-01-01", 7.0, into=probe / "iblsorter")
    for file in probe.glob("c*"):
        shutil.copy(file, probe / "iblsorter")
    revise(probe00(alf_session), "2024-05-06", 2.0)
    before = load(alf_session, revision="2024-05-06")
    assert first_of(load(alf_session), "probe01") == pytest.approx(first_of(before, "probe01") + 5.0)


@pytest.mark.parametrize("index", [True, False])
def test_metrics_as_csv(alf_session: Path, index: bool) -> None:
    expected = load(alf_session).units
    for path in alf_session.rglob("clusters.metrics.pqt"):
        pd.read_parquet(path).to_csv(path.with_suffix(".csv"), index=index)
        path.unlink()
    units = load(alf_session).units
    assert units.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(units[name], values)


def test_a_table_whose_names_are_no_text_is_named(alf_session: Path) -> None:
    path = probe00(alf_session) / "clusters.metrics.pqt"
    path.write_bytes(path.read_bytes().replace(b"ks2_label", b"ks2\xff\xfeabel"))
    with pytest.raises(SourceError, match=r"clusters\.metrics\.pqt: not a readable Parquet file"):
        load(alf_session)


def test_licks_are_moments(alf_session: Path) -> None:
    np.save(alf_session / "alf" / "licks.times.npy", np.array([5.0, 1.5, np.nan, 80.0]))
    recording = load(alf_session)
    licks = recording.intervals["licks"]
    assert licks["start_s"].tolist() == licks["stop_s"].tolist() == [1.5, 5.0, 80.0]
    assert recording.stop_s == 80.0


def test_motion_energy_where_the_times_fit(alf_session: Path) -> None:
    alf = alf_session / "alf"
    time_s = np.arange(100) / 60.0
    energy = np.random.default_rng(0).random(97).astype(np.float32)
    for camera, times in (("left", time_s), ("right", time_s[:90]), ("body", time_s[::-1])):
        np.save(alf / f"_ibl_{camera}Camera.times.npy", times)
        np.save(alf / f"{camera}Camera.ROIMotionEnergy.npy", energy)
    recording = load(alf_session)
    left = recording.series["motion_energy_left"]
    np.testing.assert_array_equal(left.time_s, time_s[3:])  # the video lacks its first frames
    np.testing.assert_array_equal(left.value, energy)
    assert not {"motion_energy_right", "motion_energy_body"} & recording.series.keys()
    assert recording.provenance.notes == (
        NO_START,
        "motion energy of the right camera left out: 97 frames, 90 times",
        "motion energy of the body camera left out: its times are not in order",
    )


def test_behaviour_in_task_folders(alf_session: Path) -> None:
    alf = alf_session / "alf"
    expected = load(alf_session)
    first, second = alf / "task_00", alf / "task_01"
    first.mkdir()
    for file in [*alf.glob("_ibl_trials*"), *alf.glob("_ibl_wheelMoves*")]:
        file.rename(first / file.name)
    shutil.copytree(first, second)
    np.save(second / "_ibl_wheelMoves.intervals.npy", np.array([[60.0, 61.0], [62.0, 63.0]]))
    np.save(second / "_ibl_wheel.timestamps.npy", np.arange(3.0))
    np.save(second / "_ibl_wheel.position.npy", np.arange(3.0))
    recording = load(alf_session)
    assert set(recording.intervals) == {"trials", "wheel_moves", "trials_task_01", "wheel_moves_task_01"}
    for name, column in expected.intervals["trials"].items():
        np.testing.assert_array_equal(recording.intervals["trials"][name], column)
    assert recording.intervals["wheel_moves_task_01"]["start_s"].tolist() == [60.0, 62.0]
    assert set(recording.series) == {"wheel_position", "wheel_velocity"}  # of alf itself, so not of the tasks
    assert len(recording.series["wheel_position"].time_s) == 3000


def test_spikes_before_the_session_clock_are_left_out_and_noted(alf_session: Path) -> None:
    path = probe00(alf_session) / "spikes.times.npy"
    times, clusters = np.load(path) - 6.45, np.load(path.with_name("spikes.clusters.npy"))
    np.save(path, times)
    n_early = int((times < 0).sum())
    with pytest.raises(SourceError, match=r"spikes\.times\.npy: spike 0 is at -.*--drop-early-spikes"):
        load(alf_session)
    recording = load(alf_session, drop_early=True)
    rows = recording.spikes.unit < 3
    np.testing.assert_array_equal(recording.spikes.time[rows], times[(times >= 0) & np.isin(clusters, [1, 3, 5])])
    left_out = f"probe00: {n_early} spikes before 0 s of the session's clock left out"
    assert recording.provenance.notes == (left_out, NO_START)


@pytest.mark.parametrize("early", [[-1.0, -2.0], [-1.0, np.nan], [-np.inf, -1.0], [-1.0, 3.0, -1.0]])
def test_early_spikes_are_checked_like_others(alf_session: Path, early: list[float]) -> None:
    path = probe00(alf_session) / "spikes.times.npy"
    np.save(path, np.r_[early, np.load(path)[len(early) :]])
    with pytest.raises(SourceError, match=r"spike \d is at"):
        load(alf_session, drop_early=True)


def test_a_list_gives_the_true_eid_and_chooses_insertions(alf_session: Path, tmp_path: Path) -> None:
    freeze = tmp_path / "freeze.csv"
    freeze.write_text(HEADER + ROW)
    recording = load(alf_session, eids=freeze)
    assert recording.session_id == EID
    assert set(recording.units["probe"]) == {"probe01"}
    assert recording.provenance.original_ids == {"session": "alab/AB_001/2023-04-05/002", "eid": EID, "probe01": PID}
    freeze.write_text(HEADER + ROW.replace("AB_001", "AB_002"))
    with pytest.raises(SourceError, match=r"has no session of the list .*freeze.csv: add --remote"):
        load(alf_session, eids=freeze)


def test_limit(alf_session: Path) -> None:
    shutil.copytree(alf_session, alf_session.with_name("003"))
    source = IblSource(SourceOptions(limit=1))
    assert [ref.path.name for ref in source.iter_sessions([alf_session.parent])] == ["002"]


def test_lists_of_eids(tmp_path: Path) -> None:
    path = tmp_path / "eids.txt"
    path.write_text(f"# good ones\n{EID}  # first\n\n{PID}\n")
    assert [(one.eid, one.name, dict(one.insertions)) for one in read_list(path).sessions] == [
        (EID, None, {}),
        (PID, None, {}),
    ]
    path = tmp_path / "freeze.csv"
    path.write_text(HEADER + ROW + ROW.replace("probe01", "probe00").replace(PID, PID[::-1]))
    (one,) = read_list(path).sessions
    assert one.insertions == {"probe01": PID, "probe00": PID[::-1]}
    assert str(one.name) == "alab/AB_001/2023-04-05/002"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "lists no session"),
        ("# nothing\n", "lists no session"),
        (f"{EID}\nnonsense\n", "line 2 has no eid but 'nonsense'"),
        (HEADER + ROW.replace("alab", "../.."), "line 2 names no session"),
        (HEADER + ROW.replace("2023-04-05", "2023"), "line 2 names no session"),
        (HEADER + ROW.replace(EID, "1"), "line 2 has no eid but '1'"),
        ("\x80\x81", "is not text"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "list"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SourceError, match=problem):
        read_list(path)
    with pytest.raises(SourceError, match="no such file"):
        read_list(tmp_path / "nowhere")


@pytest.mark.parametrize("part", ["..", ".hidden", "a/b", "", "a\nb", "ü"])
def test_names_that_could_leave_the_folder_are_none(part: str) -> None:
    assert session_name("alab", part, "2020-01-01", "1") is None
    assert session_name(part, "mouse", "2020-01-01", "1") is None
    assert session_name("alab", "mouse", part, "1") is None
    assert session_name("alab", "mouse", "2020-01-01", part) is None
    assert session_name("alab", "mouse", "2020-01-01", "1") is not None


@pytest.mark.realdata
def test_the_brain_wide_map_freeze(realdata: Path) -> None:
    listed = read_list(realdata / "2023_12_bwm_release.csv").sessions
    assert len(listed) == 459
    assert sum(len(one.insertions) for one in listed) == 699
    assert len({one.name for one in listed}) == 459
    assert len({one.name.lab for one in listed if one.name}) == 12


def test_a_wheel_of_absurd_length_is_not_resampled() -> None:
    time_s = np.array([0.0, 1.0, 1e9])
    assert wheel_velocity(time_s, np.zeros(3))[0].size == 0


def test_without_the_filter_every_rated_cluster_is_kept_and_marked(alf_session) -> None:
    good, every = load(alf_session), load(alf_session, no_filter=True)
    assert every.n_units > good.n_units == every.units["good"].sum()
    for column in ("probe", "cluster_id"):
        assert every.units[column][every.units["good"]].tolist() == good.units[column].tolist()
    assert sum(every.provenance.dropped.values()) < sum(good.provenance.dropped.values())


def test_trials_without_an_end_are_noted(alf_session) -> None:
    assert NO_START in load(alf_session).provenance.notes
