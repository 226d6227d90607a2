"""Files appear whole or not at all; one of several writers wins."""

import errno
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nhcatalog.catalog import Catalog
from nhcatalog.files import LocalFiles, has_hard_links
from nhcatalog.fragment import parquet_file, read_rows


def test_create_leaves_the_first(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path / "a" / "b")
    files.create("log/1", b"first")
    with pytest.raises(FileExistsError):
        files.create("log/1", b"second")
    assert files.read("log/1") == b"first"
    assert files.names("log") == ["1"]


def test_sizes_and_missing_folder(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    files.write("fragments/x", b"123")
    assert files.sizes("fragments") == {"fragments/x": 3}
    assert files.sizes("log") == {}
    assert files.names("log") == []


def test_a_link_whose_answer_was_lost_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def answer_lost(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(target)

    monkeypatch.setattr(os, "link", answer_lost)
    LocalFiles(tmp_path).create("log/1", b"mine")
    assert LocalFiles(tmp_path).read("log/1") == b"mine"


@pytest.mark.parametrize("number", ["EPERM", "EOPNOTSUPP", "ENOSYS", "EXDEV", "EACCES", "EIO", "EINVAL", "EMLINK"])
def test_create_works_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    files = LocalFiles(tmp_path)
    assert has_hard_links(tmp_path)
    monkeypatch.setattr(os, "link", refuse)
    assert not has_hard_links(tmp_path)
    files.create("log/1", b"first")
    with pytest.raises(FileExistsError):
        files.create("log/1", b"second")
    assert files.read("log/1") == b"first"
    assert list(files.walk()) == ["log/1"]


def test_one_failed_link_is_an_error_where_links_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine may be writing, from which only links keep this one apart."""
    link, failures = os.link, [OSError(errno.EIO, "Input/output error")]

    def fail_once(source: Path, target: Path) -> None:
        if failures:
            raise failures.pop()
        link(source, target)

    monkeypatch.setattr(os, "link", fail_once)
    with pytest.raises(OSError, match="Input/output error"):
        LocalFiles(tmp_path).create("log/1", b"")
    assert not LocalFiles(tmp_path).walk()


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EROFS"])
def test_full_disk_is_not_taken_for_one_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(getattr(errno, number), number)

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match=number):
        LocalFiles(tmp_path).create("log/1", b"")
    assert not LocalFiles(tmp_path).walk()


def test_writers_without_hard_links_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both look whether the name is taken before either renames, unless the lock holds one of them back."""
    looking = threading.Barrier(2)

    def look(path: Path, exists: Callable[[Path], bool] = os.path.lexists) -> bool:
        found = exists(path)
        with suppress(threading.BrokenBarrierError):
            looking.wait(0.3)
        return found

    def create(content: bytes) -> bool:
        try:
            LocalFiles(tmp_path).create("log/1", content)
        except FileExistsError:
            return False
        return True

    (tmp_path / "log").mkdir()
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError(errno.EPERM, "Operation not permitted")))
    monkeypatch.setattr(os.path, "lexists", look)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(create, [b"one", b"other"])) == [False, True]


WITHOUT_LINKS = """
import errno, os, sys
from pathlib import Path

def refuse(source, target):
    raise OSError(errno.EPERM, "Operation not permitted")

os.link = refuse
from storm_processes import write
write(Path(sys.argv[1]), sys.argv[2], 25, Path("/dev/stdout"), 8)
"""


def test_storm_of_writers_without_hard_links(tmp_path: Path) -> None:
    """Four processes of one machine commit and compact; one is killed in the middle and runs again."""
    path, names = tmp_path / "catalog", [f"w{k}" for k in range(4)]

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WITHOUT_LINKS, str(path), name]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    writers = [start(name) for name in names]
    victim = writers[0]
    assert victim.stdout is not None
    said = [victim.stdout.readline() for _ in range(5)]
    victim.kill()
    said += victim.communicate()[0].splitlines(keepends=True)
    writers[0] = start(names[0])
    for writer in writers:
        said += writer.communicate()[0].splitlines(keepends=True)
        assert writer.returncode == 0
    catalog = Catalog(path)
    expected = sorted(f"{name}-{k:03d}" for name in names for k in range(25))
    acknowledged = [line.strip() for line in said]
    assert len(acknowledged) == len(set(acknowledged))
    assert set(acknowledged) <= set(expected)
    assert sorted(catalog.log()["session_id"].to_pylist()) == expected
    assert sorted(catalog.snapshot().entries) == expected
    assert catalog.verify() == []
    (counted,) = catalog.snapshot().sql("select count(*) as n, count(distinct unit_id) as m from units").to_pylist()
    assert counted == {"n": 300, "m": 300}


def test_what_is_read_from_memory_is_let_go_before_reading_returns() -> None:
    """A thread that let go of it later, while the process ends, would abort the process."""
    rows = pa.table({"unit_id": [f"s/{i}" for i in range(2000)], "n": range(2000)})
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    for _ in range(50):
        content = np.frombuffer(sink.getvalue(), np.uint8).copy()
        held = weakref.ref(content)
        assert read_rows(content, ["unit_id"]).num_rows == 2000
        assert sum(batch.num_rows for batch in parquet_file(content).iter_batches(use_threads=False)) == 2000
        del content
        assert held() is None
