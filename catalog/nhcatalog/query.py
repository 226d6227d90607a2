"""Run one SELECT over the files of a pinned snapshot, in a DuckDB that can do nothing else.

Every query opens its own in-memory DuckDB: nothing to share between threads, nothing for a forked child to
inherit (which would hang), and 20–30 ms. The files' columns are told to DuckDB from the registry, so that
planning opens none of them and a column that an older file lacks is NULL.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from nhcatalog.guard import QueryError, one_line, one_select
from nhcatalog.schema import TABLES, Column

MEMORY_LIMIT = "2GB"
SPILL_LIMIT = "16GB"

Parameters = Sequence[Any] | Mapping[str, Any]


def run_select(
    query: str, params: Parameters | None, sessions: pa.Table, files: Mapping[str, Sequence[str]]
) -> pa.Table:
    """The result of a user's SELECT.

    Parameters
    ----------
    query : str
    params : sequence, mapping or None
        Values for ``?`` or ``$name``.
    sessions : pyarrow.Table
        Rows of the table ``sessions``.
    files : mapping of table name to sequence of str
        Parquet files of the other tables; none makes an empty table.

    Raises
    ------
    QueryError
        If the SQL is refused by `nhcatalog.guard.one_select` or fails; holds DuckDB's own words.
    """
    with (
        tempfile.TemporaryDirectory(prefix="nhcatalog-") as spill_folder,
        duckdb.connect(
            ":memory:",
            config={
                "memory_limit": MEMORY_LIMIT,
                "temp_directory": spill_folder,
                "max_temp_directory_size": SPILL_LIMIT,
                "python_enable_replacements": False,
            },
        ) as connection,
    ):
        statement = one_select(connection, query)
        try:
            _create_tables(connection, sessions, files)
            _lock(connection, [file for table in files.values() for file in table])
            return connection.sql(statement, params=params).to_arrow_table()
        except duckdb.OutOfMemoryException as error:
            raise QueryError(one_line(error), f"ask for fewer rows or columns (the limit is {MEMORY_LIMIT})") from None
        except duckdb.Error as error:
            remedy = "'show tables' lists the tables, 'describe units' the columns of one"
            raise QueryError(one_line(error), remedy) from None


def _create_tables(
    connection: duckdb.DuckDBPyConnection, sessions: pa.Table, files: Mapping[str, Sequence[str]]
) -> None:
    connection.register("given_sessions", sessions)
    connection.execute("CREATE TABLE sessions AS FROM given_sessions")
    connection.unregister("given_sessions")
    for name, table in TABLES.items():
        if name != "sessions":
            connection.execute(f"CREATE VIEW {name} AS {_select(table.columns, files.get(name, ()))}")


def _select(columns: Iterable[Column], files: Sequence[str]) -> str:
    if not files:
        nothing = ", ".join(f"NULL::{column.type} AS {column.name}" for column in columns)
        return f"SELECT {nothing} WHERE false"
    schema = ", ".join(
        f"'{column.name}': {{name: '{column.name}', type: '{column.type}', default_value: NULL}}" for column in columns
    )
    return f"FROM read_parquet({_list(files)}, schema = MAP {{{schema}}})"


def _lock(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
    connection.execute(f"SET allowed_paths = {_list(files)}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"
