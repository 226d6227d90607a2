"""Numbers of a result as NumPy, pandas and JSON know them: DuckDB's HUGEINT and DECIMAL are int64 or float64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice

import pyarrow as pa

from nhcatalog.guard import QueryError


def plain_numbers(table: pa.Table) -> pa.Table:
    """Return a table without decimal numbers, also inside lists, structures and maps.

    DuckDB gives the sum of whole numbers as HUGEINT, which Arrow holds as decimal numbers and pandas as Python objects.

    Parameters
    ----------
    table : pyarrow.Table

    Returns
    -------
    pyarrow.Table
        Decimals without digits after the point are int64, or float64 if a value of the column does not fit; other
        decimals float64.

    Examples
    --------
    >>> from decimal import Decimal
    >>> plain_numbers(pa.table({"n": pa.array([Decimal(7)], pa.decimal128(38, 0))})).schema.field("n").type
    DataType(int64)
    """
    schema = _schema(table)
    return table if schema == table.schema else table.cast(schema)


def plain_batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Do the same for a stream of batches; the types are decided by the first batch.

    Raises
    ------
    QueryError
        While reading, if a later batch has a sum that does not fit int64.
    """
    batches = iter(batches)
    if not any("decimal" in str(kind) for kind in schema.types):
        return schema, batches
    first = list(islice(batches, 1))
    plain = _schema(pa.Table.from_batches(first, schema))
    return plain, (_cast(batch, plain) for batch in chain(first, batches))


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    try:
        columns = [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)]
    except pa.ArrowInvalid as error:
        problem = f"a whole number beyond 64 bits ({str(error).splitlines()[0]})"
        raise QueryError(problem, "convert it in the query, e.g. sum(n)::DOUBLE") from None
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _schema(table: pa.Table) -> pa.Schema:
    """The table's schema without decimal numbers."""
    fields = []
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = _plain(field.type, pa.int64())
        if kind != field.type and not _fits(column, kind):
            kind = _plain(field.type, pa.float64())
        fields.append(field.with_type(kind))
    return pa.schema(fields, table.schema.metadata)


def _plain(kind: pa.DataType, whole: pa.DataType) -> pa.DataType:
    """A type with float64, and `whole` for whole numbers, in the place of decimals."""
    if pa.types.is_decimal(kind):
        return whole if kind.scale == 0 else pa.float64()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type, whole)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type, whole), kind.item_field.with_type(_plain(kind.item_type, whole)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type, whole)), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type, whole)))
    return kind


def _fits(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    try:
        column.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
