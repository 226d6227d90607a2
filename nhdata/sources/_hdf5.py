"""HDF5 from outside: nothing of another file, and no more values than the bytes there can hold."""

from __future__ import annotations

from typing import Any

import h5py

from nhdata.sources import SourceError
from nhdata.sources._files import AGAIN

SMALL_BYTES = 1 << 26
BEST_DEFLATE = 1032
"""No deflated data are smaller than this part of what they hold (zlib, Technical Details)."""


def members(group: h5py.Group) -> dict[str, Any]:
    """Groups and datasets that lie in the file itself, by name: no links, no other file's bytes."""
    found = {}
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            member = group[name]
            if not (isinstance(member, h5py.Dataset) and is_elsewhere(member)):
                found[name] = member
    return found


def is_elsewhere(dataset: h5py.Dataset) -> bool:
    """Whether the values lie in other files, which an untrusted file may name as it likes."""
    return bool(dataset.is_virtual or dataset.external)


def check_size(dataset: h5py.Dataset) -> None:
    """Raise SourceError if the header claims far more values than the bytes in the file can hold."""
    check_claim(dataset, dataset.id.get_storage_size())


def check_claim(dataset: Any, stored_bytes: int) -> None:
    """Raise SourceError if `dataset` claims far more than its `stored_bytes` can hold."""
    if dataset.nbytes > max(SMALL_BYTES, BEST_DEFLATE * stored_bytes):
        problem = f"{dataset.name} claims {dataset.size} values, more than the file holds"
        raise SourceError(dataset.file.filename, problem, AGAIN)
