"""Carry out an ingest plan, one recording after another or several at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from nhcatalog.catalog import Catalog, SessionExists
from nhcatalog.errors import UserError
from nhcatalog.place import AnyPlace, Place, Url, to_place
from nhdata.ingest.plan import Existing, Step, plan_ingest
from nhdata.recording import Recording
from nhdata.sources import PreparedSource, SessionRef, SourceOptions, open_source
from nhdata.sources.recognise import find
from nhdata.store.commit import add_session
from nhdata.store.encode import encode
from nhdata.store.publish import check_place, create_store, root_attributes, single_machine_note
from nhdata.store.session import Session
from nhdata.workers import SchedulerLost, WorkerDied, Workers, run_tasks
from nhdata.workers.host import (
    check_file,
    check_marker,
    check_s3_settings,
    elsewhere,
    located,
    marked,
    s3_settings,
    worker_host,
)


@dataclass(frozen=True, slots=True)
class Ingested:
    """A session that is now in the store (or would be, in a dry run); `n_left_out` units did not pass as good.

    `worker` is the host of the cluster's worker that wrote it.
    """

    session_id: str
    source: str
    n_units: int
    n_spikes: int
    path: str = field(default="", compare=False)
    n_left_out: int = field(default=0, compare=False)
    worker: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A recording that was left out on purpose; `in_store` says that the store holds its session."""

    path: str
    reason: str
    in_store: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A recording that could not be ingested; the store is as it was before it."""

    path: str
    error: str


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while recordings were read: how many of those found are in the store, and how to go on."""


Outcome = Ingested | Skipped | Failed
VISIBLE_S = 30.0
"""How long a session that a worker of a cluster committed may take to be visible here; network disks cache folders."""


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
    """All that one process needs to ingest one recording.

    `root_attributes` are those of the store as the client sees it, for workers of a cluster to compare (None where
    nothing is compared); `marker` is the file that tells a store without an id from others.
    """

    store: Place
    source: str
    options: SourceOptions
    min_good_units: int
    existing: Existing
    dry_run: bool
    root_attributes: Mapping[str, Any] | None = None
    marker: str = ""
    s3_settings: tuple[tuple[str, str], ...] = ()

    def check(self) -> None:
        """Check that this process sees the client's store.

        Raises
        ------
        UserError
            If another store or none is here, or settings of S3 are missing.
        """
        if isinstance(self.store, Url):
            check_s3_settings(self.s3_settings)
        if self.root_attributes is not None and root_attributes(self.store) != self.root_attributes:
            raise elsewhere(self.store)
        if isinstance(self.store, Path):
            check_marker(self.store, self.marker)


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
    on_note: Callable[[str], None] = lambda note: None,
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
    on_note : callable
        Called before anything is read with a note on the store's file system, if there is one: without hard links, only
        one machine at a time may write.

    Returns
    -------
    IngestReport

    Raises
    ------
    UserError
        If the source is unknown or does not take an option, a path holds no recording of its kind, or without a source
        of none or of several, something else is at `store`, the workers cannot be had, or they are a cluster's and the
        store's file system has no hard links.
    Interrupted
        By Ctrl-C, unless it is a dry run.

    Examples
    --------
    >>> from nhdata.ingest import ingest
    >>> report = ingest("data.zarr", "phy", ["sorted/"])  # doctest: +SKIP
    """
    root = to_place(store)
    check_place(root)
    options = options or SourceOptions()
    workers = workers or Workers()
    if note := single_machine_note(root):
        if workers.on_cluster:
            raise UserError(note, "use --jobs without --scheduler and --slurm, or keep the store on another disk")
        on_note(note)
    if workers.on_cluster:
        paths = [path if "://" in str(path) else Path(path).expanduser().absolute() for path in paths]
        options = replace(options, eids=options.eids and options.eids.absolute())
    source, refs = find(source, paths, options)
    job = Job(root, source, options, min_good_units, existing, dry_run)
    catalog = Catalog(root / "catalog")
    steps = _prepare(plan_ingest(refs, catalog.snapshot().entries, existing), source, options)
    on_start(len(steps))
    report = IngestReport()
    if workers.on_cluster and any(step.action == "ingest" for step in steps):
        if not dry_run:
            create_store(root)
        job = replace(job, root_attributes=root_attributes(root), s3_settings=s3_settings())
    has_no_id = job.root_attributes is not None and "store_id" not in job.root_attributes
    try:
        with marked(root, has_no_id and not dry_run) as marker:
            for outcome in _outcomes(replace(job, marker=marker), steps, workers, on_begin):
                report.add(outcome)
                on_outcome(outcome)
    except SchedulerLost as error:
        raise (error if dry_run else SchedulerLost(error.scheduler, _n_there(steps, catalog))) from None
    except KeyboardInterrupt:
        if dry_run:
            raise
        raise Interrupted(_how_far(steps, report, catalog, existing)) from None
    if workers.on_cluster and not dry_run:
        for failed in _find_missing(report, root, catalog):
            on_outcome(failed)
    return report


def _prepare(steps: Sequence[Step], name: str, options: SourceOptions) -> list[Step]:
    """Look up what the workers need of the recordings that are to be ingested, and of no others."""
    source = open_source(name, options)
    if not isinstance(source, PreparedSource):
        return list(steps)
    prepared = []
    for step in steps:
        if step.action == "ingest":
            ref = source.prepare(step.ref)
            step = Step(ref, "skip", ref.reason) if ref.reason else replace(step, ref=ref)
        prepared.append(step)
    return prepared


def _find_missing(report: IngestReport, root: Place, catalog: Catalog) -> list[Failed]:
    """Turn sessions that workers ingested but that are not in this catalog into failures."""
    deadline_s = time.monotonic() + VISIBLE_S
    missing = {done.session_id for done in report.ingested} - catalog.snapshot().entries.keys()
    while missing and time.monotonic() < deadline_s:
        time.sleep(0.5)
        missing -= catalog.snapshot().entries.keys()
    failed = [
        Failed(
            done.path,
            f"{done.path}: the worker on {done.worker} wrote elsewhere: it must see {root} under this path",
        )
        for done in report.ingested
        if done.session_id in missing
    ]
    report.ingested = [done for done in report.ingested if done.session_id not in missing]
    report.failed += failed
    return failed


def _how_far(steps: Sequence[Step], report: IngestReport, catalog: Catalog, existing: Existing) -> str:
    if existing == "overwrite":
        return f"{len(report.ingested)} of {len(steps)} sessions were ingested again"
    go_on = "run it again with --existing skip" if existing == "error" else "run the same command again"
    return f"{_n_there(steps, catalog)}; {go_on} to go on"


def _n_there(steps: Sequence[Step], catalog: Catalog) -> str:
    there = catalog.snapshot().entries  # a worker may have committed one that it could not report any more
    return f"{sum(step.ref.session_id in there for step in steps)} of {len(steps)} sessions are in the store"


def _outcomes(job: Job, steps: Sequence[Step], workers: Workers, on_begin: Callable[[str], None]) -> Iterator[Outcome]:
    """First of what needs no reading, then of the rest as it comes."""
    for step in steps:
        if step.action == "skip":
            yield Skipped(step.ref.place, step.reason, in_store=not step.ref.reason)
        elif step.action == "fail":
            yield Failed(step.ref.place, step.reason)
    yield from run_tasks(
        partial(carry_out, job),
        [step.ref for step in steps if step.action == "ingest"],
        workers,
        on_begin=lambda ref: on_begin(ref.place),
        on_death=_died,
        check=job.check,
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
        if worker_host():
            job.check()
        return _ingest_one(job, ref)
    except SessionExists:
        return Skipped(path, "committed by another writer meanwhile", in_store=True)
    except Exception as error:  # one reader's fault must not cost the recordings after it
        logging.getLogger(__name__).debug("%s", path, exc_info=True)
        return Failed(path, _describe(ref, error))


def _describe(ref: SessionRef, error: Exception) -> str:
    try:
        if ref.url is None and not ref.remote:
            check_file(ref.place)
    except UserError as unseen:  # the client found it
        return str(unseen)
    text = located(error)
    if isinstance(error, UserError):
        return text if ref.place in text else f"{ref.place}: {text}"
    if isinstance(error, OSError):
        return f"{ref.place}: {text}: check the disk and its permissions; the session was not added"
    return f"{ref.place}: {type(error).__name__}: {text}: a fault of the reader; please report it"


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
        worker_host(),
    )
    if job.existing == "refresh":
        entry = Catalog(job.store / "catalog").snapshot().entries.get(recording.session_id)
        if entry is not None and encoded.same_as(Session(job.store / entry.path).attrs):
            return Skipped(path, "unchanged at the source", in_store=True)
    if job.dry_run:
        return done
    add_session(job.store, encoded, replace=job.existing in ("refresh", "overwrite"))
    return done


def _too_few(recording: Recording, least: int) -> str:
    left_out = ", ".join(f"{n} {why}" for why, n in recording.provenance.dropped.items())
    rule = recording.provenance.rule + (f"; left out: {left_out}" if left_out else "")
    more = ", or keep the others too with --no-filter" if left_out else ""
    return f"{recording.n_units} good units ({rule}), fewer than {least}: lower --min-good-units{more}"
