"""Score a run, session by session, beside the null, a flat forecast and the baselines."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.loading import NoWindows
from nhdata.loading.selection import Selection, select_units
from nhdata.store.session import Session
from nhdata.store.store import Store, open_store
from nhmodel.baselines import BASELINES
from nhmodel.calibration import Calibration
from nhmodel.config import Config
from nhmodel.cosmoother import CoSmoother
from nhmodel.cosmoothing import CoSmoothingRidge, co_smoothed, held_out_units
from nhmodel.evaluation.ablation import masked_forecasts
from nhmodel.evaluation.identity import REGIMES, Expected, predict, unseen_forecasts
from nhmodel.evaluation.plan import plan_sessions
from nhmodel.evaluation.result import MODEL, Evaluation, Example
from nhmodel.evaluation.session import BaselineForecast, ScoredSession, baseline_forecasts, oracle_forecasts
from nhmodel.metrics import ScoreSums
from nhmodel.run import RunInfo, load_model
from nhmodel.threads import free_threads
from nhmodel.units import rows_by_id, unit_table
from nhmodel.windows import SessionWindows

N_EXAMPLES = 6


def evaluate(
    run: str | Path,
    store_path: str | Path,
    *,
    split: str = "test",
    select: str | None = None,
    reference_s: float = 60.0,
    weights: str = "best",
    baselines: Sequence[str] | None = None,
    regimes: Sequence[str] = REGIMES,
    on_start: Callable[[int], None] = lambda n: None,
    on_session: Callable[[str], None] = lambda session_id: None,
) -> Evaluation:
    """Score a run on a store.

    Sessions that the run was trained on are scored on `split` ("seen"); baselines and the null come from their
    training split. Sessions it never saw are scored from their first `reference_s` seconds on: that reference alone
    gives the model its units, in the ways of `nhmodel.evaluation.identity`, and the baselines and the null their fit
    (tuned on its last quarter, then fitted to all of it). Only ``test`` is a fair split: ``valid`` chose the
    weights and tuned the baselines, ``train`` is what both learnt from.

    Parameters
    ----------
    run : path
    store_path : path
    split : {"test", "valid", "train"}
    select : str, optional
        Units to score in sessions that the run never saw; the run's own query by default.
    reference_s : float
    weights : {"best", "last"}
    baselines : sequence of str, optional
        Names in `nhmodel.baselines.BASELINES`; all of them by default.
    regimes : sequence of str
        Ways to know the units of sessions never seen, out of `nhmodel.evaluation.identity.REGIMES`.
    on_start, on_session : callable
        Told the number of sessions, then each one before it is scored.

    Raises
    ------
    UserError
        If the run or the store is not there, a session of training has changed, or nothing can be scored.
    """
    names = _checked(split, reference_s, baselines)
    for regime in regimes:
        if regime not in REGIMES:
            raise UserError(f"unknown regime '{regime}'", f"choose from {', '.join(REGIMES)}")
    ways = [regime for regime in REGIMES if regime in regimes and (names or regime != "hybrid")]
    if not ways:
        raise UserError("no way to score sessions never seen", "name a regime; hybrid needs a baseline too")
    info, model = RunInfo.read(Path(run)), load_model(run, weights)
    torch.set_num_threads(info.config.train.threads or free_threads())
    store = open_store(store_path)
    plan = plan_sessions(info, store, select)
    out = _Scores(split, info.config, store)
    on_start(len(plan))
    for planned in plan:
        on_session(planned.session_id)
        if planned.refused is not None:
            out.result.skipped[planned.session_id] = planned.refused
            continue
        session = out.open(planned.selection, None if planned.seen else reference_s)
        if session is None:
            continue
        if isinstance(model, CoSmoother):
            rows = rows_by_id(info.unit_ids) if planned.seen else None
            out.add_co_smoothing(session, "seen" if planned.seen else "zero-shot", model, rows)
            continue
        if planned.seen:
            units = unit_table(session.known, rows_by_id(info.unit_ids), mean=session.null)
            expected = predict(model, session.scored, units)
            out.add_model(session, "seen", expected, pictured=True)
            out.add_ablations(session, "seen", expected, masked_forecasts(model, session, units))
            out.add_others(session, ["seen"], names)
        else:
            best = out.add_others(session, ways, names)
            for regime, expected in unseen_forecasts(model, session, ways, best):
                out.add_model(session, regime, expected, pictured=regime == ways[min(1, len(ways) - 1)])
                if regime == "zero-shot" and model.covariates is not None:
                    units = unit_table(session.known, None, mean=session.null)
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
    torch.set_num_threads(config.train.threads or free_threads())
    store = open_store(store_path)
    selection = select_units(store, config.data.select)
    out = _Scores(split, config, store)
    on_start(len(selection.sessions))
    for selected in selection.sessions:
        on_session(selected.session_id)
        session = out.open(selection.only([selected.session_id]), reference_s)
        if session is not None:
            out.add_others(session, ["seen" if reference_s is None else "unseen"], names)
    return out.finished()


class _Scores:
    """Scores as they come in, session by session."""

    def __init__(self, split: str, config: Config, store: Store) -> None:
        self.config, self.store = config, store
        self.result = Evaluation(split, config.data.horizon_s, config.data.bin_s, task=config.data.task)
        self.digest = hashlib.sha256()

    def open(self, selection: Selection, reference_s: float | None) -> ScoredSession | None:
        """Read a session; None, and a reason, where it is too short."""
        (selected,) = selection.sessions
        try:
            session = ScoredSession.open(self.store.path, selection, self.config, self.result.split, reference_s)
        except NoWindows as error:
            self.result.skipped[selected.session_id] = error.problem
            return None
        self.digest.update(session.scored.windows_hash.encode())
        region = Session(selected.path).units().get("region", np.full(selected.n_units, ""))
        self.result.regions[selected.session_id] = region[selected.rows].astype(str)
        return session

    def add(self, session: ScoredSession, regimes: Sequence[str], model: str, expected: NDArray[Any]) -> None:
        """Add the forecast of one model, under every regime that it is the same in."""
        sums, truth = self.result.sums, session.truth
        shared = sums.setdefault((regimes[0], model), ScoreSums())
        for regime in regimes:
            sums[regime, model] = shared
        since_onset = truth.bins_since_onset(known=False)
        shared.add(truth.session_id, truth.t_s, truth.counts, expected, session.null, since_onset)

    def add_model(self, session: ScoredSession, regime: str, expected: NDArray[np.float32], *, pictured: bool) -> None:
        """Add the forecast of the run."""
        self.add(session, [regime], MODEL, expected)
        found = Calibration.of(session.truth.counts, expected, self.config.data.bin_s)
        before = self.result.calibration.get(regime)
        self.result.calibration[regime] = found if before is None else before + found
        if pictured:
            room = N_EXAMPLES - len(self.result.examples)
            self.result.examples += _examples(session.truth, expected)[:room]

    def add_ablations(
        self, session: ScoredSession, regime: str, expected: Expected, masked: Mapping[str, Expected]
    ) -> None:
        """Add the forecasts of the run without its covariates."""
        self.result.ablations.add(session, regime, self.result.regions[session.truth.session_id], expected, masked)

    def add_others(
        self, session: ScoredSession, regimes: Sequence[str], baselines: Sequence[str]
    ) -> BaselineForecast | None:
        """Add null, oracles and baselines; returns the baseline that did best on the windows it was tuned on."""
        self.add(session, regimes, "null", np.broadcast_to(session.null, session.truth.counts.shape))
        for name, expected in oracle_forecasts(session):
            self.add(session, regimes, name, expected)
        best = None
        for forecast in baseline_forecasts(session, baselines):
            self.add(session, regimes, forecast.name, forecast.expected)
            if best is None or forecast.tuned_loss < best.tuned_loss:
                best = forecast
        return best

    def add_co_smoothing(
        self, session: ScoredSession, regime: str, model: CoSmoother, rows: dict[str, int] | None
    ) -> None:
        """Add what the run, the mean and ridge regression say of the units that are held out."""
        held_out = held_out_units(session.truth.n_units).numpy()
        if not held_out.any():
            self.result.skipped[session.truth.session_id] = "too few units to hold one out"
            return
        units = unit_table(session.known, rows, mean=session.null)
        truth = replace(
            session.truth,
            unit_id=session.truth.unit_id[held_out],
            history=session.truth.history[..., held_out],
            ema_hz=session.truth.ema_hz[..., held_out],
            counts=session.truth.history[..., held_out],
        )
        null, region = session.null[held_out], self.result.regions[truth.session_id]
        self.result.regions[truth.session_id] = region[held_out]

        def parts(windows: SessionWindows) -> tuple[NDArray[Any], NDArray[Any]]:
            return windows.history[..., ~held_out], windows.history[..., held_out]

        ridge = CoSmoothingRidge().fit(*parts(session.fit), parts(session.tune), null)
        found = {
            MODEL: co_smoothed(model, session.scored, units),
            "null": np.broadcast_to(null, truth.counts.shape),
            "flat": np.broadcast_to(truth.counts.mean((0, 1)), truth.counts.shape),
            "ridge": ridge.predict(parts(session.truth)[0]),
        }
        for name, expected in found.items():
            sums = self.result.sums.setdefault((regime, name), ScoreSums())
            sums.add(truth.session_id, truth.t_s, truth.counts, expected, null)
        self.result.calibration[regime] = Calibration.of(truth.counts, found[MODEL], truth.bin_s)

    def finished(self) -> Evaluation:
        """All scores, without the models that had nothing to say in some sessions."""
        sums = self.result.sums
        if not sums:
            reasons = "; ".join(self.result.skipped.values())
            raise UserError(reasons, "name a store with longer sessions, or a shorter reference")
        for regime, model in list(sums):
            parts = sums[regime, model].sessions
            without_trials = model == "psth" and not any(part.psth.any() for part in parts.values())
            if without_trials or parts.keys() != sums[regime, "null"].sessions.keys():
                del sums[regime, model]
        self.result.windows_hash = self.digest.hexdigest()
        return self.result


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


def _examples(truth: SessionWindows, forecast: NDArray[np.float32]) -> list[Example]:
    """The two units of a session with the most spikes."""
    busiest = np.argsort(truth.counts.sum((0, 1), dtype=np.int64))[::-1][:2]
    return [
        Example(
            truth.session_id,
            str(truth.unit_id[u]),
            truth.t_s,
            truth.counts[:, :, u].sum(1).astype(float),
            forecast[:, :, u].sum(1).astype(float),
        )
        for u in busiest
    ]
