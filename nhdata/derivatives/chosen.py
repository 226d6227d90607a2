"""Which units of which sessions to compute from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from nhcatalog.errors import UserError
from nhcatalog.place import Place
from nhdata.store.session import Session
from nhdata.store.store import Store


@dataclass(frozen=True, slots=True)
class Chosen:
    """Units of one session; it may be sent to another process.

    Attributes
    ----------
    session_id : str
    path : Path or Url
        The session's Zarr group.
    rows : tuple of int, or None
        Rows of the units, ascending; None for all.
    """

    session_id: str
    path: Place
    rows: tuple[int, ...] | None = None

    def open(self) -> Session:
        """The session."""
        return Session(self.path)

    @property
    def units_hash(self) -> str:
        """Equal for equal rows: ``all``, or the SHA-256 of their numbers."""
        return "all" if self.rows is None else hashlib.sha256(repr(self.rows).encode()).hexdigest()


def choose(store: Store, session_ids: Sequence[str] = (), select: str | None = None) -> list[Chosen]:
    """All units of all sessions, or those of some sessions, or those that a query or a named selection gives.

    A session is named by its id, or by how that starts.

    Raises
    ------
    UserError
        If there is no such session, or the selection fails or is empty.
    """
    wanted = list(dict.fromkeys(map(store.match, session_ids))) or store.session_ids
    if select is None:
        return [Chosen(s, store.path / store.snapshot.entries[s].path) for s in wanted]
    from nhdata.loading.selection import select_units

    of_session = {s.session_id: s for s in select_units(store, select).sessions}
    chosen = [
        Chosen(s, store.path / store.snapshot.entries[s].path, tuple(of_session[s].rows.tolist()))
        for s in wanted
        if s in of_session
    ]
    if not chosen:
        raise UserError(f"{select!r} selects no unit of {', '.join(wanted)}", "name other sessions, or leave them out")
    return chosen
