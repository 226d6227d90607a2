"""``nhdata features``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nhcli import options
from nhcli.base import WorkersCommand
from nhcli.data._derivatives import Outcomes, local_folder
from nhcli.output import print_json, progress_bar, write_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from nhdata.derivatives.chosen import Chosen
    from nhdata.derivatives.features import FeaturesJob
    from nhdata.workers import Workers


@click.command("features", cls=WorkersCommand)
@options.store
@options.session_ids
@options.select
@click.option(
    "--window",
    nargs=2,
    type=float,
    metavar="START STOP",
    help="Seconds on the session's clock, half-open; by default the first 60 s of good recording.",
)
@click.option(
    "--at-s",
    "--at",
    "at_s",
    type=float,
    metavar="SECOND",
    help="The 60 s from this second of the session's clock on (a time, not a log position as in ls, info and sql).",
)
@click.option("--intervals", metavar="NAME", help="Only the spans of this interval table, e.g. trials.")
@click.option(
    "--set",
    "sets",
    default="reference",
    show_default=True,
    metavar="NAMES",
    help="Sets of features, joined by commas: reference, irregularity, bursts, fano, quality, population.",
)
@options.table_format
@options.out
@click.option(
    "--out-dir", metavar="DIR", help="A Parquet file for each session; those that are there are not done again."
)
@options.jobs
@options.scheduler
@options.as_json
@options.progress
@click.pass_context
def command(
    ctx: click.Context,
    store: str,
    session_ids: tuple[str, ...],
    select: str | None,
    window: tuple[float, float] | None,
    at_s: float | None,
    intervals: str | None,
    sets: str,
    form: str,
    out: str | None,
    out_dir: str | None,
    jobs: int,
    scheduler: str | None,
    as_json: bool,
    progress: bool,
) -> None:
    """The reference features of every unit (rate, ISI, autocorrelation, Fano factor), and others.

    Those of the first 60 s of good recording were computed at ingest, and SQL knows them as unit_features; any other
    window is computed now. docs/reference/features.md says what each feature is.

    Exit code: 0 all well, 1 nothing could be computed, 3 some sessions failed.
    """
    import nhdata
    from nhcatalog.errors import UserError
    from nhdata.derivatives.chosen import choose
    from nhdata.derivatives.features import FeaturesJob, check_job, write_features
    from nhdata.workers import Workers

    job = FeaturesJob(tuple(name.strip() for name in sets.split(",")), window, at_s, intervals)
    check_job(job)
    if out_dir is not None and out is not None:
        raise UserError("both --out and --out-dir", "name one of them")
    chosen = choose(nhdata.open(store), session_ids, select)
    workers = Workers(jobs, scheduler)
    if out_dir is not None:
        with Outcomes(len(chosen), "features", progress) as outcomes:
            report = write_features(chosen, local_folder(out_dir), job, workers=workers, on_outcome=outcomes.add)
        ctx.exit(outcomes.finish(report, as_json))
    rows = _rows(chosen, job, workers, progress)
    if as_json:
        print_json({"schema": 1, "rows": rows.to_pylist()}, out)
    else:
        write_rows(rows, form, out)


def _rows(chosen: list[Chosen], job: FeaturesJob, workers: Workers, progress: bool) -> pa.Table:
    """One table of all sessions, in the order asked for."""
    import pyarrow as pa

    from nhdata.derivatives.features import feature_tables

    tables = {}
    with progress_bar(progress) as bar:
        task = bar.add_task("features", total=len(chosen), note="")
        try:
            for session_id, table in feature_tables(chosen, job, workers=workers):
                tables[session_id] = table
                bar.update(task, advance=1, note=session_id)
        except KeyboardInterrupt:
            done = f"{len(tables)} of {len(chosen)} sessions were computed, and nothing was written"
            raise KeyboardInterrupt(f"{done}; use --out-dir DIR to keep what is finished") from None
    if not tables:
        return pa.table({"unit_id": pa.array([], pa.string())})
    return pa.concat_tables([tables[c.session_id] for c in chosen])
