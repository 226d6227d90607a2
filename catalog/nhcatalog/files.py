"""The few file operations a catalog needs; another place to keep one needs only these."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path

from nhcatalog.errors import UserError

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class Files:
    """Files of one folder by relative name. Reading never creates anything.

    A file appears whole or not at all, is on the disk when a method returns, and is never changed after.

    Parameters
    ----------
    root : path
        The folder; it need not exist.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()

    def locate(self, name: str) -> str:
        """Where the file is, for messages."""
        return str(self.root / name)

    def local(self, name: str) -> str:
        """A path on this machine that holds the file's content, for DuckDB to read."""
        return str(self.root / name)

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every file of a folder, by name ``<folder>/<file>``; empty where there is none."""
        try:
            with os.scandir(self.root / folder) as found:
                return {f"{folder}/{file.name}": file.stat().st_size for file in found if file.is_file()}
        except FileNotFoundError:
            return {}

    def names(self, folder: str) -> list[str]:
        """Names of a folder's files, in no order; empty where there is no folder."""
        try:
            return os.listdir(self.root / folder)
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes:
        """The file's content. Raises FileNotFoundError."""
        return (self.root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write a file under a name that nobody else uses."""
        temporary = self._write_temporary(name, content)
        os.rename(temporary, self.root / name)
        _sync_folder(temporary.parent)

    def create(self, name: str, content: bytes) -> None:
        """Write a file if none has the name: of several writers at once, one succeeds.

        Raises
        ------
        FileExistsError
            If the name is taken.
        UserError
            If the file system has no hard links, which make this safe.
        """
        target = self.root / name
        temporary = self._write_temporary(name, content)
        try:
            os.link(temporary, target)
        except FileExistsError:
            # NFS may repeat a request whose answer was lost and then report our own link as somebody else's.
            if not os.path.samefile(temporary, target):
                raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise UserError(f"{self.root}: this file system has no hard links", "keep the store on another") from None
        finally:
            temporary.unlink()
        _sync_folder(target.parent)

    def delete(self, name: str) -> None:
        """Remove a file; one that is gone already is no error."""
        (self.root / name).unlink(missing_ok=True)

    def _write_temporary(self, name: str, content: bytes) -> Path:
        folder = (self.root / name).parent
        _make_folder(folder)
        temporary = folder / f".{uuid.uuid4().hex}.tmp"
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return temporary


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
