"""What to do with each recording that was found. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from nhdata.sources import SessionRef

Existing = Literal["skip", "refresh", "overwrite", "error"]
Action = Literal["ingest", "skip", "fail"]


@dataclass(frozen=True, slots=True)
class Step:
    """One recording, what to do with it, and why if it is not to be ingested."""

    ref: SessionRef
    action: Action
    reason: str = ""


def plan_ingest(refs: Iterable[SessionRef], present: Collection[str], existing: Existing) -> list[Step]:
    """Decide for every recording, in the order in which they were found.

    Parameters
    ----------
    refs : iterable of SessionRef
    present : collection of str
        Session ids that the store holds.
    existing : {"skip", "refresh", "overwrite", "error"}
        What to do with a session that the store holds; whether a refresh is needed, only reading can tell.

    Returns
    -------
    list of Step
        Two recordings of one session id are never both ingested: the second fails. A recording of the same spikes as
        one before it is a copy and is skipped.
    """
    steps: list[Step] = []
    first: dict[str, SessionRef] = {}
    spikes: dict[str, SessionRef] = {}
    for ref in refs:
        if ref.fingerprint is not None and ref.fingerprint in spikes:
            steps.append(Step(ref, "skip", f"a copy of {spikes[ref.fingerprint].place}: the same spikes"))
            continue
        if ref.fingerprint is not None:
            spikes[ref.fingerprint] = ref
        if ref.session_id is None:
            steps.append(Step(ref, "ingest"))  # reading it will say what is wrong
        elif ref.session_id in first:
            other = first[ref.session_id].place
            steps.append(
                Step(
                    ref,
                    "fail",
                    f"{ref.place}: has the session id {ref.session_id} of {other}: "
                    "ingest only one of them, or give them ids of their own",
                )
            )
        else:
            first[ref.session_id] = ref
            if ref.session_id not in present or existing in ("refresh", "overwrite"):
                steps.append(Step(ref, "ingest"))
            elif existing == "skip":
                steps.append(Step(ref, "skip", "already in the store"))
            else:
                steps.append(
                    Step(
                        ref,
                        "fail",
                        f"{ref.place}: session {ref.session_id} is in the store: "
                        "use --existing skip, refresh or overwrite",
                    )
                )
    return steps
