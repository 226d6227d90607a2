"""The files of a Sorting or SortingAnalyzer: a folder of ``.npy`` and JSON files, or a Zarr hierarchy."""

from __future__ import annotations

import csv
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from nhdata.sources import SourceError
from nhdata.sources._cells import parse_column
from nhdata.sources._files import AGAIN, one_line
from nhdata.sources._object_text import read_text_npy
from nhdata.sources.nwb.nodes import read_all
from nhdata.sources.nwb.zarr_tree import ZarrDataset, open_folder

INFO = "numpysorting_info.json"
ZARR_METADATA = (".zattrs", "zarr.json")


class SpikeVector(NamedTuple):
    """All spikes, sorted by segment and sample; each field is (n_spikes,) int64."""

    sample: NDArray[np.int64]
    unit: NDArray[np.int64]
    segment: NDArray[np.int64]


class Layout(ABC):
    """Read-only view of one saved Sorting, with the extensions of its SortingAnalyzer if it has one.

    Attributes
    ----------
    root : Path
        The folder that names the recording.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """``sampling_frequency``, ``unit_ids`` and ``num_segments``, as saved."""

    @abstractmethod
    def spikes(self) -> SpikeVector:
        """Read all spikes."""

    @abstractmethod
    def property_names(self) -> list[str]:
        """Names of the columns of units, sorted."""

    @abstractmethod
    def property(self, name: str) -> NDArray[Any]:
        """Read one column of units."""

    @abstractmethod
    def table(self, extension: str, name: str) -> tuple[list[str], dict[str, NDArray[Any]]] | None:
        """Read a table with a row per unit: the unit ids as text, and the columns; None if there is no such table."""

    @abstractmethod
    def array(self, extension: str, name: str) -> NDArray[Any] | None:
        """Read an array of an extension; None if there is no such array."""

    @abstractmethod
    def document(self, name: str) -> dict[str, Any]:
        """Read ``recording_attributes``, ``probegroup`` or ``settings``; empty if it was not saved."""

    @abstractmethod
    def files(self) -> list[Path]:
        """Files that define the sorting, for the provenance."""

    def _fail(self, name: str, error: Exception) -> SourceError:
        return SourceError(self.root / name, f"cannot be read ({one_line(error)})", AGAIN)


class FolderLayout(Layout):
    """A folder in the format ``numpy_folder`` or ``binary_folder``."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._sorting = root / "sorting" if (root / "sorting" / INFO).is_file() else root

    def info(self) -> dict[str, Any]:
        return self._json(self._sorting / INFO)

    def spikes(self) -> SpikeVector:
        values = self._npy(self._sorting / "spikes.npy")
        try:
            return SpikeVector(
                *(np.asarray(values[f"{name}_index"], np.int64) for name in ("sample", "unit", "segment"))
            )
        except (ValueError, IndexError) as error:
            raise self._fail("spikes.npy", error) from None

    def property_names(self) -> list[str]:
        return sorted(path.stem for path in (self._sorting / "properties").glob("*.npy"))

    def property(self, name: str) -> NDArray[Any]:
        path = self._sorting / "properties" / f"{name}.npy"
        try:
            return self._npy(path)
        except SourceError:
            return read_text_npy(path)

    def table(self, extension: str, name: str) -> tuple[list[str], dict[str, NDArray[Any]]] | None:
        path = self.root / "extensions" / extension / f"{name}.csv"
        if not path.is_file():
            return None
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            header, *rows = list(csv.reader(file)) or [[]]
        if any(len(row) != len(header) for row in rows):
            raise SourceError(path, "has rows of different lengths", AGAIN)
        columns = {name: parse_column([row[k] for row in rows]) for k, name in enumerate(header) if k}
        return [row[0] for row in rows], columns

    def array(self, extension: str, name: str) -> NDArray[Any] | None:
        path = self.root / "extensions" / extension / f"{name}.npy"
        return self._npy(path) if path.is_file() else None

    def document(self, name: str) -> dict[str, Any]:
        folder = self.root if name == "settings" else self.root / "recording_info"
        path = folder / f"{name}.json"
        return self._json(path) if path.is_file() else {}

    def files(self) -> list[Path]:
        return [self._sorting / INFO, self._sorting / "spikes.npy"]

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise SourceError(path, f"cannot be read ({one_line(error)})", AGAIN) from None
        if not isinstance(found, dict):
            raise SourceError(path, "is not a JSON object", AGAIN)
        return found

    def _npy(self, path: Path) -> NDArray[Any]:
        try:
            if path.stat().st_size == 0:
                raise ValueError("empty file")
            return np.asarray(npy_format.open_memmap(path, mode="r"))
        except Exception as error:  # a hostile header raises nearly anything
            raise SourceError(path, f"cannot be read ({one_line(error)})", AGAIN) from None


class ZarrLayout(Layout):
    """A Zarr hierarchy, of format 2 (SpikeInterface up to 0.105) or 3."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._tree: Any = open_folder(root) if (root / ".zgroup").is_file() else _open_zarr_v3(root)
        self._prefix = "sorting/" if "sorting/unit_ids" in self._tree else ""

    def info(self) -> dict[str, Any]:
        group = self._tree[self._prefix.rstrip("/")] if self._prefix else self._tree
        return {**dict(group.attrs), "unit_ids": self._need("unit_ids").tolist()}

    def spikes(self) -> SpikeVector:
        sample, unit = self._need("spikes/sample_index"), self._need("spikes/unit_index")
        segment = np.full(len(sample), -1, np.int64)
        for number, (start, stop) in enumerate(self._need("spikes/segment_slices").tolist()):
            segment[start:stop] = number
        return SpikeVector(np.asarray(sample, np.int64), np.asarray(unit, np.int64), segment)

    def property_names(self) -> list[str]:
        group = self._tree.get(f"{self._prefix}properties")
        return [] if group is None else sorted(group.keys())

    def property(self, name: str) -> NDArray[Any]:
        return self._need(f"properties/{name}")

    def table(self, extension: str, name: str) -> tuple[list[str], dict[str, NDArray[Any]]] | None:
        group = self._tree.get(f"extensions/{extension}/{name}")
        if group is None or "index" not in group:
            return None
        columns = {column: self._read(f"{group.name.strip('/')}/{column}") for column in sorted(group)}
        read = {column: values for column, values in columns.items() if values is not None}
        return [str(unit_id) for unit_id in read.pop("index").tolist()], read

    def array(self, extension: str, name: str) -> NDArray[Any] | None:
        return self._read(f"extensions/{extension}/{name}")

    def document(self, name: str) -> dict[str, Any]:
        group = self._tree if name == "settings" else self._tree.get("recording_info")
        found = {} if group is None else dict(group.attrs).get(name, {})
        return found if isinstance(found, dict) else {}

    def files(self) -> list[Path]:
        inside = (path for path in (self.root / self._prefix).rglob("*") if path.is_file())
        return [path for path in inside if "extensions" not in path.parts]

    def _need(self, name: str) -> NDArray[Any]:
        values = self._read(f"{self._prefix}{name}")
        if values is None:
            raise SourceError(self.root, f"has no array {self._prefix}{name}", AGAIN)
        return values

    def _read(self, path: str) -> NDArray[Any] | None:
        node = self._tree.get(path)
        if isinstance(node, ZarrDataset):
            return read_all(node)
        if isinstance(node, zarr.Array):
            try:
                values = np.asarray(node[...])
            except Exception as error:  # whatever damaged bytes make a codec raise
                raise self._fail(path, error) from None
            return values if values.dtype.kind in "biufUO" else np.array(values.tolist(), dtype=object)
        return None


def _open_zarr_v3(root: Path) -> zarr.Group:
    try:
        return zarr.open_group(root, mode="r", zarr_format=3)
    except Exception as error:  # whatever damaged metadata make zarr raise
        raise SourceError(root, f"cannot be read ({one_line(error)})", AGAIN) from None


def find_layouts(path: Path) -> Iterator[Path]:
    """Yield the folders at or below `path` that hold a Sorting or a SortingAnalyzer, without looking inside those."""
    for name, folders, files in os.walk(path):
        folder = Path(name)
        if _is_sorting(folder, files):
            folders.clear()
            yield folder
        else:
            folders[:] = sorted(child for child in folders if not child.startswith("."))


def open_layout(root: Path) -> Layout:
    """Open the Sorting or SortingAnalyzer in a folder. Raises SourceError if its metadata cannot be read."""
    is_zarr = any((root / name).is_file() for name in (".zgroup", "zarr.json"))
    return ZarrLayout(root) if is_zarr else FolderLayout(root)


def _is_sorting(folder: Path, files: list[str]) -> bool:
    if INFO in files or ("spikeinterface_info.json" in files and (folder / "sorting" / INFO).is_file()):
        return True
    if any(_names_a_sorting(folder / name) for name in ZARR_METADATA if name in files):
        return True
    # SpikeInterface before 0.102 did not write its class
    return ".zgroup" in files and all(
        (folder / name / ".zarray").is_file() for name in ("unit_ids", "spikes/sample_index")
    )


def _names_a_sorting(metadata: Path) -> bool:
    try:
        found = json.loads(metadata.read_bytes())
        attributes = found.get("attributes", {}) if metadata.name == "zarr.json" else found
        of_sorting = str(attributes.get("zarr_class_info", {}).get("class", "")).endswith("ZarrSortingExtractor")
        return of_sorting or attributes.get("spikeinterface_info", {}).get("object") == "SortingAnalyzer"
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
