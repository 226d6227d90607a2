"""Groups and datasets of an NWB file, whether it is HDF5 or Zarr; datasets are read here and nowhere else."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nhdata.sources import SourceError
from nhdata.sources import _hdf5 as hdf5
from nhdata.sources.nwb.zarr_tree import ZarrDataset, ZarrGroup

Group = h5py.Group | ZarrGroup
Dataset = h5py.Dataset | ZarrDataset


def members(group: Any) -> dict[str, Any]:
    """What lies in a group, by name, but for links to other files."""
    if isinstance(group, ZarrGroup):
        return dict(group.items())
    own = (name for name in group if not isinstance(group.get(name, getlink=True), h5py.ExternalLink))
    return {name: member for name in own if (member := group.get(name)) is not None}


def is_elsewhere(dataset: Any) -> bool:
    """Whether a dataset's values lie in other files, which an untrusted file may name as it likes."""
    return isinstance(dataset, h5py.Dataset) and hdf5.is_elsewhere(dataset)


def is_text(dataset: Any) -> bool:
    """Whether a dataset holds text."""
    return h5py.check_string_dtype(dataset.dtype) is not None


def read_all(dataset: Any) -> NDArray[Any]:
    """All of a dataset, text as objects.

    Raises
    ------
    SourceError
        If its values lie in another file, or it claims more of them than the file can hold.
    """
    check(dataset)
    return np.asarray(dataset.asstr(errors="replace")[:] if is_text(dataset) else dataset[:])


def check(dataset: Any) -> None:
    """Raise SourceError where `read_all` would."""
    if isinstance(dataset, ZarrDataset):
        hdf5.check_claim(dataset, dataset.stored_bytes)
        return
    if is_elsewhere(dataset):
        problem = f"{dataset.name} lies in another file"
        raise SourceError(dataset.file.filename, problem, "write the file anew with all it needs inside")
    hdf5.check_size(dataset)


def check_links(file: Any, *names: str) -> None:
    """Raise SourceError if anything below these groups of an HDF5 file is a link to another file."""
    for name in names:
        group = file.get(name) if isinstance(file, h5py.Group) else None
        if isinstance(group, h5py.Group):
            found = group.visititems_links(lambda path, link: path if isinstance(link, h5py.ExternalLink) else None)
            if found is not None:
                problem = f"{name}/{found} is a link to another file"
                raise SourceError(file.filename, problem, "write the file anew with all it needs inside")
