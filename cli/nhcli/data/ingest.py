"""``nhdata ingest``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nhcli import options
from nhcli.base import EXIT_ERROR, EXIT_PARTLY, WorkersCommand
from nhcli.data.ingest_progress import IngestProgress
from nhcli.output import print_json, progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress

    from nhdata.ingest import Ingested, IngestReport


def _known(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    if name is not None:
        from nhdata.sources import UnknownSource, source_names

        if name not in source_names():
            raise click.BadParameter(str(UnknownSource(name)))
    return name


@click.command("ingest", cls=WorkersCommand)
@click.option(
    "--source",
    metavar="NAME",
    callback=_known,
    help="ibl, ibl-compact, allen, nwb, phy, brainset or synthetic; by default, the one that PATHS look like.",
)
@click.argument("paths", nargs=-1, type=click.Path())
@options.store
@click.option(
    "--existing",
    type=click.Choice(["skip", "refresh", "overwrite", "error"]),
    default="skip",
    show_default=True,
    help="What to do with a session that the store holds.",
)
@click.option(
    "--min-good-units",
    default=10,
    show_default=True,
    type=click.IntRange(min=1),
    help="Skip recordings with fewer.",
)
@click.option(
    "--sample-rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="HZ",
    help="phy: samples per second, where params.py is missing.",
)
@click.option("--no-filter", is_flag=True, help="Keep the units that fail the source's rule too, marked as not good.")
@click.option("--download", is_flag=True, help="allen: bring sessions into the cache folder PATH first (needs uv).")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="N recordings at most.")
@click.option(
    "--eids", type=click.Path(path_type=Path), metavar="FILE", help="ibl, ibl-compact: only the sessions of this list."
)
@click.option("--revision", metavar="DATE", help="ibl: spike sorting of this revision instead of the newest.")
@click.option(
    "--drop-early-spikes", "drop_early", is_flag=True, help="ibl, phy: leave out spikes before 0 s; else an error."
)
@click.option("--remote", is_flag=True, help="ibl: find sessions by the network, download them to PATH or ONE's cache.")
@click.option("--search", multiple=True, metavar="KEY=VALUE", help="ibl --remote: by project, tag, subject, lab …")
@click.option("--sessions", default=4, show_default=True, help="synthetic: sessions to simulate.")
@click.option("--units", default=32, show_default=True, help="synthetic: units per session.")
@click.option("--seconds", default=300.0, show_default=True, help="synthetic: length of a session.")
@click.option("--seed", default=0, show_default=True, help="synthetic: decides everything.")
@click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Recordings at once, or SLURM jobs."
)
@click.option("--scheduler", metavar="TCP://…", help="Have the workers of a running dask scheduler read them.")
@click.option("--slurm", is_flag=True, help="Have SLURM start the workers (dask-jobqueue), --jobs of them.")
@click.option("--partition", metavar="NAME", help="--slurm: partition to ask for.")
@click.option("--cores", default=1, show_default=True, type=click.IntRange(min=1), help="--slurm: cores of a job.")
@click.option("--memory", default="16GB", show_default=True, metavar="SIZE", help="--slurm: memory of a job.")
@click.option("--walltime", metavar="HH:MM:SS", help="--slurm: time of a job.")
@click.option("--dry-run", is_flag=True, help="Read and check everything, write nothing.")
@options.as_json
@options.progress
@click.pass_context
def command(
    ctx: click.Context,
    source: str | None,
    paths: tuple[str, ...],
    store: str,
    existing: str,
    min_good_units: int,
    sample_rate: float | None,
    no_filter: bool,
    download: bool,
    limit: int | None,
    eids: Path | None,
    revision: str | None,
    drop_early: bool,
    remote: bool,
    search: tuple[str, ...],
    sessions: int,
    units: int,
    seconds: float,
    seed: int,
    jobs: int,
    scheduler: str | None,
    slurm: bool,
    partition: str | None,
    cores: int,
    memory: str,
    walltime: str | None,
    dry_run: bool,
    as_json: bool,
    progress: bool,
) -> None:
    """Read recordings and add their good units to a store.

    \b
    nhdata ingest recordings/ --store data.zarr
    nhdata ingest --source phy sorted/ --sample-rate 30000 --store data.zarr

    PATHS are files or folders; folders are searched. Each session is committed by itself: what fails or is interrupted
    leaves the rest as it was, and running the same command again goes on from there.

    Exit code: 0 all well, 1 nothing could be read, 3 some failed.
    """
    from nhcatalog.errors import UserError
    from nhdata.ingest import ingest
    from nhdata.sources import SourceOptions
    from nhdata.workers import Slurm, Workers

    if not paths and source not in (None, "ibl", "synthetic"):
        raise UserError(f"no path given for source {source}", f"nhdata ingest --source {source} PATH … --store {store}")

    if not slurm and (given := [name for name in ("partition", "cores", "memory", "walltime") if _is_given(ctx, name)]):
        raise UserError(f"--{given[0]} is for the jobs of --slurm", "add --slurm, or leave it out")
    if slurm and scheduler:
        raise UserError("both --slurm and --scheduler", "name one place where the work is done")
    if download and (source != "allen" or len(paths) != 1 or dry_run):
        usage = f"nhdata ingest --source allen --download FOLDER --store {store}, without --dry-run"
        raise UserError("--download brings Allen sessions into one folder", usage)

    with progress_bar(progress) as bar:
        if download:
            paths = _download(Path(paths[0]), limit, bar)
        shown = IngestProgress(bar, say_skipped=not as_json)
        report = ingest(
            store,
            source,
            paths,
            options=SourceOptions(
                sample_rate_hz=sample_rate,
                n_sessions=sessions,
                n_units=units,
                duration_s=seconds,
                seed=seed,
                revision=revision,
                drop_early=drop_early,
                remote=remote,
                eids=eids,
                limit=limit,
                search=search,
                no_filter=no_filter,
            ),
            existing=existing,  # type: ignore[arg-type]
            min_good_units=min_good_units,
            workers=Workers(
                jobs, scheduler, Slurm(partition, cores, memory, walltime) if slurm else None, isolated=True
            ),
            dry_run=dry_run,
            on_start=shown.on_start,
            on_begin=shown.on_begin,
            on_outcome=shown.on_outcome,
            on_note=lambda note: click.echo(f"note: {note}", err=True),
        )
    if as_json:
        print_json({"schema": 1, "dry_run": dry_run, **{k: [asdict(x) for x in v] for k, v in vars(report).items()}})
    else:
        for done in report.ingested:
            click.echo(
                f"{done.session_id}  {done.source}  {_units(done)}  {done.n_spikes} spikes  {_below(done.path, paths)}"
            )
        verb = "would be ingested" if dry_run else f"ingested into {store}"
        rest = f"{len(report.skipped)} skipped, {len(report.failed)} failed"
        click.echo(f"{len(report.ingested)} {verb}, {rest}" if report.ingested else f"nothing {verb}: {rest}", err=True)
        if progress and report.ingested and not dry_run:
            session_id = report.ingested[0].session_id
            click.echo(f"look at it: nhdata report --store {store} --session {session_id}", err=True)
    ctx.exit(_exit_code(report))


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _units(done: Ingested) -> str:
    found = done.n_units + done.n_left_out
    return f"{done.n_units} units" if found == done.n_units else f"{done.n_units} of {found} units"


def _below(path: str, named: tuple[str, ...]) -> str:
    """A recording's path as seen from the folder that was named, or its own name."""
    for place in named:
        folder = Path(place).resolve()
        if Path(path) != folder and Path(path).is_relative_to(folder):
            return str(Path(path).relative_to(folder))
    return path if "://" in path else Path(path).name


def _download(folder: Path, limit: int | None, bar: Progress) -> tuple[str, ...]:
    """Allen sessions into a cache folder; their files."""
    from nhdata.sources.allen.download import download

    task = bar.add_task("download", total=None, note="AllenSDK's environment")

    def on_event(event: dict[str, Any]) -> None:
        match event:
            case {"event": "sessions", "n": n}:
                bar.update(task, total=n, note="")
            case {"event": "bytes", "session_id": session_id, "n_bytes": n_bytes}:
                bar.update(task, note=f"{session_id}: {n_bytes / 1e6:.0f} MB")
            case {"event": "session"}:
                bar.advance(task)

    return tuple(str(file) for file in download(folder, limit=limit, on_event=on_event))


def _exit_code(report: IngestReport) -> int:
    if not report.failed:
        return 0
    in_store = any(skipped.in_store for skipped in report.skipped)
    return EXIT_PARTLY if report.ingested or in_store else EXIT_ERROR
