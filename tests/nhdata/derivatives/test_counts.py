"""Counts of many sessions on disk: equal to brute force whatever the blocks, whole, resumable, never wrapped."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from faults import ERRORS, Fault, inject, record
from hypothesis import given
from hypothesis import strategies as st

import nhdata
from nhcatalog.errors import UserError
from nhdata.derivatives import counts as module
from nhdata.derivatives.chosen import choose
from nhdata.derivatives.count_grid import CountGrid, plan_counts
from nhdata.derivatives.counts import write_counts
from nhdata.features import threads
from nhdata.workers import Workers


def opened(out: Path, session_id: str) -> xr.Dataset:
    return xr.open_zarr(out, group=session_id, consolidated=False)


def brute(session, bin_ticks: int, n_bins: int) -> np.ndarray:
    tick, unit = session.ticks()
    bins = tick.astype(np.int64) // bin_ticks
    keep = bins < n_bins
    flat = np.bincount(bins[keep] * session.n_units + unit[keep], minlength=n_bins * session.n_units)
    return flat.reshape(n_bins, session.n_units)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_counts_equal_brute_force_and_the_lazy_ones(store, tmp_path, dtype):
    report = write_counts(choose(store), tmp_path / "c.zarr", 0.02, dtype=dtype)
    assert sorted(o.session_id for o in report.written) == ["long", "short", "silent"]
    for session_id in store.session_ids:
        session, ours = store.session(session_id), opened(tmp_path / "c.zarr", session_id)
        np.testing.assert_array_equal(ours.counts, session.counts(0.02))
        np.testing.assert_array_equal(ours.time, session.counts(0.02).time)
        assert ours.counts.dtype == dtype
        assert ours.attrs["content_hash"] == session.attrs["content_hash"]
        assert ours.unit.attrs["unit_id"] == [f"{session_id}/p/{k}" for k in range(session.n_units)]
    session = store.session("long")
    np.testing.assert_array_equal(opened(tmp_path / "c.zarr", "long").counts, brute(session, 600, 7500))
    assert (opened(tmp_path / "c.zarr", "silent").counts == 0).all()
    assert sorted(p.name for p in (tmp_path / "c.zarr").iterdir()) == ["long", "short", "silent", "zarr.json"]


def test_relative_paths_survive_a_change_of_directory(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "data.zarr").symlink_to(store.path)
    report = write_counts(
        choose(nhdata.open("data.zarr")), Path("c.zarr"), 0.1, on_outcome=lambda outcome: os.chdir(tmp_path / "other")
    )
    assert (len(report.written), report.failed) == (3, [])
    assert sorted(os.listdir(tmp_path / "c.zarr")) == ["long", "short", "silent", "zarr.json"]
    assert os.listdir(tmp_path / "other") == []


def test_small_blocks_few_spikes_at_once_and_threads_change_nothing(store, tmp_path, monkeypatch):
    def tiny(n_bins, n_units, *rest):
        return CountGrid(n_bins, n_units, 100, 300, 777)

    monkeypatch.setattr(threads, "n_threads", lambda: 1)
    whole = write_counts(choose(store), tmp_path / "whole.zarr", 0.01)
    monkeypatch.setattr(module, "plan_counts", tiny)
    monkeypatch.setattr(threads, "n_threads", lambda: 4)
    write_counts(choose(store), tmp_path / "cut.zarr", 0.01)
    for outcome in whole.written:
        cut = opened(tmp_path / "cut.zarr", outcome.session_id)
        np.testing.assert_array_equal(cut.counts, opened(tmp_path / "whole.zarr", outcome.session_id).counts)
    array = zarr.open_array(tmp_path / "cut.zarr" / "long" / "counts", mode="r")
    assert (array.chunks, array.shards) == ((100, 7), (300, 7))


def test_every_shard_is_written_once_and_whole(store, tmp_path, monkeypatch):
    written = []

    class Spy:
        def __init__(self, array):
            self.array = array

        def __setitem__(self, key, value):
            written.append((key.start, key.stop))
            self.array[key] = value

    create = zarr.Group.create_array

    def watched(group, name, **options):
        array = create(group, name, **options)
        return Spy(array) if name == "counts" else array

    monkeypatch.setattr(module, "plan_counts", lambda n, u, *rest: CountGrid(n, u, 50, 200, 10_000))
    monkeypatch.setattr(zarr.Group, "create_array", watched)
    write_counts(choose(store, ["short"]), tmp_path / "c.zarr", 0.01)
    assert sorted(written) == [(a, min(a + 200, 987)) for a in range(0, 987, 200)]


@given(
    st.integers(1, 10**7), st.integers(0, 70_000), st.sampled_from([1, 2]), st.integers(64, 4096), st.integers(1, 16)
)
def test_blocks_cover_all_bins_in_whole_chunks_within_the_memory(n_bins, n_units, itemsize, memory_mb, n_threads):
    grid = plan_counts(n_bins, n_units, itemsize, memory_mb, n_threads)
    blocks = grid.blocks
    assert blocks[0][0] == 0
    assert blocks[-1][1] == n_bins
    assert all(a[1] == b[0] for a, b in pairwise(blocks))
    assert grid.shard % grid.chunk == 0
    assert n_threads * (2 * grid.shard * n_units * itemsize + grid.spikes_at_once * 32) <= memory_mb * 2**20


def test_a_selection_counts_its_units_only(store, tmp_path):
    chosen = choose(store, select="select unit_id from units where region = 'CA3' and session_id <> 'silent'")
    write_counts(chosen, tmp_path / "c.zarr", 0.02)
    ours = opened(tmp_path / "c.zarr", "long")
    assert ours.unit.values.tolist() == [1, 3, 5]
    np.testing.assert_array_equal(ours.counts, store.session("long").counts(0.02)[:, [1, 3, 5]])
    assert not (tmp_path / "c.zarr" / "silent").exists()


def test_what_is_there_is_skipped_and_what_changed_is_done_again(store, tmp_path):
    out = tmp_path / "c.zarr"
    write_counts(choose(store, ["short"]), out, 0.02)
    stamp = (out / "short" / "zarr.json").stat().st_mtime_ns
    again = write_counts(choose(store), out, 0.02)
    assert [o.session_id for o in again.skipped] == ["short"]
    assert (out / "short" / "zarr.json").stat().st_mtime_ns == stamp
    changed = write_counts([replace(choose(store, ["short"])[0], rows=(2,))], out, 0.02)
    assert [o.kind for o in changed.written] == ["written"]
    assert opened(out, "short").counts.shape[1] == 1


def test_a_count_that_does_not_fit_fails_its_session_and_no_other(store, tmp_path):
    report = write_counts(choose(store), tmp_path / "c.zarr", 5.0, dtype="u1")
    assert [o.session_id for o in report.written] == ["long", "silent"]
    (failed,) = report.failed
    assert "session short: a bin of 5.0 s holds more than 255 spikes of one unit: use --dtype u2" in failed.detail
    assert not (tmp_path / "c.zarr" / "short").exists()


def test_a_bin_longer_than_a_session_fails_it(store, tmp_path):
    report = write_counts(choose(store), tmp_path / "c.zarr", 60.0)
    assert {o.session_id for o in report.failed} == {"short", "silent"}
    assert opened(tmp_path / "c.zarr", "long").counts.shape == (2, 7)


@pytest.mark.parametrize("bin_s", [0.0, -1.0, float("nan"), float("inf")])
def test_no_width_is_refused_before_anything_is_written(store, tmp_path, bin_s):
    with pytest.raises(UserError, match="is not a width"):
        write_counts(choose(store), tmp_path / "c.zarr", bin_s)
    assert not list(tmp_path.iterdir())


def test_a_place_with_other_things_is_refused(store, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds other things"):
        write_counts(choose(store), tmp_path, 0.02)
    with pytest.raises(UserError, match="no counts"):
        write_counts(choose(store), store.path, 0.02)
    write_counts(choose(store, ["short"]), tmp_path / "c.zarr", 0.02)
    for bin_s, dtype in ((0.01, "u2"), (0.02, "u1")):
        with pytest.raises(UserError, match=r"holds nhdata_counts=1, bin_s=0\.02, dtype=u2"):
            write_counts(choose(store), tmp_path / "c.zarr", bin_s, dtype=dtype)
    with pytest.raises(UserError, match="10 MB for a session is too little"):
        write_counts(choose(store), tmp_path / "d.zarr", 0.02, memory_mb=10)


def test_processes_write_the_same(store, tmp_path):
    write_counts(choose(store), tmp_path / "one.zarr", 0.02)
    report = write_counts(choose(store), tmp_path / "two.zarr", 0.02, workers=Workers(2))
    assert len(report.written) == 3
    for session_id in store.session_ids:
        assert opened(tmp_path / "one.zarr", session_id).identical(opened(tmp_path / "two.zarr", session_id))


@pytest.fixture(params=["exchange", "two renames"])
def exchange(request, monkeypatch):
    """Where folders can be exchanged in one step, and where they cannot."""

    def unsupported(one, other):
        raise OSError(errno.EINVAL, "not supported")

    if request.param == "two renames":
        monkeypatch.setattr(module, "_exchange", unsupported)
    return request.param


def test_two_writers_of_one_session_do_not_hurt_each_other(tmp_path, monkeypatch, exchange):
    place = tmp_path / "session"
    rename, came = os.rename, []

    def between(source, target):
        if target == place and not came:
            came.append(True)
            (place / "c").mkdir(parents=True)  # another writer's
        rename(source, target)

    monkeypatch.setattr(os, "rename", between)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "counts").touch()
    module._move(tmp_path / "mine", place)
    assert came
    assert [p.name for p in place.iterdir()] == ["counts"]
    assert {p.name for p in tmp_path.iterdir()} <= {"session", "mine"}  # the caller deletes what it staged


def test_a_session_always_has_its_older_or_its_newer_counts(tmp_path, exchange):
    place, folder = tmp_path / "session", tmp_path / "staged"

    def move():
        try:
            module._move(folder, place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def prepare():
        for path, content in ((place, "older"), (folder, "newer")):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            (path / "counts").write_text(content)

    prepare()
    with record(tmp_path) as operations:
        move()
    kinds = [operation.label for operation in operations]
    if exchange == "exchange":  # nothing comes between: only the older counts are deleted
        assert kinds == ["unlink staged/counts", "rmdir staged"]
    for fault in (Fault(k, when, error) for k in range(len(kinds)) for when in ("before", "after") for error in ERRORS):
        prepare()
        with inject(fault, tmp_path) as state, suppress(KeyboardInterrupt, SystemExit, OSError):
            move()
        assert state.fired
        assert (place / "counts").read_text() in ("older", "newer"), fault
        prepare()
        move()
        assert (place / "counts").read_text() == "newer"
        assert {path.name for path in tmp_path.iterdir()} <= {"session", "staged.old"}


SLOW = """
import sys, time
from pathlib import Path
import nhdata
from nhdata.derivatives import counts
from nhdata.derivatives.chosen import choose

move = counts._move
def slow(folder, place):
    if place.name == "short":
        print("here", flush=True)
        time.sleep(60)
    move(folder, place)
counts._move = slow
counts.write_counts(choose(nhdata.open(sys.argv[1])), Path(sys.argv[2]), 0.02)
"""


def test_a_killed_run_leaves_whole_sessions_and_is_gone_on_with(store, root, tmp_path):
    out = tmp_path / "c.zarr"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", SLOW, root, out], env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGKILL)
    assert sorted(p.name for p in out.iterdir()) == [".staging", "long", "zarr.json"]
    report = write_counts(choose(store), out, 0.02)
    assert [o.session_id for o in report.skipped] == ["long"]
    (left,) = (out / ".staging").iterdir()
    os.utime(left, (0, 0))  # a day later
    write_counts(choose(store), out, 0.02)
    assert not (out / ".staging").exists()
    np.testing.assert_array_equal(opened(out, "short").counts, store.session("short").counts(0.02))
