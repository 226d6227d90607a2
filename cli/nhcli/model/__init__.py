"""``nhmodel``: train a forecaster on a store, and score it."""

import click

from nhcli.base import LazyGroup


@click.group(
    cls=LazyGroup,
    package="nhcli.model",
    names=("train", "evaluate", "baselines", "predict", "embed", "decode", "report"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="neurohorizon")
def cli() -> None:
    """Forecast every unit's spikes, and say how well against honest baselines.

    \b
    nhmodel train --store data.zarr --preset tiny --out runs/first
    nhmodel evaluate --run runs/first --store data.zarr
    """
