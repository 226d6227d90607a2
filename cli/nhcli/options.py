"""Options that several commands have, each defined once."""

from __future__ import annotations

import sys

import click

store = click.option(
    "--store",
    default="data.zarr",
    envvar="NHDATA_STORE",
    show_default=True,
    show_envvar=True,
    metavar="STORE",
    help="The store: a folder, or s3://bucket/key.",
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")

progress = click.option(
    "--progress/--no-progress",
    default=None,
    callback=lambda ctx, param, value: sys.stderr.isatty() if value is None else value,
    help="Progress on stderr; by default if it is a terminal.",
)

table_format = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="How to print the rows.",
)

rows_format = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "ndjson", "parquet"]),
    default="table",
    show_default=True,
    help="How to print the rows; all but 'table' as they come, in little memory.",
)

at = click.option("--at", type=int, metavar="N", help="The store as it was at this log position (nhdata catalog log).")

out = click.option("--out", metavar="FILE", help="Write to a file instead of stdout.")

session_ids = click.option(
    "--session",
    "session_ids",
    multiple=True,
    metavar="ID",
    help="A session, or how its id starts; may be repeated. All by default.",
)

select = click.option(
    "--select", "--units", "select", metavar="QUERY", help="Only units that a SELECT of unit_id, or a named one, gives."
)

jobs = click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Sessions at once.")

scheduler = click.option("--scheduler", metavar="TCP://…", help="Have the workers of a running dask scheduler do it.")

split = click.option(
    "--split",
    type=click.Choice(["test", "valid", "train"]),
    default="test",
    show_default=True,
    help="Which windows of sessions with splits to score.",
)

baseline = click.option(
    "--baseline", "baselines", multiple=True, metavar="NAME", help="Only these baselines; may be repeated."
)

html = click.option("--html", metavar="FILE", help="Also write a report to look at.")

page_out = click.option(
    "--out", metavar="FILE.html", help="Where to write the page; by default here, named after what it shows."
)

page_png = click.option(
    "--png",
    is_flag=False,
    flag_value="",
    metavar="[FILE.png]",
    help="Also draw it as a picture, by default beside the page; needs Chromium.",
)

settings = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, e.g. train.max_minutes=4.",
)

reference = click.option(
    "--reference-s",
    default=60.0,
    show_default=True,
    help="Seconds that sessions the run never saw are known by.",
)
