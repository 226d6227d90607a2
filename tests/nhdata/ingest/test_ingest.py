"""Recordings into a store: what is taken, what is left out and said so, and what stays as it was."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from crashing_reader import crashing_carry_out

import nhdata
from nhcatalog.errors import UserError
from nhdata.ingest import Failed, Ingested, Skipped, ingest
from nhdata.ingest import run as run_module
from nhdata.ingest.plan import plan_ingest
from nhdata.recording import Provenance, Recording, Spikes
from nhdata.sources import SessionRef, SourceOptions
from nhdata.sources.phy.source import PhySource
from nhdata.store.validate import validate
from nhdata.workers import Workers


def ids(report):
    return [done.session_id for done in report.ingested]


def curate(folder):
    """Give ten spikes to another cluster, as a curator would; the recording's id stays."""
    clusters = np.load(folder / "spike_clusters.npy")
    clusters[:10] = (clusters[:10] + 1) % 12
    np.save(folder / "spike_clusters.npy", clusters)


def test_every_recording_comes_in_whole(run, root, sortings, hashes):
    heard, begun = [], []
    report = run(on_start=heard.append, on_begin=begun.append, on_outcome=heard.append)
    assert (len(report.ingested), report.skipped, report.failed) == (3, [], [])
    assert heard == [3, *report.ingested]
    assert begun == [str(sortings / name) for name in "abc"] == [done.path for done in report.ingested]
    assert set(hashes(root)) == set(ids(report))
    assert report.ingested[0] == Ingested(ids(report)[0], "phy", 12, 600)
    tick, unit = nhdata.open(root).session(ids(report)[0]).ticks()
    np.testing.assert_array_equal(tick, np.load(sortings / "a" / "spike_times.npy"))
    np.testing.assert_array_equal(unit, np.load(sortings / "a" / "spike_clusters.npy"))


def test_what_is_there_is_skipped(run, root, tree):
    first = run()
    before = tree(root)
    again = run()
    assert (again.ingested, again.failed) == ([], [])
    assert [skipped.reason for skipped in again.skipped] == ["already in the store"] * len(first.ingested)
    assert tree(root) == before


def test_what_is_there_is_an_error_if_asked(run, root, tree):
    run()
    before = tree(root)
    again = run(existing="error")
    assert (again.ingested, again.skipped, len(again.failed)) == ([], [], 3)
    assert "use --existing skip, refresh or overwrite" in again.failed[0].error
    assert tree(root) == before


def test_overwriting_with_the_same_content_writes_it_again_and_repairs_damage(run, root, hashes):
    """The error of a damaged session names ``--existing overwrite``: files that are there are never taken over."""
    run()
    before, store = hashes(root), nhdata.open(root)
    tables = {table: store.sql(f"select * from {table} order by all").to_pandas() for table in ("sessions", "units")}
    damaged = root / tables["sessions"].path[0]
    (damaged / "spikes" / "tick" / "c" / "0").write_bytes(b"damaged")
    assert {problem.session_id for problem in validate(root, deep=True)} == {tables["sessions"].session_id[0]}
    assert len(run(existing="overwrite").ingested) == 3
    assert validate(root, deep=True) == []
    assert hashes(root) == before
    again = nhdata.open(root)
    assert again.position == store.position + 3
    assert list(again.sql("select path from sessions order by all").to_pandas().path) == [
        f"{path}.v2" for path in tables["sessions"].path
    ]
    for table, expected in tables.items():
        columns = [name for name in expected.columns if name not in ("path", "ingested_at")]
        assert again.sql(f"select * from {table} order by all").to_pandas()[columns].equals(expected[columns])


def test_overwriting_leaves_the_old_snapshot_readable(run, root, sortings, hashes):
    session_id = ids(run())[0]
    old_store = nhdata.open(root)
    old_session = old_store.session(session_id)
    units_of = "select cluster_id, n_spikes from units where session_id = ? order by 1"
    old_units = old_store.sql(units_of, [session_id])
    curate(sortings / "a")
    run(existing="overwrite")
    new_store = nhdata.open(root)
    np.testing.assert_array_equal(old_session.spikes()[1], np.arange(600) % 12)
    np.testing.assert_array_equal(old_store.session(session_id).spikes()[1], np.arange(600) % 12)
    assert old_store.sql(units_of, [session_id]) == old_units
    np.testing.assert_array_equal(
        new_store.session(session_id).spikes()[1], np.load(sortings / "a" / "spike_clusters.npy")
    )
    assert new_store.sql(units_of, [session_id]) != old_units
    assert len(hashes(root)) == 3
    assert nhdata.open(root, at=old_store.position).sql(units_of, [session_id]) == old_units


def test_a_refresh_takes_only_what_changed_at_the_source(run, root, sortings, tree):
    first = run()
    before, position = tree(root), nhdata.open(root).position
    assert [skipped.reason for skipped in run(existing="refresh").skipped] == ["unchanged at the source"] * 3
    assert tree(root) == before
    curate(sortings / "b")
    again = run(existing="refresh")
    assert ids(again) == [ids(first)[1]]
    assert len(again.skipped) == 2
    store = nhdata.open(root)
    assert store.position == position + 1
    unit = store.session(ids(first)[1]).ticks()[1]
    np.testing.assert_array_equal(unit, np.load(sortings / "b" / "spike_clusters.npy"))


def test_a_refresh_notices_a_change_that_is_not_in_the_spikes(run, sortings):
    first = run()
    with open(sortings / "c" / "params.py", "a") as params:
        params.write("# curated by A. N. Other\n")
    assert ids(run(existing="refresh")) == [ids(first)[2]]  # its provenance names the file's hash


def test_a_fault_of_a_reader_costs_one_recording(run, root, sortings, monkeypatch):
    load = PhySource.load

    def faulty(self, ref):
        if ref.path.name == "b":
            raise KeyError("no such thing")
        return load(self, ref)

    monkeypatch.setattr(PhySource, "load", faulty)
    report = run()
    assert len(report.ingested) == 2
    assert "KeyError" in report.failed[0].error
    assert "please report it" in report.failed[0].error


def test_a_dry_run_reads_everything_and_writes_nothing(run, root, sortings):
    np.save(sortings / "b" / "spike_times.npy", np.array([5, 3]))
    report = run(dry_run=True)
    assert not root.exists()
    assert (len(report.ingested), len(report.failed)) == (2, 1)
    real = run()
    assert (report.ingested, report.failed) == (real.ingested, real.failed)


def test_too_few_good_units_are_skipped_and_counted(run, root, sortings, sort_spikes):
    sort_spikes(sortings / "poor", seed=9, n_units=9)
    report = run()
    assert len(report.ingested) == 3
    (skipped,) = report.skipped
    assert skipped.path == str(sortings / "poor")
    assert (
        skipped.reason == "9 good units (every cluster, as no table rates them), fewer than 10: lower --min-good-units"
    )
    assert len(run(min_good_units=9).ingested) == 1


def test_a_broken_recording_leaves_the_store_as_it_was(root, sortings, tree):
    def one(name):
        return ingest(root, "phy", [sortings / name])

    one("a")
    before = tree(root)
    np.save(sortings / "b" / "spike_times.npy", np.array([5, 3]))
    (failed,) = one("b").failed
    assert str(sortings / "b") in failed.error
    assert "2 spike times but 600 spike clusters" in failed.error
    assert tree(root) == before


def test_a_broken_recording_leaves_the_others_alone(run, root, sortings, hashes):
    (sortings / "b" / "spike_clusters.npy").unlink()
    report = run()
    assert [failed.path for failed in report.failed] == [str(sortings / "b")]
    assert sorted(hashes(root)) == sorted(ids(report))
    assert len(report.ingested) == 2


def test_a_copy_of_a_sorting_is_skipped(run, root, sortings, hashes):
    shutil.copytree(sortings / "a", sortings / "copies" / "a")
    report = run()
    assert len(report.ingested) == 3
    (skipped,) = report.skipped
    assert {skipped.path, skipped.reason} == {
        str(sortings / "copies" / "a"),
        f"a copy of {sortings / 'a'}: the same spikes",
    }
    assert report.failed == []
    assert len(hashes(root)) == 3


def test_a_path_without_recordings_makes_no_store(root, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no spike_times\.npy"):
        ingest(root, "phy", [tmp_path / "empty"])
    with pytest.raises(UserError, match="unknown source 'fie'"):
        ingest(root, "fie", [tmp_path])
    assert not root.exists()


def test_two_jobs_give_what_one_gives(run, root, tmp_path, sortings, hashes):
    """Into a new store, so that both make it at once."""
    np.save(sortings / "b" / "spike_times.npy", np.array([5, 3]))
    one, two = run(), run(store=tmp_path / "two.zarr", workers=Workers(jobs=2))
    assert sorted(ids(two)) == sorted(ids(one))
    assert two.failed == one.failed != []
    assert hashes(tmp_path / "two.zarr") == hashes(root)


def test_what_another_writer_committed_meanwhile_is_skipped(run, root, monkeypatch, hashes):
    run()
    before = hashes(root)
    monkeypatch.setattr(run_module, "plan_ingest", lambda refs, present, existing: plan_ingest(refs, (), existing))
    report = run()
    assert [skipped.reason for skipped in report.skipped] == ["committed by another writer meanwhile"] * 3
    assert hashes(root) == before


class OneRecording:
    """A source that hands out one recording."""

    def __init__(self, recording):
        self.recording = recording

    def iter_sessions(self, paths):
        yield SessionRef(paths[0], self.recording.session_id)

    def load(self, ref):
        return self.recording


def register(monkeypatch, recording: Recording) -> None:
    """Make ``lab`` the only source; it finds `recording` everywhere."""
    point = SimpleNamespace(name="lab", load=lambda: lambda options: OneRecording(recording))
    monkeypatch.setattr("nhdata.sources.entry_points", lambda group: [point])


GOOD = Recording(
    source="lab",
    session_id="one",
    spikes=Spikes(np.array([1.0, 2.0]), np.array([0, 1])),
    units={"cluster_id": np.arange(10), "probe": np.array(["p"] * 10)},
    stop_s=3.0,
    provenance=Provenance((), {}, "all", {}),
)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spikes": Spikes(np.array([np.nan]), np.array([0]))}, "not a number"),
        ({"spikes": Spikes(np.array([1.0]), np.array([10]))}, "names unit 10 of 10"),
        ({"stop_s": 1e6}, "split"),
    ],
)
def test_a_source_that_breaks_its_word_is_refused(root, tmp_path, monkeypatch, change, message, dry_run):
    recording = replace(GOOD, **change)
    register(monkeypatch, recording)
    (failed,) = ingest(root, "lab", [tmp_path], dry_run=dry_run).failed
    assert message in failed.error
    assert failed.path == str(tmp_path)
    assert not (root / "sessions" / "lab").exists()


def test_a_value_that_does_not_fit_the_catalog_leaves_the_store_as_it_was(root, tmp_path, monkeypatch, run, tree):
    run()
    before = tree(root)
    recording = replace(GOOD, date="yesterday")
    register(monkeypatch, recording)
    (failed,) = ingest(root, "lab", [tmp_path]).failed
    assert "sessions.date" in failed.error
    assert tree(root) == before


def test_outcomes_are_filed_by_kind():
    report = run_module.IngestReport()
    for outcome in (Ingested("a", "phy", 1, 2), Skipped("b", "why"), Failed("c", "what")):
        report.add(outcome)
    assert (len(report.ingested), len(report.skipped), len(report.failed)) == (1, 1, 1)


def test_simulations_need_no_path(root, hashes):
    options = SourceOptions(n_sessions=2, n_units=10, duration_s=20.0, seed=4)
    report = ingest(root, "synthetic", [], options=options)
    assert ids(report) == ["sim-n10-t20-s4-000", "sim-n10-t20-s4-001"]
    assert len(hashes(root)) == 2
    n_trials = nhdata.open(root).sql("select sum(n_trials) n, count(*) m from sessions").to_pylist()
    assert nhdata.open(root).sql("select count(*) n, 2 m from intervals where name = 'trials'").to_pylist() == n_trials


@pytest.mark.parametrize("workers", [Workers(jobs=2), Workers(isolated=True)])
def test_a_reader_that_crashes_costs_its_own_recording(run, root, sortings, monkeypatch, hashes, workers):
    monkeypatch.setattr(run_module, "carry_out", crashing_carry_out)
    report = run(workers=workers)
    (failed,) = report.failed
    assert failed.path == str(sortings / "b")
    assert failed.error.startswith(f"{sortings / 'b'}: not ingested, its process was ended by SIGSEGV: ")
    assert sorted(hashes(root)) == sorted(ids(report))
    assert len(report.ingested) == 2
