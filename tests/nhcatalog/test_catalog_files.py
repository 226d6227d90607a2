"""Files appear whole or not at all; one of several writers wins."""

import errno
import os
import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nhcatalog.errors import UserError
from nhcatalog.files import LocalFiles
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


def test_no_hard_links_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UserError, match="no hard links"):
        LocalFiles(tmp_path).create("log/1", b"")
    assert LocalFiles(tmp_path).names("log") == []


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
