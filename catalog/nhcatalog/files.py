"""The few file operations that keep a store, and how a disk does them; `nhcatalog.objects` is an object store."""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from nhcatalog.place import Place

_STATE_OF_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT, errno.ESTALE, errno.ENOMEM, errno.EINTR}
"""Errors of os.link that do not say that a file system lacks hard links."""


class Stat(NamedTuple):
    """What is known of a file without reading it."""

    n_bytes: int
    modified_s: float
    """Seconds since 1970."""


class Files(Protocol):
    """Files of one place by relative name. Reading never creates anything.

    A file appears whole or not at all, is kept for good when a method returns, and is never changed after. A name's
    parts are joined by ``/``.
    """

    root: Place
    """The place; nothing need be there."""

    def locate(self, name: str) -> str:
        """Where the file is, for messages."""
        ...

    def local(self, name: str) -> str:
        """A path on this machine that holds the file's content, for DuckDB to read. Raises FileNotFoundError."""
        ...

    def fetch(self, names: Iterable[str]) -> None:
        """Make `local` and `read` of these files quick: bring what is far away near, many at once, and pass over what
        is not there.
        """
        ...

    def names(self, folder: str) -> list[str]:
        """Names of a folder's files, in no order; empty where there is no folder."""
        ...

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every file of a folder, by name ``<folder>/<file>``; empty where there is none."""
        ...

    def walk(self, folder: str = "") -> dict[str, Stat]:
        """Every file of a folder and of those below it, by name ``<folder>/…/<file>``."""
        ...

    def read(self, name: str) -> bytes:
        """The file's content. Raises FileNotFoundError."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file under a name that nobody else uses."""
        ...

    def create(self, name: str, content: bytes) -> None:
        """Write a file if none has the name: of several writers at once, one succeeds.

        Raises
        ------
        FileExistsError
            If the name is taken.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a file; one that is gone already is no error."""
        ...


class LocalFiles:
    """`Files` of a folder of this machine.

    Parameters
    ----------
    root : path
        It need not exist.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root: Place = Path(root).absolute()
        self._folder = self.root

    def locate(self, name: str) -> str:
        return str(self._folder / name)

    def local(self, name: str) -> str:
        return str(self._folder / name)

    def fetch(self, names: Iterable[str]) -> None:
        pass

    def names(self, folder: str) -> list[str]:
        try:
            return os.listdir(self._folder / folder)
        except FileNotFoundError:
            return []

    def sizes(self, folder: str) -> dict[str, int]:
        return {f"{folder}/{name}": stat.st_size for name, stat in self._stats(self._folder / folder)}

    def walk(self, folder: str = "") -> dict[str, Stat]:
        found = {}
        for parent, _, _ in os.walk(self._folder / folder):
            for name, stat in self._stats(Path(parent)):
                path = Path(parent, name).relative_to(self._folder).as_posix()
                found[path] = Stat(stat.st_size, stat.st_mtime)
        return found

    @staticmethod
    def _stats(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
        """Names and what is known of the files of a folder; one that goes meanwhile is left out."""
        with suppress(FileNotFoundError), os.scandir(folder) as found:
            for file in found:
                with suppress(FileNotFoundError):
                    if file.is_file():
                        yield file.name, file.stat()

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        temporary = self._write_temporary(name, content)
        os.rename(temporary, self._folder / name)
        _sync_folder(temporary.parent)

    def create(self, name: str, content: bytes) -> None:
        """As `Files.create`. On a file system without hard links, only writers of one machine are kept apart."""
        target = self._folder / name
        temporary = self._write_temporary(name, content)
        try:
            os.link(temporary, target)
        except FileExistsError:
            # NFS may repeat a request whose answer was lost and then report our own link as somebody else's.
            if not os.path.samefile(temporary, target):
                raise
        except OSError:
            if has_hard_links(target.parent):
                raise
            _rename_if_absent(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)

    def delete(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def _write_temporary(self, name: str, content: bytes) -> Path:
        folder = (self._folder / name).parent
        _make_folder(folder)
        temporary = folder / f".{uuid.uuid4().hex}.tmp"
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return temporary


def has_hard_links(folder: Path) -> bool:
    """Whether the file system of a folder has hard links: tried with a file that is removed again.

    exFAT, SMB and some FUSE file systems have none, and fail with one of many error numbers. True also where no file
    can be written, because nothing is known then.
    """
    probe = folder / f".{uuid.uuid4().hex}.tmp"
    linked = probe.with_suffix(".link.tmp")
    try:
        probe.touch(exist_ok=False)
    except OSError:
        return True
    try:
        os.link(probe, linked)
    except OSError as error:
        return error.errno in _STATE_OF_DISK
    finally:
        for path in (probe, linked):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return True


def _rename_if_absent(temporary: Path, target: Path) -> None:
    """Rename a file if no file has the target's name; processes of this machine wait for each other.

    Raises
    ------
    FileExistsError
        If the name is taken.
    """
    with _locked(target.parent):
        if os.path.lexists(target):
            raise FileExistsError(target)
        os.rename(temporary, target)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """An exclusive lock of a folder between all threads and processes of this machine; it ends with its process."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
