"""Several processes write one catalog at once, and writers are killed at any moment."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nhcatalog.errors
from nhcatalog.catalog import Catalog

WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
import pyarrow as pa
from nhcatalog.catalog import Catalog, SessionExists

_, _, path, name, first, last, shared = sys.argv
catalog = Catalog(path)
print("ready", flush=True)
sys.stdin.readline()


def add(session_id):
    units = pa.table({"unit_id": [f"{session_id}:0"], "session_id": [session_id], "probe": [name]})
    catalog.add({"session_id": session_id}, {"units": units}, f"sessions/{session_id}", "hash")


for k in range(int(first), int(last)):
    add(f"{name}-{k}")
    if shared:
        try:
            add(f"shared-{k}")
        except SessionExists:
            pass
"""


def start_writer(path: Path, name: str, first: int, last: int, shared: bool = False) -> subprocess.Popen[str]:
    """A process that waits for a line on stdin, then adds sessions ``<name>-<first>`` up to `last`."""
    code_folder = str(Path(nhcatalog.errors.__file__).parent.parent)
    arguments = [code_folder, str(path), name, str(first), str(last), "shared" if shared else ""]
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    return writer


def go(writer: subprocess.Popen[str]) -> None:
    assert writer.stdin is not None
    writer.stdin.write("go\n")
    writer.stdin.flush()


def finish(writer: subprocess.Popen[str]) -> int:
    with writer:
        return writer.wait()


def log_names(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path / "log") if not name.startswith("."))


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    names, n = ["w0", "w1", "w2", "w3"], 12
    writers = [start_writer(tmp_path, name, 0, n, shared=True) for name in names]
    for writer in writers:
        go(writer)
    assert [finish(writer) for writer in writers] == [0] * len(writers)

    expected = {f"{name}-{k}" for name in [*names, "shared"] for k in range(n)}
    assert log_names(tmp_path) == [f"{k:010d}.json" for k in range(1, len(expected) + 1)]
    snapshot = Catalog(tmp_path).snapshot()
    assert set(snapshot.entries) == expected
    assert sorted(entry.position for entry in snapshot.entries.values()) == list(range(1, len(expected) + 1))
    # A shared session was added by one writer; the rows that show are that writer's and nobody else's.
    found = snapshot.sql("SELECT count(*) AS n, count(DISTINCT session_id) AS n_sessions FROM units").to_pylist()
    assert found == [{"n": len(expected), "n_sessions": len(expected)}]


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_leaves_a_whole_catalog(tmp_path: Path, seed: int) -> None:
    writer = start_writer(tmp_path, "w", 0, 10_000)
    go(writer)
    while not (tmp_path / "log").is_dir() or not log_names(tmp_path):
        time.sleep(0.001)
    time.sleep(random.Random(seed).uniform(0, 0.15))
    writer.kill()
    assert finish(writer) == -9

    catalog = Catalog(tmp_path)
    snapshot = catalog.snapshot()
    assert snapshot.position == len(log_names(tmp_path)) > 0
    assert set(snapshot.entries) == {f"w-{k}" for k in range(snapshot.position)}
    assert catalog.verify() == []
    assert snapshot.sql("FROM units").num_rows == snapshot.position
    assert catalog.add({"session_id": "next"}, {}, "sessions/next", "hash") == snapshot.position + 1
