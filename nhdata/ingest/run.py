"""Carry out an ingest plan, one recording after another or several at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from nhcatalog.catalog import Catalog, SessionExists
from nhcatalog.errors import UserError
from nhcatalog.place import AnyPlace, Place, to_place
from nhdata.ingest.plan import Existing, Step, plan_ingest
from nhdata.recording import Recording
from nhdata.sources import SessionRef, SourceOptions, open_source
from nhdata.sources.recognise import find
from nhdata.store.commit import add_session
from nhdata.store.encode import encode
from nhdata.store.publish import check_place
from nhdata.store.session import Session
from nhdata.workers import WorkerDied, Workers, run_tasks


@dataclass(frozen=True, slots=True)
class Ingested:
    """A session that is now in the store (or would be, in a dry run); `n_left_out` units did not pass as good."""

    session_id: str
    source: str
    n_units: int
    n_spikes: int
    path: str = field(default="", compare=False)
    n_left_out: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A recording that was left out on purpose."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A recording that could not be ingested; the store is as it was before it."""

    path: str
    error: str


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while recordings were read: how many of those found are in the store, and how to go on."""


Outcome = Ingested | Skipped | Failed
UNCHANGED = "unchanged at the source"


@dataclass
class IngestReport:
    """What became of every recording."""

    ingested: list[Ingested] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """File one outcome."""
        match outcome:
            case Ingested():
                self.ingested.append(outcome)
            case Skipped():
                self.skipped.append(outcome)
            case Failed():
                self.failed.append(outcome)


@dataclass(frozen=True, slots=True)
class Job:
    """All that one process needs to ingest one recording."""

    store: Place
    source: str
    options: SourceOptions
    min_good_units: int
    existing: Existing
    dry_run: bool


def ingest(
    store: AnyPlace,
    source: str | None,
    paths: Sequence[str | Path],
    *,
    options: SourceOptions | None = None,
    existing: Existing = "skip",
    min_good_units: int = 10,
    workers: Workers | None = None,
    dry_run: bool = False,
    on_start: Callable[[int], None] = lambda n: None,
    on_begin: Callable[[str], None] = lambda path: None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> IngestReport:
    """Read recordings and add their good units to a store, which is made if it is not there.

    Every session is staged, moved into place and committed by itself: whatever fails or is interrupted leaves the
    sessions before it complete and the store otherwise as it was.

    Parameters
    ----------
    store : path, Url or str
    source : str or None
        Name of a source, e.g. ``"ibl"``; None for the one that finds recordings at all `paths`.
    paths : sequence of paths
        Where to look for recordings; source ``nwb`` also takes addresses ``https://…``.
    options : SourceOptions, optional
    existing : {"skip", "refresh", "overwrite", "error"}
        What to do with a session that the store holds: leave it, ingest it again if the source has changed, ingest it
        again, or fail.
    min_good_units : int
        A recording with fewer good units is skipped and reported.
    workers : Workers, optional
        Where recordings are read, and how many at once; one session is always read and written by one worker. A dask
        or SLURM worker must see the same files, the store among them, under the same paths.
    dry_run : bool
        Read and check everything, write nothing.
    on_start, on_begin, on_outcome : callable
        Told the number of recordings found, then the path of each as it is begun, and each outcome as it comes.

    Returns
    -------
    IngestReport

    Raises
    ------
    UserError
        If the source is unknown or does not take an option, a path holds no recording of its kind, or without a source
        of none or of several, something else is at `store`, or the workers cannot be had.
    Interrupted
        By Ctrl-C, unless it is a dry run.

    Examples
    --------
    >>> from nhdata.ingest import ingest
    >>> report = ingest("data.zarr", "phy", ["sorted/"])  # doctest: +SKIP
    """
    root = to_place(store)
    check_place(root)
    if isinstance(root, Path):
        root = root.absolute()
    options = options or SourceOptions()
    source, refs = find(source, paths, options)
    job = Job(root, source, options, min_good_units, existing, dry_run)
    catalog = Catalog(root / "catalog")
    steps = plan_ingest(refs, catalog.snapshot().entries, existing)
    on_start(len(steps))
    report = IngestReport()
    try:
        for outcome in _outcomes(job, steps, workers or Workers(), on_begin):
            report.add(outcome)
            on_outcome(outcome)
    except KeyboardInterrupt:
        if dry_run:
            raise
        raise Interrupted(_how_far(steps, report, catalog, existing)) from None
    return report


def _how_far(steps: Sequence[Step], report: IngestReport, catalog: Catalog, existing: Existing) -> str:
    if existing == "overwrite":
        return f"{len(report.ingested)} of {len(steps)} sessions were ingested again"
    there = catalog.snapshot().entries  # a worker may have committed one that it could not report any more
    n_there = sum(step.ref.session_id in there for step in steps)
    go_on = "run it again with --existing skip" if existing == "error" else "run the same command again"
    return f"{n_there} of {len(steps)} sessions are in the store; {go_on} to go on"


def _outcomes(job: Job, steps: Sequence[Step], workers: Workers, on_begin: Callable[[str], None]) -> Iterator[Outcome]:
    """First of what needs no reading, then of the rest as it comes."""
    for step in steps:
        if step.action == "skip":
            yield Skipped(step.ref.place, step.reason)
        elif step.action == "fail":
            yield Failed(step.ref.place, step.reason)
    yield from run_tasks(
        partial(carry_out, job),
        [step.ref for step in steps if step.action == "ingest"],
        workers,
        on_begin=lambda ref: on_begin(ref.place),
        on_death=_died,
    )


def _died(ref: SessionRef, died: WorkerDied) -> Outcome:
    return Failed(
        ref.place,
        f"{ref.place}: not ingested, {died}: check this recording with the tools of its format, or copy it again",
    )


def carry_out(job: Job, ref: SessionRef) -> Outcome:
    """Ingest one recording; never raises what a user could mend."""
    path = ref.place
    try:
        return _ingest_one(job, ref)
    except SessionExists:
        return Skipped(path, "committed by another writer meanwhile")
    except UserError as error:
        text = str(error)
        return Failed(path, text if path in text else f"{path}: {text}")
    except OSError as error:
        return Failed(path, f"{path}: {error}: check the disk and its permissions; the session was not added")
    except Exception as error:  # one reader's fault must not cost the recordings after it
        logging.getLogger(__name__).debug("%s", path, exc_info=True)
        return Failed(path, f"{path}: {type(error).__name__}: {error}: a fault of the reader; please report it")


def _ingest_one(job: Job, ref: SessionRef) -> Outcome:
    path = ref.place
    recording = open_source(job.source, job.options).load(ref)
    if recording.n_units < job.min_good_units:
        return Skipped(path, _too_few(recording, job.min_good_units))
    encoded = encode(recording)
    done = Ingested(
        recording.session_id,
        recording.source,
        recording.n_units,
        encoded.attributes["n_spikes"],
        path,
        sum(recording.provenance.dropped.values()),
    )
    if job.existing == "refresh":
        entry = Catalog(job.store / "catalog").snapshot().entries.get(recording.session_id)
        if entry is not None and encoded.same_as(Session(job.store / entry.path).attrs):
            return Skipped(path, UNCHANGED)
    if job.dry_run:
        return done
    add_session(job.store, encoded, replace=job.existing in ("refresh", "overwrite"))
    return done


def _too_few(recording: Recording, least: int) -> str:
    left_out = ", ".join(f"{n} {why}" for why, n in recording.provenance.dropped.items())
    rule = recording.provenance.rule + (f"; left out: {left_out}" if left_out else "")
    more = ", or keep the others too with --no-filter" if left_out else ""
    return f"{recording.n_units} good units ({rule}), fewer than {least}: lower --min-good-units{more}"
