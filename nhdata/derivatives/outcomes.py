"""What became of each session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from nhcatalog.errors import UserError
from nhcatalog.place import Place
from nhdata.derivatives.chosen import Chosen
from nhdata.workers import SchedulerLost, WorkerDied, Workers, run_tasks
from nhdata.workers.host import check_file, check_marker, check_s3_settings, located, marked, s3_settings, worker_host

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


@dataclass(frozen=True, slots=True)
class Check:
    """Check that a worker of a cluster sees the client's store and output folder.

    Attributes
    ----------
    session : Place
        The Zarr group of a session of the store.
    out : Path or None
        The output folder, where workers write.
    marker : str
        Name of a file that is in `out`.
    s3_settings : tuple
        Of `nhdata.workers.host.s3_settings`.
    """

    session: Place
    out: Path | None = None
    marker: str = ""
    s3_settings: tuple[tuple[str, str], ...] = ()

    def __call__(self) -> None:
        """Check this process.

        Raises
        ------
        UserError
            If it sees other folders than the client, or settings of S3 are missing.
        """
        if isinstance(self.session, Path):
            check_file(str(self.session))
        else:
            check_s3_settings(self.s3_settings)
        if self.out is not None:
            check_marker(self.out, self.marker)


def run_sessions(
    work: Callable[[Chosen], Outcome], chosen: Sequence[Chosen], out: Path, workers: Workers
) -> Iterator[Outcome]:
    """Write something of each session to a folder; outcomes as they come.

    Raises
    ------
    UserError
        If the workers cannot be had, or one of them sees another folder than `out` here.
    KeyboardInterrupt, SchedulerLost
        With the number of sessions that were done.
    """
    if not chosen:
        return
    n_done = 0
    with marked(out, workers.on_cluster) as marker:
        check = Check(chosen[0].path, out, marker, s3_settings())
        try:
            for outcome in run_tasks(partial(_attempt, work, check), chosen, workers, on_death=died, check=check):
                n_done += outcome.kind != "failed"
                yield outcome
        except SchedulerLost as error:
            raise SchedulerLost(error.scheduler, f"{n_done} of {len(chosen)} sessions are in {out}") from None
        except KeyboardInterrupt:
            done = f"{n_done} of {len(chosen)} sessions are in {out}; run the same command again to go on"
            raise KeyboardInterrupt(done) from None


def _attempt(work: Callable[[Chosen], Outcome], check: Check, chosen: Chosen) -> Outcome:
    """The outcome of `work`, or of its failure: one session's fault must not cost the others."""
    try:
        if worker_host():
            replace(check, session=chosen.path)()
        return work(chosen)
    except UserError as error:
        return Outcome(chosen.session_id, "failed", f"session {chosen.session_id}: {located(error)}")
    except OSError as error:
        return Outcome(chosen.session_id, "failed", f"session {chosen.session_id}: {located(error)}: check the disk")


def died(chosen: Chosen, error: WorkerDied) -> Outcome:
    """The outcome of a session whose process ended under it."""
    return Outcome(chosen.session_id, "failed", f"session {chosen.session_id}: {error}")
