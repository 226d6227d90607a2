"""The catalog pinned to one log position."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pyarrow as pa

from nhcatalog.checkpoint import numbers
from nhcatalog.guard import QueryError
from nhcatalog.log import CatalogError, MissingFile
from nhcatalog.numbers import plain_batches, plain_numbers
from nhcatalog.query import Parameters, engine
from nhcatalog.state import Entry, Reader, State


class Snapshot:
    """The catalog at one log position; later changes do not show.

    A compaction that sweeps its files away does not break it: the newest checkpoint holds every position.
    A snapshot may be pickled, and used by several threads and in forked children.

    Attributes
    ----------
    position : int
    entries : mapping of session_id to Entry
    """

    def __init__(self, state: State) -> None:
        self._files, self.position = state.files, state.position
        self._state = state

    def __repr__(self) -> str:
        return f"<Snapshot of {self._files.root} at log position {self.position}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": self._files, "position": self.position}

    @cached_property
    def _state(self) -> State:
        """The state, read on first use after unpickling."""
        if self.position and not self._files.names("log") and not numbers(self._files):
            raise CatalogError(f"no catalog at {self._files.root}", "check that the store is on this machine")
        return Reader(self._files).state(self.position)

    @property
    def key(self) -> tuple[str, ...]:
        """The same for two snapshots of the same content; another for a store made again at the same path."""
        return self._state.key

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The sessions, by id; a row is read when it is asked for."""
        return self._state.entries

    def sql(
        self,
        query: str,
        params: Parameters | None = None,
        *,
        time_s: float | None = None,
        max_rows: int | None = None,
    ) -> pa.Table:
        """Ask in SQL: exactly one SELECT over the tables of `nhcatalog.schema`.

        Parameters
        ----------
        query : str
        params : sequence or mapping, optional
            Values for ``?`` or ``$name``.
        time_s : float, optional
            Give up after this long.
        max_rows : int, optional
            Refuse a larger result; no more than that is ever held.

        Returns
        -------
        pyarrow.Table
            ``.to_pandas()`` or ``polars.from_arrow(…)`` make a data frame of it, numbers without a copy. Sums of whole
            numbers are int64, or float64 if one is larger; decimal numbers are float64.

        Raises
        ------
        nhcatalog.guard.QueryError
            If the SQL is anything else, fails, or is too much.
        CatalogError
            If a file that it needs is missing or cut short.

        Examples
        --------
        >>> from nhcatalog.catalog import Catalog
        >>> Catalog("nowhere").snapshot().sql("select count(*) as n from units where good").to_pylist()
        [{'n': 0}]
        """
        try:
            return self._sql(query, params, time_s, max_rows)
        except MissingFile:
            if not self._reopen():
                raise
            return self._sql(query, params, time_s, max_rows)

    def stream(
        self, query: str, params: Parameters | None = None, *, time_s: float | None = None
    ) -> pa.RecordBatchReader:
        """As `sql`, but batch by batch while the query runs: a result of any size in little memory.

        Raises
        ------
        nhcatalog.guard.QueryError
            Also while reading, when a later row fails.
        """
        try:
            return self._stream(query, params, time_s)
        except MissingFile:
            if not self._reopen():
                raise
            return self._stream(query, params, time_s)

    def columns(self, query: str, params: Parameters | None = None) -> list[str]:
        """Names of the columns that a query gives; the query is parsed and bound, and not executed.

        Raises
        ------
        nhcatalog.guard.QueryError
            If the SQL is refused or does not bind.
        """
        try:
            return engine(self._state).columns(query, params)
        except MissingFile:
            if not self._reopen():
                raise
            return engine(self._state).columns(query, params)

    def _sql(self, query: str, params: Parameters | None, time_s: float | None, max_rows: int | None) -> pa.Table:
        schema, found = engine(self._state).stream(query, params, time_s=time_s)
        batches: list[pa.RecordBatch] = []
        n_rows = 0
        for batch in found:
            batches.append(batch)
            n_rows += batch.num_rows
            if max_rows is not None and n_rows > max_rows:
                raise QueryError(f"more than {max_rows} rows", "ask for fewer, e.g. with LIMIT or GROUP BY")
        return plain_numbers(pa.Table.from_batches(batches, schema))

    def _stream(self, query: str, params: Parameters | None, time_s: float | None) -> pa.RecordBatchReader:
        schema, found = engine(self._state).stream(query, params, time_s=time_s)
        return pa.RecordBatchReader.from_batches(*plain_batches(schema, found))

    def _reopen(self) -> bool:
        """Pin the same position in the newest checkpoint; False if this is it already.

        Raises
        ------
        CatalogError
            If the catalog was deleted, or made again, since this snapshot was opened.
        """
        reader = Reader(self._files)
        is_there = reader.state().position >= self.position
        state = reader.state(self.position if is_there else None)
        if not is_there or state.last_change != self._last_change(state):
            problem = f"{self._files.root}: deleted, or made again, since position {self.position} was opened"
            raise CatalogError(problem, "open the store again")
        if state.key == self._state.key:
            return False
        self._state = state
        return True

    def _last_change(self, newest: State) -> tuple[str, str] | None:
        """The last change before this snapshot; that of `newest` where a compaction replaced the file that has it."""
        try:
            return self._state.last_change
        except MissingFile:
            return newest.last_change
