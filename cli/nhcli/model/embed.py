"""``nhmodel embed``."""

from __future__ import annotations

from pathlib import Path

import click

from nhcli import options
from nhcli.base import Command
from nhcli.model.threads import set_threads
from nhcli.output import print_json, write_rows


@click.command("embed", cls=Command)
@click.option("--run", required=True, metavar="FOLDER", help="Folder of the run.")
@options.store
@click.option("--out", required=True, metavar="FILE", help="Parquet file to write.")
@click.option("--select", metavar="SQL", help="Units of sessions the run never saw; by default its own selection.")
@options.reference
@options.as_json
def command(run: str, store: str, out: str, select: str | None, reference_s: float, as_json: bool) -> None:
    """Write the embedding of every unit, to be joined with the catalog by unit_id.

    In DuckDB: select u.region, e.embedding from 'units.parquet' e join … u using (unit_id).
    """
    from nhmodel.embed import embeddings
    from nhmodel.run import RunInfo

    set_threads(RunInfo.read(Path(run)).config.train.threads)
    table = embeddings(run, store, select=select, reference_s=reference_s)
    write_rows(table, "parquet", out)
    dim = table.schema.field("embedding").type.list_size
    if as_json:
        print_json({"schema": 1, "out": out, "n_units": table.num_rows, "dim": dim})
    else:
        click.echo(f"{out}: {table.num_rows} units, embeddings of {dim} numbers")
