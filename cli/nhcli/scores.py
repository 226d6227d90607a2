"""Scores of many models as a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from nhcli.output import print_json, progress_bar

if TYPE_CHECKING:
    from nhmodel.evaluation.result import Evaluation

COLUMNS = {
    "unit_bps": "per unit",
    "poisson_d2": "Poisson D2",
    "within_unit_r": "within r",
    "within_unit_r2": "within R2",
    "psth_r2": "PSTH R2",
}


@contextmanager
def evaluation_bar(shown: bool, name: str = "evaluate") -> Iterator[dict[str, Any]]:
    """A progress bar over sessions, as what `nhmodel.evaluation` takes: ``on_start`` and ``on_session``."""
    with progress_bar(shown) as bar:
        task = bar.add_task(name, total=None, note="")

        def on_start(n: int) -> None:
            bar.update(task, total=n, completed=-1)

        def on_session(session_id: str) -> None:
            bar.update(task, advance=1, note=session_id)

        yield {"on_start": on_start, "on_session": on_session}


def show_scores(result: Evaluation, value: dict[str, Any], as_json: bool) -> None:
    """Give the scores as the user asked for them: as JSON or a table on stdout.

    Parameters
    ----------
    result : Evaluation
    value : dict
        ``result.to_json(…)``.
    as_json : bool
    """
    if as_json:
        print_json(value)
    else:
        print_scores(result, value)


def print_scores(result: Evaluation, value: dict[str, Any]) -> None:
    """The table that ``nhmodel evaluate`` and ``baselines`` print.

    Parameters
    ----------
    result : Evaluation
    value : dict
        ``result.to_json(run)``.
    """
    from nhmodel.evaluation.result import NOT_FAIR, tables

    windows = f"{value['n_windows']} windows of {result.horizon_s} s in bins of {result.bin_s} s"
    click.echo(f"{value['run'] or 'baselines'}: {windows}, split {result.split}")
    if result.split in NOT_FAIR:
        click.echo(f"note: split {result.split} {NOT_FAIR[result.split]}", err=True)
    for session_id, reason in result.skipped.items():
        click.echo(f"skipped: {session_id}: {reason}", err=True)
    for part in (value, *value["horizons"]):
        for title, rows in tables(part).items():
            click.echo()
            _print_rows(title if part is value else f"{title}, first {part['horizon_s']:g} s", rows)
        click.echo()
        for delta in part["deltas_by_regime"]:
            click.echo(_difference(delta))
    _print_covariates(value["covariates"])


def _difference(delta: dict[str, Any]) -> str:
    """The run beside the best baseline, in one line."""
    lo, hi = (_number(x).strip() for x in delta["ci95"])
    share = delta.get("fraction_of_ceiling")
    ceiling = "" if share is None else f", {share:.0%} of what the true rate scores"
    gained = _number(delta["fp_bps"]).strip()
    return f"{delta['regime']} - {delta['baseline']} (best baseline): {gained} [{lo}, {hi}]{ceiling}"


def _print_covariates(rows: list[dict[str, Any]]) -> None:
    """What each covariate is worth, and in which regions."""
    width = max([0, *(len(f"{row['covariate']}, {row['regime']}") for row in rows)])
    if rows:
        click.echo(f"\n{'lost without':<{width}}   fp-bps  95 % interval")
    for row in rows:
        lo, hi = (_number(x) for x in row["ci95"])
        regions = "  ".join(f"{r['region']} {_number(r['delta_fp_bps']).strip()}" for r in row["regions"])
        name = f"{row['covariate']}, {row['regime']}"
        click.echo(f"{name:<{width}}  {_number(row['delta_fp_bps'])}  [{lo}, {hi}]  {regions}".rstrip())


def _print_rows(title: str, rows: dict[str, dict[str, Any]]) -> None:
    width = max(map(len, [title, *rows]))
    shown = {key: label for key, label in COLUMNS.items() if any(row[key] is not None for row in rows.values())}
    heads = "".join(f"  {label:>10}" for label in shown.values())
    click.echo(f"{title:<{width}}   fp-bps  95 % interval     {heads}")
    for name, row in rows.items():
        lo, hi = (_number(x) for x in row["fp_bps_ci95"])
        rest = "".join(f"  {_number(row[key]):>10}" for key in shown)
        runs = row.get("fp_bps_by_run", [])
        each = f"  runs {' '.join(_number(run).strip() for run in runs)}" if len(runs) > 1 else ""
        click.echo(f"{name:<{width}}  {_number(row['fp_bps'])}  [{lo}, {hi}]{rest}{each}")


def _number(value: float | None) -> str:
    return "      –" if value is None else f"{value:+7.3f}"
