"""Parquet files with rows of one table, and how they are named."""

from __future__ import annotations

import os
import re
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from nhcatalog.files import Files
from nhcatalog.schema import TABLES

ROW_GROUP_ROWS = 122_880
"""Few enough that the smallest and largest session id of a row group tell whether to read it."""

SORT_MEMORY = "1GB"

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


def sorting_connection() -> duckdb.DuckDBPyConnection:
    """A DuckDB to give to `copy_fragment`: it spills where a sort takes much memory."""
    spill_folder = os.path.join(tempfile.gettempdir(), f"nhcatalog-{uuid.uuid4().hex}")  # DuckDB makes and removes it
    return duckdb.connect(config={"memory_limit": SORT_MEMORY, "temp_directory": spill_folder})


def copy_fragment(connection: duckdb.DuckDBPyConnection, files: Files, table: str, query: str) -> Fragment:
    """Write the rows of a query over a table as a Parquet file that is quick to search, sorted by session.

    DuckDB writes it, because it adds Bloom filters, by which a reader passes over row groups without a session.
    Snappy decodes in half the time of zstd and takes a quarter more room.
    """
    order = ", ".join(("session_id", *TABLES[table].order))
    with tempfile.TemporaryDirectory(prefix="nhcatalog-") as folder:
        path = os.path.join(folder, "rows.parquet")
        quoted = path.replace("'", "''")
        (n_rows,) = connection.execute(
            f"COPY (FROM ({query}) ORDER BY {order}) TO '{quoted}' "
            f"(FORMAT parquet, COMPRESSION snappy, PARQUET_VERSION v2, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
        ).fetchall()[0]
        with open(path, "rb") as file:
            content = file.read()
    fragment = Fragment(new_name("tables", table), len(content), int(n_rows))
    files.write(fragment.path, content)
    return fragment


def parquet_file(content: bytes) -> pq.ParquetFile:
    """A Parquet file in memory, to be read with ``use_threads=False``.

    No thread of Arrow's may take part: the last one to hold `content` frees it, for which it must wait for Python, and
    a process that ends meanwhile aborts. (`pyarrow.parquet.read_table` always uses threads.)
    """
    return pq.ParquetFile(pa.BufferReader(content), pre_buffer=False)


def read_rows(content: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a Parquet file in memory. Raises pyarrow.ArrowInvalid if it is damaged or lacks a column."""
    try:
        return parquet_file(content).read(columns, use_threads=False)
    except (OSError, pa.ArrowNotImplementedError) as error:  # as some damage shows
        raise pa.ArrowInvalid(str(error)) from None


def write_fragment(files: Files, folder: str, table: str, rows: pa.Table) -> Fragment:
    """Write rows of a table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    fragment = Fragment(new_name(folder, table), len(content), len(rows))
    files.write(fragment.path, content)
    return fragment
