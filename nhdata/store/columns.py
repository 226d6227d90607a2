"""Columns of a table as Zarr arrays of plain number types, readable by any Zarr v3 reader.

Zarr v3's core has no text type, so text is stored as codes into the attribute ``categories``. Missing values
are sentinels, never 0: NaN, -1 for codes and truth values, the smallest (signed) or largest (unsigned)
integer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from nhdata.names import free_name, safe_name

T = TypeVar("T")


def compressors(shuffle: Literal["shuffle", "bitshuffle"] = "shuffle") -> list[Any]:
    """Blosc lz4 (decodes at the speed of memory), then a checksum that blosc lacks."""
    return [BloscCodec(cname="lz4", clevel=5, shuffle=shuffle), Crc32cCodec()]


def sentinel(dtype: np.dtype[Any]) -> Any:
    """The value that stands for "nothing was written here"."""
    if dtype.kind == "f":
        return float("nan")
    info = np.iinfo(dtype)
    return info.max if dtype.kind == "u" else info.min


def write_array(group: zarr.Group, name: str, values: NDArray[Any], dims: tuple[str, ...], **attributes: Any) -> None:
    """Write one small array as one chunk."""
    fill_value = attributes.pop("fill_value", None)
    group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=tuple(max(1, n) for n in values.shape),
        compressors=compressors(),
        fill_value=sentinel(values.dtype) if fill_value is None else fill_value,
        dimension_names=dims,
        attributes=attributes,
        config={"write_empty_chunks": True},
    )[...] = values


def write_column(group: zarr.Group, name: str, values: NDArray[Any], dim: str) -> None:
    """Write one column of a table: numbers as they are, text and truth values as codes."""
    if values.dtype.kind in "OUS":
        text = np.array(["" if v is None else str(v) for v in values], dtype=object)
        categories = sorted({t for t in text if t})
        place = {category: code for code, category in enumerate(categories)}
        codes = np.array([place.get(t, -1) for t in text], np.int32)
        write_array(group, name, codes, (dim,), kind="text", categories=categories, fill_value=-1)
    elif values.dtype.kind == "b":
        write_array(group, name, values.astype(np.int8), (dim,), kind="truth", fill_value=-1)
    else:
        write_array(group, name, values, (dim,))


def read_column(array: zarr.Array[Any]) -> NDArray[Any]:
    """Read a column as it was before `write_column`.

    Returns
    -------
    (n,) array
        Missing text is an empty string. Truth values are bool, or float64 (1, 0 and NaN) where some are missing.
    """
    values = np.asarray(array[...])
    kind = array.attrs.get("kind")
    if kind == "truth":
        missing = values < 0
        return np.where(missing, np.nan, values == 1) if missing.any() else np.asarray(values == 1)
    if kind == "text":
        names = np.array([*cast(list[str], array.attrs["categories"]), ""], dtype=object)  # code -1 is the last
        return np.asarray(names[values], dtype=object)
    return values


def read_table(group: zarr.Group) -> dict[str, NDArray[Any]]:
    """All columns of a table, by name."""
    return {name: read_column(array) for name, array in sorted(group.arrays())}


def write_table(group: zarr.Group, columns: Mapping[str, NDArray[Any]], dim: str) -> None:
    """Write every column along one dimension."""
    for name, values in columns.items():
        write_column(group, name, np.asarray(values), dim)


def safe_names(columns: Mapping[str, T]) -> dict[str, T]:
    """The same columns or tables under names that are safe in a store and differ in more than capitals.

    Of names that become alike, one that is safe and in lower case as it is keeps its name; the others get a number.

    Examples
    --------
    >>> safe_names({"RT": 1, "rt": 2, "rt?": 3})
    {'RT_2': 1, 'rt': 2, 'rt_3': 3}
    """
    taken: set[str] = set()
    safe: dict[str, str] = {}
    for name in sorted(columns, key=lambda name: name != safe_name(name).lower()):
        safe[name] = free_name(name, taken)
        taken.add(safe[name].lower())
    return {safe[name]: values for name, values in columns.items()}
