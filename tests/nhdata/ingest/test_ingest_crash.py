"""A writer may fail, be interrupted or be killed at any moment: no session is ever seen in part."""

import errno
import os
import shutil
import subprocess
import sys

import pytest

import nhdata
import nhdata.store.publish
from nhcatalog.catalog import Catalog
from nhdata.ingest import ingest
from nhdata.store.sweep import sweep
from nhdata.store.validate import validate


def staging(root):
    return list((root / "sessions").glob(".staging/*"))


class FullDisk:
    """An `os.fsync` that finds the disk full after some calls."""

    def __init__(self, calls_left):
        self.calls_left = calls_left
        self.fsync = os.fsync

    def __call__(self, handle):
        self.calls_left -= 1
        if self.calls_left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.fsync(handle)


def test_a_full_disk_is_a_failure_and_changes_nothing(root, sortings, tree, monkeypatch):
    ingest(root, "phy", [sortings / "a"])
    before = tree(root)
    monkeypatch.setattr(os, "fsync", FullDisk(0))
    report = ingest(root, "phy", [sortings])
    assert (report.ingested, len(report.skipped), len(report.failed)) == ([], 1, 2)
    assert "No space left on device: check the disk" in report.failed[0].error
    assert tree(root) == before


def test_a_disk_that_fills_up_at_any_point_costs_only_the_session_at_hand(root, sortings, hashes, monkeypatch):
    ingest(root, "phy", [sortings / "a"])
    count = FullDisk(10**9)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", count)
        ingest(root, "phy", [sortings / "b"])
    n_calls = 10**9 - count.calls_left
    assert n_calls > 40
    before, position = hashes(root), nhdata.open(root).position
    # the last call syncs the log's folder, after the entry is there: a failure then is told, and the session is in
    for n in [1, n_calls // 2, *range(n_calls - 6, n_calls - 1)]:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", FullDisk(n))
            report = ingest(root, "phy", [sortings / "c"])
        assert len(report.failed) == 1
        assert hashes(root) == before
        assert nhdata.open(root).position == position
        assert staging(root) == []
    assert len(ingest(root, "phy", [sortings / "c"]).ingested) == 1
    assert len(hashes(root)) == 3


def test_an_interruption_while_writing_leaves_no_staging(root, sortings, hashes, monkeypatch):
    ingest(root, "phy", [sortings / "a"])
    before = hashes(root)

    def interrupt(folder):
        assert staging(root) == [folder]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nhdata.store.publish, "sync_tree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ingest(root, "phy", [sortings])
    assert hashes(root) == before
    assert sorted(os.listdir(root / "sessions")) == ["phy", "zarr.json"]
    assert len(ingest(root, "phy", [sortings]).ingested) == 2


def test_a_session_that_was_moved_but_not_committed_does_not_exist_and_is_swept(root, sortings, tree, monkeypatch):
    def power_cut(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "add", power_cut)
        with pytest.raises(KeyboardInterrupt):
            ingest(root, "phy", [sortings / "a"])
    assert nhdata.open(root).session_ids == []
    (orphan,) = (path for path in (root / "sessions" / "phy").iterdir() if path.is_dir())
    before = tree(orphan)
    assert sweep(root, grace_s=0).leftovers == []  # no session of that id is in the catalog: it may have been lost
    (done,) = ingest(root, "phy", [sortings / "a"]).ingested
    path = nhdata.open(root).session(done.session_id).path
    assert path != orphan
    assert tree(orphan) == before
    assert sweep(root, grace_s=0).leftovers == [orphan]
    assert sorted(os.listdir(root / "sessions" / "phy")) == sorted([path.name, "zarr.json"])


KILLED_WRITERS = """
import os, random, signal, sys
from pathlib import Path

import nhdata.features.reference, nhdata.sources.phy.source, nhdata.store.session
from nhdata.ingest import ingest

EVENTS = {"open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.listdir"}


def writer(store, source, last):
    "Ingest, and die at the file operation `last` in the store; returns how many there were."
    seen = 0

    def hook(event, args):
        nonlocal seen
        if event in EVENTS and isinstance(args[0], (str, os.PathLike)) and str(args[0]).startswith(str(store)):
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    ingest(store, "phy", [source])
    return seen


def forked(store, source, last):
    "The wait status of a writer, and how many file operations it did if it lived."
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, str(writer(store, source, last)).encode())
        os._exit(0)
    os.close(write)
    return os.waitpid(child, 0)[1], int(os.read(read, 20) or 0)


os.fsync = lambda handle: None  # a kill, unlike a power cut, loses nothing that was written
folder, source, n_kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
status, n_operations = forked(folder / "whole.zarr", source, 0)
assert status == 0 and n_operations > 200
last = sorted(random.Random(1).sample(range(1, n_operations), n_kills))
for n in last:
    status, _ = forked(folder / f"{n}.zarr", source, n)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
print(n_operations, *last)
"""


def test_after_a_kill_at_any_moment_the_store_is_sound_and_a_second_run_completes_it(tmp_path, sortings, hashes):
    shutil.rmtree(sortings / "c")
    output = subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLED_WRITERS, tmp_path, sortings, "30"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    whole = hashes(tmp_path / "whole.zarr")
    assert len(whole) == 2
    committed, swept = [], 0
    for k, last in enumerate(output.split()[1:]):
        root = tmp_path / f"{last}.zarr"
        if (root / "zarr.json").exists():
            assert validate(root, deep=True) == []
            found = {row["session_id"]: row["content_hash"] for row in rows_of(root)}
            assert found.items() <= whole.items()
            committed.append(len(found))
            if k % 2:  # sweeping is as good before the second run as after it
                swept += len(sweep(root, grace_s=0).leftovers)
        report = ingest(root, "phy", [sortings])
        assert report.failed == []
        swept += len(sweep(root, grace_s=0).leftovers)
        assert {row["session_id"]: row["content_hash"] for row in rows_of(root)} == whole
        assert list((root / "sessions").glob(".staging/*")) == []
        assert len(list((root / "sessions" / "phy").iterdir())) == 1 + len(whole)
    assert {0, 1} <= set(committed)  # some were killed before the first commit and some after
    assert swept > 0


def rows_of(root):
    return nhdata.open(root).sql("select session_id, content_hash from sessions").to_pylist()
