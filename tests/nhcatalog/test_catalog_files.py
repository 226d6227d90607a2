"""Files appear whole or not at all; one of several writers wins."""

import errno
import os
from pathlib import Path

import pytest

from nhcatalog.errors import UserError
from nhcatalog.files import LocalFiles


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
