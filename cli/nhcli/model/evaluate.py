"""``nhmodel evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nhcli import options
from nhcli.base import Command
from nhcli.output import print_json, progress_bar

if TYPE_CHECKING:
    from nhmodel.evaluation.evaluate import Evaluation

NOT_FAIR = {
    "valid": "chose the weights and tuned the baselines: no fair test of either",
    "train": "is what the model and the baselines learnt from: no test at all",
}


@click.command("evaluate", cls=Command)
@click.option("--run", required=True, metavar="FOLDER", help="Folder of the run.")
@options.store
@click.option("--split", type=click.Choice(["test", "valid", "train"]), default="test", show_default=True)
@click.option("--select", metavar="SQL", help="Units of sessions the run never saw; by default its own selection.")
@click.option(
    "--reference-s",
    default=60.0,
    show_default=True,
    help="Seconds that sessions the run never saw are known by.",
)
@click.option("--baseline", "baselines", multiple=True, metavar="NAME", help="Only these baselines; may be repeated.")
@click.option("--html", metavar="FILE", help="Also write a report to look at.")
@options.as_json
@options.progress
def command(
    run: str,
    store: str,
    split: str,
    select: str | None,
    reference_s: float,
    baselines: tuple[str, ...],
    html: str | None,
    as_json: bool,
    progress: bool,
) -> None:
    """Score a run beside the null and every baseline, by default on windows that nothing was fitted to.

    fp-bps: bits per spike gained over each unit's mean rate. Sessions the run never saw are scored as
    zero-shot, from their first reference seconds.
    """
    from nhmodel.evaluation import evaluate

    with progress_bar(progress) as bar:
        task = bar.add_task("evaluate", total=None, note="")

        def on_session(session_id: str) -> None:
            bar.update(task, advance=1, note=session_id)

        result = evaluate(
            run,
            store,
            split=split,
            select=select,
            reference_s=reference_s,
            baselines=baselines or None,
            on_start=lambda n: bar.update(task, total=n, completed=-1),
            on_session=on_session,
        )
    value = result.to_json(run)
    if html is not None:
        from nhmodel.report import write_report

        write_report(result, value, html)
    if as_json:
        print_json(value)
    else:
        _print_table(result, value)


def _print_table(result: Evaluation, value: dict[str, Any]) -> None:
    windows = f"{value['n_windows']} windows of {result.horizon_s} s in bins of {result.bin_s} s"
    click.echo(f"{value['run']}: {windows}, split {result.split}")
    if result.split in NOT_FAIR:
        click.echo(f"note: split {result.split} {NOT_FAIR[result.split]}", err=True)
    for session_id, reason in result.skipped.items():
        click.echo(f"skipped: {session_id}: {reason}", err=True)
    for regime, delta in zip(result.regimes, value["deltas_by_regime"], strict=True):
        click.echo(f"\n{regime:<16}  fp-bps  95 % interval       per unit  Poisson D2  within-unit r")
        rows = [row for row in value["scores"] if row["regime"] == regime]
        for row in sorted(rows, key=lambda row: -(row["fp_bps"] or 0)):
            lo, hi = (_number(x) for x in row["fp_bps_ci95"])
            rest = "  ".join(_number(row[k]) for k in ("unit_bps", "poisson_d2", "within_unit_r"))
            click.echo(f"{row['model']:<16} {_number(row['fp_bps'])}  [{lo}, {hi}]  {rest}")
        lo, hi = delta["ci95"]
        click.echo(
            f"model - {delta['baseline']} (best baseline): {_number(delta['fp_bps'])}  [{_number(lo)}, {_number(hi)}]"
        )


def _number(value: float | None) -> str:
    return "      –" if value is None else f"{value:+7.3f}"
