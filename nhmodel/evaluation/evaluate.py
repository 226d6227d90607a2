"""Score a run, session by session, beside the null, a flat forecast and the baselines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from nhcatalog.errors import UserError
from nhdata.loading.selection import Selection, select_units
from nhdata.store.store import open_store
from nhmodel.baselines import BASELINES
from nhmodel.config import Config
from nhmodel.cosmoother import CoSmoother
from nhmodel.evaluation.ablation import masked_forecasts
from nhmodel.evaluation.identity import REGIMES, WAYS, seen_forecasts, unseen_forecasts
from nhmodel.evaluation.plan import plan_sessions
from nhmodel.evaluation.result import Evaluation
from nhmodel.evaluation.scores import Scores
from nhmodel.model import NeuroHorizon
from nhmodel.run import RunInfo, load_model
from nhmodel.units import rows_by_id, unit_table


def evaluate(
    run: str | Path | Sequence[str | Path],
    store_path: str | Path,
    *,
    split: str = "test",
    horizons_s: Sequence[float] = (),
    select: str | None = None,
    reference_s: float = 60.0,
    weights: str = "best",
    baselines: Sequence[str] | None = None,
    regimes: Sequence[str] = REGIMES,
    on_start: Callable[[int], None] = lambda n: None,
    on_session: Callable[[str], None] = lambda session_id: None,
) -> Evaluation:
    """Score a run, or several that differ by their seed, on a store.

    Sessions that the run was trained on are scored on `split` ("seen"); baselines and the null come from their
    training split. Sessions it never saw are scored from their first `reference_s` seconds on: that reference alone
    gives the model its units, in the ways of `nhmodel.evaluation.identity`, and the baselines and the null their fit
    (tuned on its last quarter, then fitted to all of it). Only ``test`` is a fair split: ``valid`` chose the
    weights and tuned the baselines, ``train`` is what both learnt from.

    Parameters
    ----------
    run : path, or sequence of paths
        The score of several is that of any one of them, on average; each one's own comes beside it.
    store_path : path
    split : {"test", "valid", "train"}
    horizons_s : sequence of float
        Score the first so many seconds of the horizon by themselves, too.
    select : str, optional
        Units to score in sessions that the run never saw; the run's own query by default.
    reference_s : float
    weights : {"best", "last"}
    baselines : sequence of str, optional
        Names in `nhmodel.baselines.BASELINES`; all of them by default.
    regimes : sequence of str
        Ways to know the units of sessions never seen, and ``seen-hybrid``, out of `nhmodel.evaluation.identity.WAYS`.
    on_start, on_session : callable
        Told the number of sessions, then each one before it is scored.

    Raises
    ------
    UserError
        If the run or the store is not there, a session of training has changed, runs were not trained on the same, or
        nothing can be scored.
    """
    names = _checked(split, reference_s, baselines)
    for regime in regimes:
        if regime not in WAYS:
            raise UserError(f"unknown regime '{regime}'", f"choose from {', '.join(WAYS)}")
    ways = [regime for regime in REGIMES if regime in regimes and (names or regime != "hybrid")]
    if not ways and "seen-hybrid" not in regimes:
        raise UserError("no way to score sessions never seen", "name a regime; hybrid needs a baseline too")
    runs = [run] if isinstance(run, (str, Path)) else list(run)
    info, models = _alike(runs), [load_model(path, weights) for path in runs]
    store = open_store(store_path)
    plan = plan_sessions(info, store, select)
    smoothers = [model for model in models if isinstance(model, CoSmoother)]
    forecasters = [model for model in models if isinstance(model, NeuroHorizon)]
    out = Scores(split, info.config, store, horizons_s)
    on_start(len(plan))
    for planned in plan:
        on_session(planned.session_id)
        if planned.refused is not None:
            out.result.skipped[planned.session_id] = planned.refused
            continue
        if not (planned.seen or ways or smoothers):
            out.result.skipped[planned.session_id] = "it was not trained on, and no regime for such sessions is named"
            continue
        selection = _observed_throughout(planned.selection)
        if n := len(planned.selection.unit_ids) - len(selection.unit_ids):
            out.result.skipped[f"{n} units of {planned.session_id}"] = "observed for part of the session only"
        session = out.open(selection, None if planned.seen else reference_s) if selection.unit_ids else None
        if session is None:
            continue
        rows = rows_by_id(info.unit_ids) if planned.seen else None
        if smoothers:
            out.add_co_smoothing(session, "seen" if planned.seen else "zero-shot", smoothers, rows)
            continue
        here = ways
        if planned.seen:
            blended = "seen-hybrid" in regimes and names and session.tuning is not None
            here = ["seen", "seen-hybrid"] if blended else ["seen"]
        pictured = "seen" if planned.seen else here[min(1, len(here) - 1)]
        best = out.add_others(session, here, names)
        units = unit_table(session.known, rows, mean=session.null) if planned.seen else session.strangers
        for k, model in enumerate(forecasters):
            found = (
                seen_forecasts(model, session, here, units, best)
                if planned.seen
                else unseen_forecasts(model, session, here, best)
            )
            for regime, expected in found:
                out.add_model(session, regime, k, expected, pictured=k == 0 and regime == pictured)
                if k == 0 and regime in ("seen", "zero-shot"):  # what covariates are worth is told of the first run
                    out.add_ablations(session, regime, expected, masked_forecasts(model, session, units))
    return out.finished()


def evaluate_baselines(
    store_path: str | Path,
    config: Config,
    *,
    split: str = "test",
    reference_s: float | None = None,
    baselines: Sequence[str] | None = None,
    on_start: Callable[[int], None] = lambda n: None,
    on_session: Callable[[str], None] = lambda session_id: None,
) -> Evaluation:
    """Score the baselines alone, on the windows that a run with this `config` would be scored on.

    Parameters
    ----------
    store_path : path
    config : Config
        Its section ``data`` says which units and what a window is.
    split : {"test", "valid", "train"}
    reference_s : float, optional
        Take sessions as never seen: fit to their first `reference_s` seconds, score on the rest.
    baselines, on_start, on_session
        As in `evaluate`.

    Raises
    ------
    UserError
        If the store is not there or nothing can be scored.
    """
    names = _checked(split, 60.0 if reference_s is None else reference_s, baselines)
    store = open_store(store_path)
    selection = select_units(store, config.data.select)
    out = Scores(split, config, store)
    on_start(len(selection.sessions))
    for selected in selection.sessions:
        on_session(selected.session_id)
        session = out.open(selection.only([selected.session_id]), reference_s)
        if session is not None:
            out.add_others(session, ["seen" if reference_s is None else "unseen"], names)
    return out.finished()


def _checked(split: str, reference_s: float, baselines: Sequence[str] | None) -> list[str]:
    """Names of the baselines; raises UserError if one of the settings is not one."""
    if split not in ("train", "valid", "test"):
        raise UserError(f"unknown split '{split}'", "choose train, valid or test")
    if not 0 < reference_s < math.inf:
        raise UserError(f"a reference of {reference_s} s", "give a positive number of seconds, e.g. 60")
    names = list(BASELINES) if baselines is None else list(baselines)
    for name in names:
        if name not in BASELINES:
            raise UserError(f"unknown baseline '{name}'", f"choose from {', '.join(BASELINES)}")
    return names


def _alike(runs: Sequence[str | Path]) -> RunInfo:
    """What runs were trained on; raises UserError if that is not the same for all of them."""
    if not runs:
        raise UserError("no run to score", "name one")
    infos = [RunInfo.read(Path(run)) for run in runs]
    marks = [(info.config.data, info.unit_ids, info.content_hash, info.held_out) for info in infos]
    for run, mark in zip(runs, marks, strict=True):
        if mark != marks[0]:
            raise UserError(f"{run} and {runs[0]} were not trained on the same units and windows", "score them apart")
    return infos[0]


def _observed_throughout(selection: Selection) -> Selection:
    """The units that were observed whenever their session was: silence of others is not known from absence."""
    keep = [int(row) not in session.observed_s for session in selection.sessions for row in session.rows]
    return selection if all(keep) else selection.units(keep)
