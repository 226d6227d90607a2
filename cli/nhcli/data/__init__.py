"""``nhdata``: recordings in, SQL and arrays out."""

import click

from nhcli.base import LazyGroup


@click.group(
    cls=LazyGroup,
    package="nhcli.data",
    names=(
        "ingest",
        "ls",
        "info",
        "sql",
        "schema",
        "select",
        "catalog",
        "features",
        "counts",
        "validate",
        "export",
        "report",
        "serve",
        "doctor",
        "completions",
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="neurohorizon")
def cli() -> None:
    """Spike-sorted recordings in a store that answers SQL.

    \b
    nhdata ingest recordings/ --store data.zarr
    nhdata report --store data.zarr
    nhdata sql --store data.zarr "select region, count(*) from units group by 1"
    """
