"""From a SQL query to a frozen list of units and where their spikes are."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhcatalog.place import Place
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
        Half-open stretches, on the session's clock, that the source calls invalid (intervals ``invalid_times``).
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


@dataclass(frozen=True)
class Selection:
    """Units in a fixed order: by session, then by row.

    Attributes
    ----------
    query : str
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
        return hashlib.sha256("\n".join(self.unit_ids).encode()).hexdigest()

    def only(self, session_ids: Collection[str]) -> Selection:
        """The part of the selection that lies in some of its sessions."""
        unit_ids: list[str] = []
        sessions = []
        for s in self.sessions:
            if s.session_id in session_ids:
                sessions.append(replace(s, first=len(unit_ids)))
                unit_ids.extend(self.unit_ids[s.first : s.first + len(s.rows)])
        return replace(self, unit_ids=tuple(unit_ids), sessions=tuple(sessions))


def select_units(store: Store, query: str = ALL_GOOD) -> Selection:
    """Freeze the answer of `query`.

    Parameters
    ----------
    store : Store
    query : str
        One SELECT with a column ``unit_id``.

    Raises
    ------
    UserError
        If the query fails, has no column ``unit_id``, or selects nothing that is in the store.
    """
    answer = store.sql(query)
    if "unit_id" not in answer.column_names:
        raise UserError(
            f"the selection has no column unit_id, only {', '.join(answer.column_names)}",
            "select unit_id from units where …",
        )
    selection = units_by_id(store, set(answer.column("unit_id").to_pylist()), query)
    if not selection.unit_ids:
        raise UserError(f"no unit of {store.path} answers {query!r}", "loosen the query, or ingest first")
    return selection


def units_by_id(store: Store, wanted: Collection[str], query: str) -> Selection:
    """The units among `wanted` that the store holds; `query` is kept as where they came from."""
    rows: dict[str, list[tuple[int, str]]] = {}
    table = store.sql("select unit_id, session_id, unit_index from units order by session_id, unit_index")
    for unit_id, session_id, row in zip(*(c.to_pylist() for c in table.columns), strict=True):
        if unit_id in wanted:
            rows.setdefault(session_id, []).append((row, unit_id))
    invalid: dict[str, list[tuple[float, float]]] = {}
    table = store.sql("select session_id, start_s, stop_s from intervals where name = 'invalid_times' order by start_s")
    for session_id, start_s, stop_s in zip(*(c.to_pylist() for c in table.columns), strict=True):
        invalid.setdefault(session_id, []).append((start_s, stop_s))
    unit_ids: list[str] = []
    sessions = []
    for session_id, units in rows.items():
        entry = store.snapshot.entries[session_id]
        row = entry.session
        sessions.append(
            SelectedSession(
                session_id=session_id,
                path=store.path / entry.path,
                tick_hz=row["tick_hz"],
                t_start_s=row["t_start_s"],
                n_ticks=int(row["duration_s"] * row["tick_hz"] + 1e-3),
                n_units=row["n_units"],
                n_spikes=row["n_spikes"],
                rows=np.array([r for r, _ in units], np.int64),
                first=len(unit_ids),
                subject=row["subject"] or "",
                invalid_s=np.array(invalid.get(session_id, []), np.float64).reshape(-1, 2),
            )
        )
        unit_ids.extend(u for _, u in units)
    return Selection(query, store.position, tuple(unit_ids), tuple(sessions))
