"""``nhdata counts``."""

from __future__ import annotations

import click

from nhcli import options
from nhcli.base import WorkersCommand
from nhcli.data._derivatives import Outcomes, local_folder


@click.command("counts", cls=WorkersCommand)
@click.option("--bin", "bin_s", type=float, required=True, metavar="SECONDS", help="Width of a bin, e.g. 0.02.")
@click.option("--out", required=True, metavar="DIR", help="Zarr store of the counts, made if it is not there.")
@options.store
@options.session_ids
@options.select
@click.option("--dtype", type=click.Choice(["u1", "u2"]), default="u2", show_default=True, help="Bytes of a count.")
@click.option(
    "--memory",
    "memory_mb",
    default=1024,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="MB",
    help="For the data of all sessions at once.",
)
@options.jobs
@options.scheduler
@options.as_json
@options.progress
@click.pass_context
def command(
    ctx: click.Context,
    bin_s: float,
    out: str,
    store: str,
    session_ids: tuple[str, ...],
    select: str | None,
    dtype: str,
    memory_mb: int,
    jobs: int,
    scheduler: str | None,
    as_json: bool,
    progress: bool,
) -> None:
    """Spike counts of every unit in bins, for many sessions, in one Zarr store.

    Each session is a group with counts (time, unit), for xarray.open_zarr(DIR, group=SESSION, consolidated=False). It
    appears whole or not at all, and the same command run again goes on from where it was. Counts are exact at the edges
    of bins; one that the type cannot hold is an error.

    Exit code: 0 all well, 1 nothing could be written, 3 some sessions failed.
    """
    import nhdata
    from nhdata.derivatives.chosen import choose
    from nhdata.derivatives.counts import write_counts
    from nhdata.workers import Workers

    chosen = choose(nhdata.open(store), session_ids, select)
    with Outcomes(len(chosen), "counts", progress) as outcomes:
        report = write_counts(
            chosen,
            local_folder(out),
            bin_s,
            dtype=dtype,  # type: ignore[arg-type]
            memory_mb=memory_mb,
            workers=Workers(jobs, scheduler),
            on_outcome=outcomes.add,
        )
    ctx.exit(outcomes.finish(report, as_json))
