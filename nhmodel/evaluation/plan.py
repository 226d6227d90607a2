"""Which sessions of a store a run can be scored on, and as what."""

from __future__ import annotations

from dataclasses import dataclass

from nhcatalog.errors import UserError
from nhdata.loading.selection import Selection, select_units, units_by_id
from nhdata.store.store import Store
from nhmodel.run import RunInfo, fingerprints


@dataclass(frozen=True)
class Planned:
    """One session to be forecast.

    Attributes
    ----------
    selection : Selection
        Its units.
    seen : bool
        Whether the run was trained on it.
    refused : str or None
        Why it must not be scored.
    """

    selection: Selection
    seen: bool
    refused: str | None = None

    @property
    def session_id(self) -> str:
        return self.selection.sessions[0].session_id


def plan_sessions(info: RunInfo, store: Store, select: str | None) -> list[Planned]:
    """Sessions of training with their own units, then all others that `select` (or the run's own query) names.

    Raises
    ------
    UserError
        If a session of training has changed, or there is no session at all.
    """
    plan = [Planned(selection, True) for selection in _seen(info, store)]
    plan += [Planned(s, False, _refused(info, s)) for s in _unseen(info, store, select)]
    if not plan:
        query = info.query if select is None else select
        raise UserError(f"{store.path} has no unit to score for {query!r}", "name another store, or other units")
    marks, trained = fingerprints(store), {mark: s for s, mark in info.fingerprint.items()}
    return [
        planned
        if planned.seen or marks[planned.session_id] not in trained
        else Planned(
            planned.selection,
            False,
            f"the same recording as {trained[marks[planned.session_id]]}, which the run was trained on",
        )
        for planned in plan
    ]


def _refused(info: RunInfo, selection: Selection) -> str | None:
    held_out = selection.sessions[0].session_id in info.held_out
    return "it was held out of training to choose the weights of the run" if held_out else None


def _seen(info: RunInfo, store: Store) -> list[Selection]:
    """Sessions of training that the store holds, one selection each; refuses those that changed."""
    here = [s for s in sorted(info.content_hash) if s in store.snapshot.entries]
    for session_id in here:
        if store.snapshot.entries[session_id].content_hash != info.content_hash[session_id]:
            raise UserError(
                f"session {session_id} in {store.path} is not the one that the run was trained on",
                "evaluate on the store as it was, or train again",
            )
    selection = units_by_id(store, set(info.unit_ids), info.query)
    return [selection.only([session_id]) for session_id in here]


def _unseen(info: RunInfo, store: Store, select: str | None) -> list[Selection]:
    """Sessions that the run never saw, one selection each; `select` must be a query even where there is none."""
    if select is None and all(session_id in info.content_hash for session_id in store.snapshot.entries):
        return []
    selection = select_units(store, info.query if select is None else select)
    new = [s.session_id for s in selection.sessions if s.session_id not in info.content_hash]
    return [selection.only([session_id]) for session_id in new]
