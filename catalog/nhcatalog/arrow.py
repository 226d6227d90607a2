"""Arrow tables of plain Python values, by Arrow's reader of JSON.

pyarrow's own converters (``pa.array``, ``pa.scalar``, and a number or a text given to ``pyarrow.compute``) import
pandas the first time, which takes longer than most queries do.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
from pyarrow.json import ParseOptions, ReadOptions, read_json


def rows_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of a schema: what a row lacks is NULL, what the schema lacks is left out.

    Parameters
    ----------
    rows : iterable of mapping
        Values that JSON can hold; dates and times as ISO 8601 text.
    schema : pyarrow.Schema

    Raises
    ------
    pyarrow.ArrowInvalid
        If a value is of another type.

    Examples
    --------
    >>> schema = pa.schema([("date", pa.date32()), ("n", pa.int64())])
    >>> rows_table([{"date": "2024-05-17", "who": "a"}], schema).to_pylist()
    [{'date': datetime.date(2024, 5, 17), 'n': None}]
    """
    lines = "\n".join(map(json.dumps, rows)).encode()
    if not lines:
        return empty_table(schema)
    as_text = pa.schema(
        [(field.name, pa.string() if pa.types.is_temporal(field.type) else field.type) for field in schema]
    )
    found = read_json(
        io.BytesIO(lines),
        ReadOptions(use_threads=False, block_size=len(lines) + 1),
        ParseOptions(explicit_schema=as_text, unexpected_field_behavior="ignore"),
    )
    return found.cast(schema)


def empty_table(schema: pa.Schema) -> pa.Table:
    """A table without rows."""
    return pa.Table.from_batches([], schema)


def column(values: Iterable[Any], of: pa.DataType) -> pa.ChunkedArray:
    """Values as a column.

    Examples
    --------
    >>> column(["a", "b"], pa.string()).to_pylist()
    ['a', 'b']
    """
    return rows_table(({"value": value} for value in values), pa.schema([("value", of)]))["value"]


def scalar(value: Any, of: pa.DataType) -> pa.Scalar:
    """One value, to be given to `pyarrow.compute`."""
    return column([value], of)[0]
