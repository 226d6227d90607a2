"""Numbers of a result as NumPy, pandas and JSON know them: DuckDB's HUGEINT and DECIMAL are int64 or float64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from nhcatalog.guard import QueryError

MAX_INT64 = 2**63 - 1


def plain_numbers(table: pa.Table) -> pa.Table:
    """Return a table without decimal columns.

    DuckDB gives the sum of whole numbers as HUGEINT, which Arrow holds as decimal numbers and pandas as Python objects.

    Parameters
    ----------
    table : pyarrow.Table

    Returns
    -------
    pyarrow.Table
        Decimals without digits after the point are int64, or float64 if a value does not fit; other decimals float64.

    Examples
    --------
    >>> from decimal import Decimal
    >>> plain_numbers(pa.table({"n": pa.array([Decimal(7)], pa.decimal128(38, 0))})).schema.field("n").type
    DataType(int64)
    """
    if not any(pa.types.is_decimal(kind) for kind in table.schema.types):
        return table
    return table.cast(_schema(table.schema, [table]))


def plain_batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Do the same for a stream of batches; the types are decided by the first batch.

    Raises
    ------
    QueryError
        While reading, if a later batch has a sum that does not fit int64.
    """
    batches = iter(batches)
    if not any(pa.types.is_decimal(kind) for kind in schema.types):
        return schema, batches
    first = list(next_or_none(batches))
    plain = _schema(schema, [pa.Table.from_batches([batch]) for batch in first])
    return plain, (_cast(batch, plain) for batch in chain(first, batches))


def next_or_none(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the first batch, if there is one."""
    for batch in batches:
        yield batch
        return


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    try:
        columns = [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)]
    except pa.ArrowInvalid as error:
        problem = f"a whole number beyond 64 bits ({str(error).splitlines()[0]})"
        raise QueryError(problem, "convert it in the query, e.g. sum(n)::DOUBLE") from None
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _schema(schema: pa.Schema, tables: list[pa.Table]) -> pa.Schema:
    fields = []
    for number, field in enumerate(schema):
        if pa.types.is_decimal(field.type):
            is_whole = field.type.scale == 0 and all(_fits(table.column(number)) for table in tables)
            field = field.with_type(pa.int64() if is_whole else pa.float64())
        fields.append(field)
    return pa.schema(fields, schema.metadata)


def _fits(column: pa.ChunkedArray) -> bool:
    bounds = pc.min_max(column).as_py()
    return all(value is None or abs(value) <= MAX_INT64 for value in bounds.values())
