"""From a SQL query, or the name of a selection, to a frozen list of units and where their spikes are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhcatalog.guard import as_subquery
from nhcatalog.place import Place
from nhcatalog.selections import NamedSelection, is_name, units_hash
from nhdata.observed import OBSERVED, Spans, observed_spans
from nhdata.recording import INVALID
from nhdata.store.store import Store

ALL_GOOD = "select unit_id from units where good"


@dataclass(frozen=True)
class SelectedSession:
    """The selected units of one session.

    Attributes
    ----------
    path : Path or Url
        The session's Zarr group.
    n_units, n_spikes : int
        Units and spikes of the session, selected or not.
    rows : (n,) int64
        Rows of the units in the session, ascending.
    first : int
        Position of the first of them in ``Selection.unit_ids``.
    subject : str
        Who was recorded; empty where the source does not say.
    invalid_s : (K, 2) float64
        Half-open stretches, on the session's clock, that the source calls invalid (intervals ``invalid_times``); NaN
        where one lacks its start or its end.
    observed_s : mapping of int to (K, 2) float64
        Half-open intervals, on the session's clock, in which a unit was observed, by its row in the session; only of
        units that were observed for part of the session.
    """

    session_id: str
    path: Place
    tick_hz: float
    t_start_s: float
    n_ticks: int
    n_units: int
    n_spikes: int
    rows: NDArray[np.int64]
    first: int
    subject: str = ""
    invalid_s: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    observed_s: Spans = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Units in a fixed order: by session, then by row.

    Attributes
    ----------
    query : str
        The SQL, or the name of a selection.
    position : int
        Log position of the catalog that answered.
    unit_ids : tuple of str
    sessions : tuple of SelectedSession
    """

    query: str
    position: int
    unit_ids: tuple[str, ...]
    sessions: tuple[SelectedSession, ...]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the unit ids: two equal selections of units have equal hashes."""
        return units_hash(self.unit_ids)

    def units(self, keep: Sequence[bool]) -> Selection:
        """The part of the selection that `keep` says, one truth value for each unit."""
        kept = np.asarray(keep, bool)
        sessions, n = [], 0
        for s in self.sessions:
            rows = s.rows[kept[s.first : s.first + len(s.rows)]]
            if len(rows):
                sessions.append(replace(s, rows=rows, first=n))
                n += len(rows)
        unit_ids = tuple(u for u, k in zip(self.unit_ids, kept, strict=True) if k)
        return replace(self, unit_ids=unit_ids, sessions=tuple(sessions))

    def only(self, session_ids: Collection[str]) -> Selection:
        """The part of the selection that lies in some of its sessions."""
        unit_ids: list[str] = []
        sessions = []
        for s in self.sessions:
            if s.session_id in session_ids:
                sessions.append(replace(s, first=len(unit_ids)))
                unit_ids.extend(self.unit_ids[s.first : s.first + len(s.rows)])
        return replace(self, unit_ids=tuple(unit_ids), sessions=tuple(sessions))


def select_units(store: Store, query_or_name: str = ALL_GOOD) -> Selection:
    """Freeze the answer of a query, or take a named selection.

    Parameters
    ----------
    store : Store
    query_or_name : str
        One SELECT with a column ``unit_id``, or the name of a selection (see `freeze_selection`).

    Raises
    ------
    UserError
        If the query fails, has no column ``unit_id``, or selects nothing that is in the store; if there is no
        selection of that name, or the store no longer holds its sessions as they were.
    """
    text = query_or_name.strip()
    return _named(store, text) if is_name(text) else _answered(store, query_or_name)


def freeze_selection(store: Store, name: str, query: str) -> NamedSelection:
    """Keep the answer of a query for good, under a name that stands wherever a SELECT of units does.

    Parameters
    ----------
    store : Store
    name : str
        Letters, digits, ``_``, ``.`` and ``-``, a letter first.
    query : str
        One SELECT with a column ``unit_id``.

    Raises
    ------
    UserError
        As `select_units`; if the name is taken or none.
    """
    if is_name(query.strip()):
        raise UserError(f"{query!r} is the name of a selection, not a query", "give a SELECT")
    if not is_name(name) or name in store.catalog.selections.names():
        return store.catalog.selections.create(name, query, 0, [], {})  # raises what is wrong with the name
    return keep_selection(store, name, _answered(store, query))


def keep_selection(store: Store, name: str, chosen: Selection) -> NamedSelection:
    """Keep a selection for good, under a name.

    Raises
    ------
    UserError
        If it is empty, or the name is taken or none.
    """
    if not chosen.unit_ids:
        raise UserError(f"no unit of {store.path} answers {chosen.query!r}", "loosen the query, or ingest first")
    entries = store.snapshot.entries
    content_hash = {s.session_id: entries[s.session_id].content_hash for s in chosen.sessions}
    return store.catalog.selections.create(name, chosen.query, chosen.position, list(chosen.unit_ids), content_hash)


@dataclass(frozen=True)
class SelectionDiff:
    """What the query of a named selection would choose in a store as it is, beside what it chose.

    Attributes
    ----------
    added, removed : tuple of str
        Unit ids, sorted.
    changed : tuple of str
        Sessions with units in both whose content is another now.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


def diff_selection(store: Store, name: str) -> SelectionDiff:
    """Ask the query of a named selection again. Raises UserError as `select_units`, but not where nothing answers."""
    kept, unit_ids = store.catalog.selections.read(name)
    before, now = set(unit_ids), set(_answered(store, kept.query, may_be_empty=True).unit_ids)
    entries = store.snapshot.entries
    there = {session_id for session_id in kept.content_hash if session_id in entries}
    changed = {session_id for session_id in there if entries[session_id].content_hash != kept.content_hash[session_id]}
    return SelectionDiff(tuple(sorted(now - before)), tuple(sorted(before - now)), tuple(sorted(changed)))


def units_by_id(store: Store, wanted: Collection[str], query: str) -> Selection:
    """The units among `wanted` that the store holds; `query` is kept as where they came from."""
    chosen = "SELECT DISTINCT unnest($unit_ids::VARCHAR[]) AS unit_id"
    return _located(store, chosen, {"unit_ids": list(wanted)}, query)


def _named(store: Store, name: str) -> Selection:
    kept, unit_ids = store.catalog.selections.read(name)
    entries = store.snapshot.entries
    for session_id, content_hash in kept.content_hash.items():
        if session_id not in entries or entries[session_id].content_hash != content_hash:
            state = "has other content now" if session_id in entries else "is not in the store"
            raise UserError(
                f"selection {name}: session {session_id} {state}",
                f"open the store at={kept.position}, or see 'nhdata select --name {name} --diff'",
            )
    selection = units_by_id(store, unit_ids, name)
    if selection.hash != kept.hash:
        raise UserError(f"selection {name}: not all of its units are in {store.path}", "run 'nhdata catalog verify'")
    return selection


def _answered(store: Store, query: str, *, may_be_empty: bool = False) -> Selection:
    columns = store.snapshot.columns(query)  # refuses what is not one SELECT before it becomes a part of another
    if "unit_id" not in columns:
        raise UserError(
            f"the selection has no column unit_id, only {', '.join(columns)}", "select unit_id from units where …"
        )
    selection = _located(store, f"SELECT DISTINCT unit_id FROM {as_subquery(query)} AS answer", None, query)
    if not selection.unit_ids and not may_be_empty:
        raise UserError(f"no unit of {store.path} answers {query!r}", "loosen the query, or ingest first")
    return selection


def _located(store: Store, chosen: str, params: dict[str, object] | None, query: str) -> Selection:
    """The chosen units, by session and row; only their rows of the catalog are read."""
    # A common table expression sees no columns of its surroundings, as a subquery in FROM would.
    units = store.sql(
        f"WITH chosen AS MATERIALIZED ({chosen}) "
        "SELECT unit_id, session_id, unit_index FROM units JOIN chosen USING (unit_id) ORDER BY 2, 3",
        params,
    )
    session_ids, starts = _runs(units)
    ids = {"ids": session_ids}
    there = "session_id IN (SELECT unnest($ids::VARCHAR[]))"
    columns = "session_id, path, tick_hz, t_start_s, duration_s, n_units, n_spikes, coalesce(subject, '') AS subject"
    sessions = store.sql(f"SELECT {columns} FROM sessions WHERE {there} ORDER BY 1", ids)
    invalid: dict[str, list[tuple[float, float]]] = {}
    spans = f"SELECT session_id, start_s, stop_s FROM intervals WHERE name = '{INVALID}'"
    for span in store.sql(f"{spans} AND {there} ORDER BY start_s", ids).to_pylist():
        invalid.setdefault(span["session_id"], []).append((span["start_s"], span["stop_s"]))
    observed = _observed(store, ids)
    rows = np.array(units["unit_index"])
    stops = [*starts, len(units)][1:]
    return Selection(
        query,
        store.position,
        tuple(units["unit_id"].to_pylist()),
        tuple(
            SelectedSession(
                session_id=row["session_id"],
                path=store.path / row["path"],
                tick_hz=row["tick_hz"],
                t_start_s=row["t_start_s"],
                n_ticks=int(row["duration_s"] * row["tick_hz"] + 1e-3),
                n_units=row["n_units"],
                n_spikes=row["n_spikes"],
                rows=rows[start:stop],
                first=start,
                subject=row["subject"],
                invalid_s=np.array(invalid.get(row["session_id"], []), np.float64).reshape(-1, 2),
                observed_s=observed.get(row["session_id"], {}),
            )
            for row, start, stop in zip(sessions.to_pylist(), starts, stops, strict=True)
        ),
    )


def _observed(store: Store, ids: dict[str, list[str]]) -> dict[str, dict[int, NDArray[np.float64]]]:
    """When the partly observed units of each session were observed, by session and row."""
    rows = store.sql(
        "SELECT session_id, start_s, stop_s, (fields->>'unit_index')::BIGINT AS unit_index FROM intervals "
        f"WHERE name = '{OBSERVED}' AND session_id IN (SELECT unnest($ids::VARCHAR[])) ORDER BY session_id",
        ids,
    )
    tables: dict[str, dict[str, list[float]]] = {}
    for row in rows.to_pylist():
        table = tables.setdefault(row.pop("session_id"), {name: [] for name in row})
        for name, value in row.items():
            table[name].append(value)
    return {
        session_id: observed_spans({OBSERVED: {name: np.array(values) for name, values in table.items()}})
        for session_id, table in tables.items()
    }


def _runs(units: pa.Table) -> tuple[list[str], list[int]]:
    """The sessions of sorted rows, and where each begins."""
    if not len(units):
        return [], []
    codes = units["session_id"].combine_chunks().dictionary_encode()
    starts = np.flatnonzero(np.diff(codes.indices.to_numpy(zero_copy_only=False), prepend=-1))
    return codes.dictionary.to_pylist(), starts.tolist()
