"""What became of each session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from nhcatalog.errors import UserError
from nhdata.derivatives.chosen import Chosen
from nhdata.workers import WorkerDied

Kind = Literal["written", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One session: written, skipped as it was there already, or failed; `detail` is its file, or the error."""

    session_id: str
    kind: Kind
    detail: str


@dataclass(slots=True)
class Report:
    """All outcomes, by kind, in the order of completion."""

    written: list[Outcome] = field(default_factory=list)
    skipped: list[Outcome] = field(default_factory=list)
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """File one outcome."""
        getattr(self, outcome.kind).append(outcome)


def attempt(chosen: Chosen, work: Callable[[], Outcome]) -> Outcome:
    """The outcome of `work`, or of its failure: one session's fault must not cost the others."""
    try:
        return work()
    except UserError as error:
        return Outcome(chosen.session_id, "failed", f"session {chosen.session_id}: {error}")
    except OSError as error:
        return Outcome(chosen.session_id, "failed", f"session {chosen.session_id}: {error}: check the disk")


def died(chosen: Chosen, error: WorkerDied) -> Outcome:
    """The outcome of a session whose process ended under it."""
    return Outcome(chosen.session_id, "failed", f"session {chosen.session_id}: {error}")
