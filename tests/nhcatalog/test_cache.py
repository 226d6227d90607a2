"""Copies of files from far away: whole, bounded, shared by processes."""

import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
from pathlib import Path

import faults
import pytest

from nhcatalog.cache import IN_USE_S, Cache, default_cache
from nhcatalog.errors import UserError


def no_fetch() -> bytes:
    raise AssertionError("fetched again")


def giving(content: bytes) -> Callable[[], bytes]:
    return lambda: content


def test_a_copy_is_found_by_address_version_and_size(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "made", 1000)
    assert cache.find("a", "1", 3) is None
    path = cache.add("a", "1", 3, giving(b"one"))
    assert path.read_bytes() == b"one"
    assert cache.find("a", "1", 3) == cache.add("a", "1", 3, no_fetch) == path
    assert cache.find("a", "2", 3) is cache.find("b", "1", 3) is cache.find("a", "1", 4) is None
    assert os.listdir(tmp_path / "made") == [path.name]
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0


def test_what_is_cut_short_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    with pytest.raises(UserError, match="2 bytes came of 3"):
        cache.add("a", "1", 3, giving(b"on"))
    assert os.listdir(tmp_path) == []
    cache.add("a", "1", 3, giving(b"one")).write_bytes(b"o")
    assert cache.find("a", "1", 3) is None
    assert cache.add("a", "1", 3, giving(b"one")).read_bytes() == b"one"


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 100)
    paths = [cache.add(f"{k}", "1", 30, giving(b"x" * 30)) for k in range(5)]
    for age_s, path in zip((500, 400, 300, 200, 100), paths, strict=True):
        os.utime(path, (time.time() - age_s,) * 2)
    assert cache.find("0", "1", 30) == paths[0]  # the oldest is used again
    cache.shrink()
    assert [path.exists() for path in paths] == [True, False, False, True, True]


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10)
    paths = [cache.add(f"{k}", "1", 30, giving(b"x" * 30)) for k in range(5)]
    cache.shrink()
    assert all(path.exists() for path in paths)
    cache.shrink(now_s=time.time() + IN_USE_S + 1)
    assert not any(path.exists() for path in paths)


def test_adding_looks_after_the_bound(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    for k in range(100):
        path = cache.add(f"{k}", "1", 100, giving(b"x" * 100))
        os.utime(path, (k, k))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000 + 1000 // 8 + 100


def test_many_who_want_one_file_fetch_it_once(tmp_path: Path) -> None:
    fetched = []
    everybody = threading.Barrier(8)

    def fetch() -> bytes:
        fetched.append(threading.get_ident())
        time.sleep(0.05)
        return b"one"

    def want(_: int) -> bytes:
        cache = Cache(tmp_path, 1000)
        everybody.wait()
        return cache.add("a", "1", 3, fetch).read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(want, range(8))) == {b"one"}
    assert len(fetched) == 1
    assert len(os.listdir(tmp_path)) == 1


def test_when_one_fails_the_next_tries(tmp_path: Path) -> None:
    turns = iter([OSError("connection lost"), b"one"])

    def fetch() -> bytes:
        turn = next(turns)
        if isinstance(turn, OSError):
            raise turn
        return turn

    cache = Cache(tmp_path, 1000)
    with pytest.raises(OSError, match="connection lost"):
        cache.add("a", "1", 3, fetch)
    assert cache.add("a", "1", 3, fetch).read_bytes() == b"one"


def test_a_part_that_a_dead_process_left_does_no_harm(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    path = cache.add("a", "1", 3, giving(b"one"))
    path.rename(path.with_name(f".{path.name}.part"))
    assert cache.find("a", "1", 3) is None
    assert cache.add("a", "1", 3, giving(b"two")).read_bytes() == b"two"
    assert os.listdir(tmp_path) == [path.name]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(UserError, match=r"cannot keep copies there .*NHDATA_CACHE"):
            Cache(folder, 1000).add("a", "1", 3, giving(b"one"))

    def full(*paths: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(UserError, match="No space left"):
        Cache(tmp_path / "full", 1000).add("a", "1", 3, giving(b"one"))
    assert os.listdir(tmp_path / "full") == []


def test_the_environment_says_where_and_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NHDATA_CACHE", "NHDATA_CACHE_GB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert (default_cache().folder, default_cache().bound) == (tmp_path / "nhdata", 10_000_000_000)
    monkeypatch.setenv("NHDATA_CACHE", str(tmp_path / "x"))
    monkeypatch.setenv("NHDATA_CACHE_GB", "0.5")
    assert (default_cache().folder, default_cache().bound) == (tmp_path / "x", 500_000_000)
    for text in ("0", "-1", "much", "inf", "nan"):
        monkeypatch.setenv("NHDATA_CACHE_GB", text)
        with pytest.raises(UserError, match="positive number"):
            default_cache()


def test_exceptions_at_any_file_operation_of_a_copy(tmp_path: Path) -> None:
    def copy(folder: Path) -> Path:
        return Cache(folder, 1000).add("a", "1", 3, giving(b"one"))

    with faults.record(tmp_path) as operations:
        name = copy(tmp_path / "whole").name
    assert {operation.kind for operation in operations} == {"mkdir", "open", "rename"}
    for k, error, when in product(range(len(operations)), faults.ERRORS, ("before", "after")):
        folder = tmp_path / f"{k}{error.__name__}{when}"
        with faults.inject(faults.Fault(k, when, error), tmp_path) as state, suppress(error, UserError):  # type: ignore[arg-type]
            copy(folder)
        assert state.fired
        there = Cache(folder, 1000).find("a", "1", 3)
        assert there is None or there.read_bytes() == b"one"
        assert copy(folder).read_bytes() == b"one"
        assert os.listdir(folder) == [name]
