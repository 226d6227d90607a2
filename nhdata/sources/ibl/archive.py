"""Files inside a tar archive or a folder, read in memory: nothing is ever unpacked to disk."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from nhdata.sources import SourceError
from nhdata.sources._files import AGAIN, one_line

MAX_MEMBER_BYTES = 1 << 30
NOT_OURS = "do not use it; download the archive again from where it was published"


@dataclass(frozen=True, slots=True)
class Archive:
    """Members of a tar archive or files of a folder.

    Attributes
    ----------
    path : Path
    places : mapping of str to (int, int)
        Offset and size of each member in the tar archive, or 0 and size of each file in the folder, by name.
    """

    path: Path
    places: Mapping[str, tuple[int, int]]

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def where(self, name: str) -> str:
        """A member's name for messages."""
        return f"{self.path}/{name}"

    def read(self, name: str, max_bytes: int = MAX_MEMBER_BYTES) -> bytes:
        """All bytes of a member.

        Raises
        ------
        SourceError
            If there is no such member, or it is larger than `max_bytes`.
        """
        if name not in self.places:
            raise SourceError(self.where(name), "no such file", AGAIN)
        offset, size = self.places[name]
        if size > max_bytes:
            raise SourceError(self.where(name), f"{size} bytes are too many for such a file", NOT_OURS)
        with (self.path if self.path.is_file() else self.path / name).open("rb") as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) != size:
            raise SourceError(self.where(name), f"truncated: {len(content)} of {size} bytes", AGAIN)
        return content


def open_archive(path: Path) -> Archive:
    """List a tar archive (not compressed) or a folder.

    Raises
    ------
    SourceError
        If it is damaged, or a member is a link, a device, or named by a path that leads elsewhere.
    """
    if path.is_dir():
        return Archive(path, _folder_places(path))
    return Archive(path, _tar_places(path, path.stat().st_mtime_ns, path.stat().st_size))


def _folder_places(root: Path) -> dict[str, tuple[int, int]]:
    places = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                places[path.relative_to(root).as_posix()] = (0, path.stat().st_size)
    return places


@lru_cache(maxsize=4)
def _tar_places(path: Path, mtime_ns: int, n_bytes: int) -> dict[str, tuple[int, int]]:
    places = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts or not (member.isreg() or member.isdir()):
                    problem = f"holds '{member.name[:100]}', a link or a path that leads out of the archive"
                    raise SourceError(path, problem, NOT_OURS)
                if member.issparse() or member.offset_data + member.size > n_bytes:
                    raise SourceError(path, f"truncated or damaged at '{member.name[:100]}'", AGAIN)
                if member.isreg():
                    places[name.as_posix()] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise SourceError(path, f"not a readable tar archive ({one_line(error)})", AGAIN) from error
    return places
