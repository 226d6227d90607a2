"""Parquet files with rows of one table, and how they are named."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nhcatalog.files import Files

_NAME = re.compile(r"(fragments|tables)/\w[\w.-]*\.parquet", re.ASCII)


@dataclass(frozen=True, slots=True)
class Fragment:
    """A Parquet file with rows of one table.

    Attributes
    ----------
    path : str
        Relative to the catalog's folder.
    n_bytes : int
        Its size, by which a file cut short is noticed.
    n_rows : int or None
        Its rows; None where an older version did not write them down.
    """

    path: str
    n_bytes: int
    n_rows: int | None = None

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Fragment:
        """Parse it. Raises ValueError, KeyError or TypeError if it is not one."""
        if not _NAME.fullmatch(record["path"]):
            raise ValueError(f"{record['path']!r} is not a file of fragments/ or tables/")
        return cls(record["path"], record["n_bytes"], record.get("n_rows"))


def new_name(folder: str, table: str) -> str:
    """A name that nobody else uses."""
    return f"{folder}/{uuid.uuid4().hex}-{table}.parquet"


def write_fragment(files: Files, folder: str, table: str, rows: pa.Table) -> Fragment:
    """Write rows of a table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    fragment = Fragment(new_name(folder, table), len(content), len(rows))
    files.write(fragment.path, content)
    return fragment
