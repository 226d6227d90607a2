"""Features of many sessions as tables: on the way to a screen, or a Parquet file a session."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhcatalog.whole import whole_file
from nhdata.derivatives.chosen import Chosen
from nhdata.derivatives.outcomes import Check, Outcome, Report, run_sessions
from nhdata.features.reference import FEATURE_NAMES, VERSION, WINDOW_S
from nhdata.features.sets import check_sets, feature_columns
from nhdata.features.trains import Trains
from nhdata.store.rows import unit_names
from nhdata.workers import Workers, run_tasks
from nhdata.workers.host import s3_settings

KEY = b"nhdata_features"


@dataclass(frozen=True, slots=True)
class FeaturesJob:
    """Which features, of which time.

    Attributes
    ----------
    sets : tuple of str
        Names in `nhdata.features.sets.SETS`.
    window_s : (start, stop) or None
        Seconds on the session's clock, half-open.
    at_s : float or None
        Start of a window of 60 s, in place of `window_s`. With neither, the window of the stored features: the
        first 60 s of good recording; or, with `intervals`, the whole session.
    intervals : str or None
        Only the spans of this table, within the window.
    """

    sets: tuple[str, ...] = ("reference",)
    window_s: tuple[float, float] | None = None
    at_s: float | None = None
    intervals: str | None = None


def check_job(job: FeaturesJob) -> None:
    """Find what cannot be asked for before any session is read.

    Raises
    ------
    UserError
        If a set is not there, or both a window and the start of one are given.
    """
    check_sets(job.sets)
    if job.window_s is not None and job.at_s is not None:
        raise UserError("both a window and the start of one", "give --window START STOP or --at-s SECOND")


def feature_table(job: FeaturesJob, chosen: Chosen) -> pa.Table:
    """One row per unit: ``unit_id``, ``session_id``, the window, the version of the 33's definition, the features.

    Raises
    ------
    UserError
        As ``Session.trains``.
    """
    session = chosen.open()
    if job.at_s is not None:
        window = (job.at_s, job.at_s + WINDOW_S)
    elif job.window_s is not None:
        window = job.window_s
    elif job.intervals is not None:
        window = (session.t_start_s, session.t_stop_s)
    else:
        stored = session.feature_attrs
        window = (stored["window_start_s"], stored["window_stop_s"])
    if job == FeaturesJob():
        columns = dict(zip(FEATURE_NAMES, session.features().values.T, strict=True))
    else:
        found_names: list[str] = []

        def compute(trains: Trains) -> NDArray[np.float64]:
            found = feature_columns(trains, job.sets)
            found_names[:] = found
            return np.column_stack([*found.values()])

        values = session.over_observed(compute, *window, intervals=job.intervals)
        columns = dict(zip(found_names, values.T, strict=True))
    rows = np.arange(session.n_units) if chosen.rows is None else np.array(chosen.rows, np.int64)
    names = np.array(unit_names(session.session_id, session.units()), dtype=object)
    n = rows.size
    return pa.table(
        {
            "unit_id": pa.array(names[rows].tolist(), pa.string()),
            "session_id": pa.array([session.session_id] * n, pa.string()),
            "window_start_s": pa.array(np.full(n, window[0], float)),
            "window_stop_s": pa.array(np.full(n, window[1], float)),
            "intervals": pa.array([job.intervals] * n, pa.string()),
            "version": pa.array(np.full(n, VERSION)),
            **{name: pa.array(values[rows], from_pandas=True) for name, values in columns.items()},
        }
    )


def feature_tables(
    chosen: Sequence[Chosen], job: FeaturesJob, *, workers: Workers | None = None
) -> Iterator[tuple[str, pa.Table]]:
    """(session id, table) as they come."""
    check_job(job)
    check = Check(chosen[0].path, s3_settings=s3_settings()) if chosen else None
    yield from run_tasks(partial(_named_table, job), chosen, workers, check=check)


def _named_table(job: FeaturesJob, chosen: Chosen) -> tuple[str, pa.Table]:
    return chosen.session_id, feature_table(job, chosen)


def write_features(
    chosen: Sequence[Chosen],
    out: Path,
    job: FeaturesJob,
    *,
    workers: Workers | None = None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> Report:
    """A Parquet file ``<session_id>.parquet`` for each session, in one folder that reads as one table.

    A file appears whole or not at all. One that says the same of the same spikes, by its own account, is skipped;
    one of other units, another window or an older version is replaced.

    Parameters
    ----------
    chosen : sequence of Chosen
    out : Path
        Folder, made if it is not there.
    job : FeaturesJob
    workers : Workers, optional
    on_outcome : callable
        Told each outcome as it comes.

    Raises
    ------
    UserError
        If `job` asks for what there is not, or `out` is a file.
    """
    check_job(job)
    out = out.absolute()
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file", "name a folder")
    out.mkdir(parents=True, exist_ok=True)
    report = Report()
    for outcome in run_sessions(partial(_write_table, out, job), chosen, out, workers or Workers()):
        report.add(outcome)
        on_outcome(outcome)
    return report


def _write_table(out: Path, job: FeaturesJob, chosen: Chosen) -> Outcome:
    path = out / f"{chosen.session_id}.parquet"
    says = {
        **json.loads(json.dumps(asdict(job))),
        "version": VERSION,
        "content_hash": chosen.open().attrs["content_hash"],
        "units": chosen.units_hash,
    }
    if _account(path) == says:
        return Outcome(chosen.session_id, "skipped", str(path))
    table = feature_table(job, chosen)
    table = table.replace_schema_metadata({KEY: json.dumps(says).encode()})
    with whole_file(path) as part:  # hidden, so that readers of the folder pass over it
        pq.write_table(table, part)
    return Outcome(chosen.session_id, "written", str(path))


def _account(path: Path) -> object:
    """What a file says it was made from; None if it does not."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return json.loads(metadata.get(KEY, b"null"))
    except (FileNotFoundError, pa.ArrowInvalid, ValueError):
        return None
