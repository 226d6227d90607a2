"""Scores as they come in, session by session."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.bins import whole_bins
from nhdata.loading import NoWindows
from nhdata.loading.selection import Selection
from nhdata.store.session import Session
from nhdata.store.store import Store
from nhmodel.calibration import Calibration
from nhmodel.config import Config
from nhmodel.cosmoother import CoSmoother
from nhmodel.cosmoothing import CoSmoothingRidge, co_smoothed, held_out_units
from nhmodel.evaluation.identity import Expected
from nhmodel.evaluation.result import MODEL, Evaluation, Example
from nhmodel.evaluation.session import BaselineForecast, ScoredSession, baseline_forecasts, oracle_forecasts
from nhmodel.metrics import ScoreSums
from nhmodel.units import unit_table
from nhmodel.windows import SessionWindows

N_EXAMPLES = 6


class Scores:
    """Scores as they come in, session by session.

    Parameters
    ----------
    split : str
    config : Config
    store : Store
    horizons_s : sequence of float
        Parts of the horizon, from its start, that are scored by themselves, too.

    Raises
    ------
    UserError
        If one of them is not a whole number of bins within the horizon.
    """

    def __init__(self, split: str, config: Config, store: Store, horizons_s: Sequence[float] = ()) -> None:
        data = config.data
        self.config, self.store = config, store
        self.result = Evaluation(split, data.horizon_s, data.bin_s, task=data.task)
        self.digest = hashlib.sha256()
        for horizon_s in sorted(set(horizons_s)):
            n_bins = whole_bins("horizon", horizon_s, data.bin_s)
            if n_bins > self.result.n_bins or data.task != "forecast":
                raise UserError(
                    f"the run does not forecast {horizon_s:g} s ahead", f"name horizons below {data.horizon_s:g} s"
                )
            if n_bins < self.result.n_bins:
                self.result.shorter.append(Evaluation(split, horizon_s, data.bin_s))

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
        for part in (self.result, *self.result.shorter):
            shared = part.sums.setdefault((regimes[0], model), ScoreSums())
            for regime in regimes:
                part.sums[regime, model] = shared
            _add(part, shared, session, expected)

    def add_model(
        self, session: ScoredSession, regime: str, run: int, expected: NDArray[np.float32], *, pictured: bool
    ) -> None:
        """Add the forecast of the run of that number."""
        for part in (self.result, *self.result.shorter):
            runs = part.by_run.setdefault(regime, [])
            runs += [ScoreSums() for _ in range(run + 1 - len(runs))]
            _add(part, runs[run], session, expected)
        self._calibrate(regime, run, session.truth.counts, expected)
        if pictured:
            room = N_EXAMPLES - len(self.result.examples)
            self.result.examples += _examples(session.truth, expected)[:room]

    def _calibrate(self, regime: str, run: int, counts: NDArray[Any], expected: NDArray[Any]) -> None:
        """Add what a run forecast and what came; runs come in order."""
        found = Calibration.of(counts, expected, self.config.data.bin_s)
        runs = self.result.calibration.setdefault(regime, [])
        runs[run : run + 1] = [runs[run] + found] if run < len(runs) else [found]

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
        self, session: ScoredSession, regime: str, models: Sequence[CoSmoother], rows: dict[str, int] | None
    ) -> None:
        """Add what the runs, the mean and ridge regression say of the units that are held out."""
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
            "null": np.broadcast_to(null, truth.counts.shape),
            "flat": np.broadcast_to(truth.counts.mean((0, 1)), truth.counts.shape),
            "ridge": ridge.predict(parts(session.truth)[0]),
        }
        for name, expected in found.items():
            sums = self.result.sums.setdefault((regime, name), ScoreSums())
            sums.add(truth.session_id, truth.t_s, truth.counts, expected, null)
        runs = self.result.by_run.setdefault(regime, [ScoreSums() for _ in models])
        for run, (model, sums) in enumerate(zip(models, runs, strict=True)):
            smoothed = co_smoothed(model, session.scored, units)
            sums.add(truth.session_id, truth.t_s, truth.counts, smoothed, null)
            self._calibrate(regime, run, truth.counts, smoothed)

    def finished(self) -> Evaluation:
        """All scores, without the models that had nothing to say in some sessions."""
        if not self.result.sums:
            reasons = "; ".join(self.result.skipped.values())
            raise UserError(reasons, "name a store with longer sessions, or a shorter reference")
        for part in (self.result, *self.result.shorter):
            sums = part.sums
            for regime, runs in part.by_run.items():
                sums[regime, MODEL] = ScoreSums.mean(runs)
            for regime, model in list(sums):
                parts = sums[regime, model].sessions
                without_trials = model == "psth" and not any(session.psth.any() for session in parts.values())
                if without_trials or parts.keys() != sums[regime, "null"].sessions.keys():
                    del sums[regime, model]
        self.result.windows_hash = self.digest.hexdigest()
        return self.result


def _add(part: Evaluation, sums: ScoreSums, session: ScoredSession, expected: NDArray[Any]) -> None:
    """Add a forecast, as far as the horizon of `part` goes."""
    truth, bins = session.truth, slice(0, part.n_bins)
    counts, since_onset = truth.counts[:, bins], session.since_onset[:, bins]
    sums.add(truth.session_id, truth.t_s, counts, expected[:, bins], session.null, since_onset)


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
