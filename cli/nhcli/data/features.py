"""``nhdata features``."""

from __future__ import annotations

import click

from nhcli import options
from nhcli.base import Command
from nhcli.output import print_json, write_rows


@click.command("features", cls=Command)
@options.store
@click.option(
    "--session",
    "session_ids",
    multiple=True,
    metavar="ID",
    help="A session; may be repeated. All by default.",
)
@click.option(
    "--window",
    nargs=2,
    type=float,
    metavar="START STOP",
    help="Seconds on the session's clock, half-open; by default the first 60 s.",
)
@options.table_format
@options.out
@options.as_json
def command(
    store: str,
    session_ids: tuple[str, ...],
    window: tuple[float, float] | None,
    form: str,
    out: str | None,
    as_json: bool,
) -> None:
    """The 33 reference features of every unit: rate, ISI, autocorrelation, Fano factor.

    Those of the first 60 s were computed at ingest; any other window is computed now.
    """
    import pyarrow as pa

    import nhdata
    from nhdata.store.rows import unit_names

    opened = nhdata.open(store)
    parts = []
    for session_id in session_ids or opened.session_ids:
        session = opened.session(session_id)
        values = session.features(*window) if window else session.features()
        names = [str(name) for name in values.feature.values]
        columns = {name: pa.array(values.values[:, k], from_pandas=True) for k, name in enumerate(names)}
        parts.append(pa.table({"unit_id": unit_names(session_id, session.units()), **columns}))
    rows = pa.concat_tables(parts) if parts else pa.table({"unit_id": pa.array([], pa.string())})
    if as_json:
        print_json({"schema": 1, "rows": rows.to_pylist()}, out)
    else:
        write_rows(rows, form, out)
