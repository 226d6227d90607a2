"""Where a store, or a part of one, lies: a folder of this machine, or an address in an object store."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from nhcatalog.errors import UserError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True, order=True)
class Url:
    """An address in an object store; joined with ``/`` and shown with `str`, as a `Path` is.

    Attributes
    ----------
    bucket : str
    key : str
        Its parts are joined by ``/``, none of them empty; characters stand for themselves (``%20`` is no blank).

    Examples
    --------
    >>> str(Url("lab", "2024/data.zarr") / "catalog")
    's3://lab/2024/data.zarr/catalog'
    """

    bucket: str
    key: str = ""

    def __truediv__(self, name: str) -> Url:
        return Url(self.bucket, self.key_of(name))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"

    def key_of(self, name: str) -> str:
        """The key of what lies at a relative name under this address; '' is the address itself.

        Raises
        ------
        ValueError
            If the name has an empty part, ``.`` or ``..``, and so might lead out.
        """
        if name and not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise ValueError(f"name {name!r} is not inside {self}")
        return "/".join(part for part in (self.key, name) if part)


Place = Path | Url
AnyPlace = str | os.PathLike[str] | Url
"""What functions take for a place; `to_place` tells which it is."""


def to_place(place: AnyPlace) -> Place:
    """The place that a user means: an absolute path, or ``s3://bucket/key``.

    A relative path is resolved now, so that it stays valid after a change of the working directory and in other
    processes.

    Raises
    ------
    UserError
        If it is a URL of another kind, or one that names no bucket.

    Examples
    --------
    >>> to_place("s3://lab/data.zarr/")
    Url(bucket='lab', key='data.zarr')
    """
    if isinstance(place, Url):
        return place
    text = os.fspath(place)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return Path(os.path.expanduser(text)).absolute()  # as no shell does in --store=~/data.zarr or a variable
    if scheme[1].lower() != "s3" or not text[scheme.end() :].startswith("/"):
        if Path(text).parent.is_dir():  # a folder named "x:"
            return Path(text).absolute()
        raise UserError(f"{text} is no place for a store", "give a folder, or the text 's3://bucket/key'")
    bucket, _, key = text[scheme.end() + 1 :].partition("/")
    parts = [part for part in key.split("/") if part]
    if not _BUCKET.fullmatch(bucket):
        raise UserError(
            f"{text} names no bucket", "s3://bucket/key; a bucket's name has 3 to 63 of a-z, 0-9, '-' and '.'"
        )
    if "." in parts or ".." in parts or any(ord(c) < 32 or c in "\\\x7f" for c in key):
        raise UserError(f"{text!r} cannot be the key of a store", "leave out '.', '..', backslashes and controls")
    return Url(bucket, "/".join(parts))
