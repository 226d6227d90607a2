"""Copies of immutable files from far away, in one bounded folder that all processes of a user share.

``$NHDATA_CACHE`` names the folder (else ``nhdata`` in ``$XDG_CACHE_HOME`` or ``~/.cache``), ``$NHDATA_CACHE_GB`` the
gigabytes that it may hold (10). It may be removed at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from nhcatalog.errors import UserError

DEFAULT_GB = 10.0
IN_USE_S = 60.0
"""What was asked for this recently is not removed: a query may be about to open it."""

_LOOK_AFTER_BYTES = 64 * 2**20


class Cache:
    """Files by the address and version they are a copy of; the least recently used go first.

    Any number of processes may use it at once: a file appears whole, and is fetched by one of those who want it while
    the others wait.

    Parameters
    ----------
    folder : Path
    bound : int
        Bytes to keep.
    """

    def __init__(self, folder: Path, bound: int) -> None:
        self.folder = folder
        self.bound = bound
        self._since_look = bound

    def find(self, address: str, version: str, n_bytes: int) -> Path | None:
        """The copy of that version, if it is here and whole; marks it as used."""
        path = self._path(address, version)
        try:
            os.utime(path)
            return path if path.stat().st_size == n_bytes else None
        except FileNotFoundError:
            return None

    def add(self, address: str, version: str, n_bytes: int, fetch: Callable[[], bytes]) -> Path:
        """The copy of that version, fetched unless another process brings it meanwhile.

        Raises
        ------
        UserError
            If what is fetched has not `n_bytes` bytes, or the folder cannot be written.
        """
        path = self._path(address, version)
        with self._errors():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = _Part(path.with_name(f".{path.name}.part"))
        with part:
            found = self.find(address, version, n_bytes)
            if found is not None:
                return found
            content = fetch()
            if len(content) != n_bytes:
                raise UserError(f"{address}: {len(content)} bytes came of {n_bytes}", "try again")
            with self._errors():
                part.publish(content, path)
        self._since_look += n_bytes
        if self._since_look > min(_LOOK_AFTER_BYTES, self.bound // 8):
            self._since_look = 0
            self.shrink()
        return path

    def shrink(self, now_s: float | None = None) -> None:
        """Remove what was used longest ago until the bound holds."""
        oldest_in_use = (time.time() if now_s is None else now_s) - IN_USE_S
        with os.scandir(self.folder) as found:
            files = sorted((stat.st_mtime, stat.st_size, file.path) for file in found if (stat := _stat(file)))
        too_many = sum(size for _, size, _ in files) - self.bound
        for used_s, size, path in files:
            if too_many <= 0 or used_s > oldest_in_use:
                break
            Path(path).unlink(missing_ok=True)
            too_many -= size

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = "name another folder in $NHDATA_CACHE, or a smaller bound in $NHDATA_CACHE_GB"
            raise UserError(f"{self.folder}: cannot keep copies there ({error.strerror})", remedy) from None

    def _path(self, address: str, version: str) -> Path:
        digest = hashlib.sha256(f"{address}\n{version}".encode()).hexdigest()
        return self.folder / digest[:40]


def default_cache() -> Cache:
    """The cache that the environment names.

    Raises
    ------
    UserError
        If ``$NHDATA_CACHE_GB`` is not a positive number.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.environ.get("NHDATA_CACHE") or os.path.join(base, "nhdata")
    return _cache(folder, os.environ.get("NHDATA_CACHE_GB") or str(DEFAULT_GB))


@lru_cache(maxsize=16)
def _cache(folder: str, gigabytes: str) -> Cache:
    try:
        bound = int(float(gigabytes) * 1e9)
    except (ValueError, OverflowError):
        bound = 0
    if bound <= 0:
        raise UserError(f"NHDATA_CACHE_GB={gigabytes}", "give a positive number of gigabytes")
    return Cache(Path(folder), bound)


class _Part:
    """A file in the making, of one process and thread at a time: another that wants it waits here."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._published = False
        while True:
            self._file = open(path, "wb")  # noqa: SIM115 - closed by __exit__
            fcntl.flock(self._file, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._file.fileno()), path.stat()):
                    return
            self._file.close()  # who held it before moved it into place

    def __enter__(self) -> None:
        pass

    def publish(self, content: bytes, path: Path) -> None:
        self._file.write(content)
        self._file.flush()
        os.rename(self._path, path)
        self._published = True

    def __exit__(self, *exc: object) -> None:
        if not self._published:
            self._path.unlink(missing_ok=True)
        with suppress(OSError):  # what a full disk did not take
            self._file.close()


def _stat(file: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return file.stat() if file.is_file() else None
    except FileNotFoundError:
        return None
