"""Download one file so that it is there whole or not at all, going on where an earlier attempt stopped."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from nhdata.sources._http import Http, NetworkError, PassingTrouble

CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on a server.

    Attributes
    ----------
    url : str
    size : int
        Bytes.
    md5 : str or None
        MD5 of the content by the server, in hex, where known.
    digest : str or None
        MD5 or SHA-1 of the content by the database, in hex, where known.
    """

    url: str
    size: int
    md5: str | None = None
    digest: str | None = None


def download(http: Http, file: RemoteFile, target: Path) -> bool:
    """Bring `file` to `target`, by way of ``<target>.part``, which a later call continues.

    Size and, where known, the checksums are checked before the file gets its name. A whole file is left as it is; one
    that differs is replaced.

    Returns
    -------
    bool
        Whether anything was downloaded.

    Raises
    ------
    NetworkError
        If the file does not arrive whole in all attempts, or the server and the database disagree about it.
    """
    if target.is_file() and _is_whole(target, file):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        part.touch()
        http.patiently(file.url, lambda: _go_on(http, file, part), lambda: part.stat().st_size)
        os.replace(part, target)
    except BaseException:
        if part.is_file() and part.stat().st_size == 0:
            part.unlink()
        raise
    return True


def _go_on(http: Http, file: RemoteFile, part: Path) -> None:
    have = part.stat().st_size
    if have > file.size:
        os.truncate(part, have := 0)
    if have < file.size:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with http.open(file.url, headers=headers) as response:
            goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            have = have if response.status_code == 206 and goes_on else 0
            with part.open("r+b") as out:
                out.truncate(have)
                out.seek(have)
                for chunk in response.iter_content(CHUNK_BYTES):
                    have += len(chunk)
                    if have > file.size:
                        break
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
    if have != file.size:
        raise PassingTrouble(f"sent {have} of {file.size} bytes")
    if not _is_whole(part, file):
        os.truncate(part, 0)
        problem = f"arrived damaged: its {_kind(file.digest or file.md5)} differs"
        raise PassingTrouble(problem, remedy="try again; the damaged file was deleted", outage=False)


def _is_whole(path: Path, file: RemoteFile) -> bool:
    if path.stat().st_size != file.size:
        return False
    if file.digest is None:
        return file.md5 is None or _digest(path, file.md5) == file.md5
    if _digest(path, file.digest) == file.digest:
        return True
    if file.md5 is not None and _digest(path, file.md5) == file.md5:
        if path.suffix == ".part":
            os.truncate(path, 0)
        problem = f"the database has another {_kind(file.digest)} ({file.digest}) than the file in the bucket"
        raise NetworkError(file.url, problem, "report it to IBL, or leave this session out")
    return False


def _kind(digest: str | None) -> str:
    return "SHA-1" if digest is not None and len(digest) == 40 else "MD5"


def _digest(path: Path, like: str) -> str:
    """Return the digest of a file, of the kind that `like` is."""
    name = "sha1" if len(like) == 40 else "md5"
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.new(name, usedforsecurity=False)).hexdigest()
