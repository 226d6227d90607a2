"""Scores of all models on the same windows, and what is told of them."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhmodel.bootstrap import bootstrap_delta, bootstrap_fp_bps
from nhmodel.calibration import Calibration
from nhmodel.evaluation.ablation import Ablations
from nhmodel.metrics import ScoreSums, SessionSums, scores

MODEL = "neurohorizon"
ORACLES = ("null", "flat", "true_rate")
NOT_FAIR = {
    "valid": "chose the weights and tuned the baselines: no fair test of either",
    "train": "is what the model and the baselines learnt from: no test at all",
}
"""What is wrong with a score on these splits."""
OF_TRAINING = ("seen", "seen-hybrid")
"""Regimes of sessions that the run was trained on."""
HEADLINES = (*OF_TRAINING, "hybrid", "adapted", "zero-shot", "learned", "unseen")
"""The regime that ``delta_best_baseline`` speaks of is the first of these that was scored."""


@dataclass(frozen=True)
class Example:
    """A unit's counts and forecasts, summed over each window's horizon: for pictures."""

    session_id: str
    unit_id: str
    t_s: NDArray[np.float64]
    counts: NDArray[np.float64]
    expected: NDArray[np.float64]


@dataclass
class Evaluation:
    """Scores of all models on the same windows.

    Attributes
    ----------
    split : str
    horizon_s, bin_s : float
    task : {"forecast", "co-smoothing"}
    sums : dict of (regime, model) to ScoreSums
        Regimes of one group of sessions share the sums of baselines and oracles.
    by_run : dict of regime to list of ScoreSums
        Of each run, where several are scored; their mean is the model among `sums`.
    shorter : list of Evaluation
        The first part of the same horizons, by itself.
    windows_hash : str
        Of all scored windows, over all sessions.
    skipped : dict
        Sessions that are too short to be scored, with the reason.
    regions : dict of session_id to (N,) str
        Where the scored units are, as far as the store knows.
    calibration : dict of regime to list of Calibration
        Of the forecasts of each run.
    examples : list of Example
        Of the first run.
    ablations : Ablations
        What each covariate is worth to the first run.
    """

    split: str
    horizon_s: float
    bin_s: float
    task: str = "forecast"
    sums: dict[tuple[str, str], ScoreSums] = field(default_factory=dict)
    by_run: dict[str, list[ScoreSums]] = field(default_factory=dict)
    shorter: list[Evaluation] = field(default_factory=list)
    windows_hash: str = ""
    skipped: dict[str, str] = field(default_factory=dict)
    regions: dict[str, NDArray[np.str_]] = field(default_factory=dict)
    calibration: dict[str, list[Calibration]] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    ablations: Ablations = field(default_factory=Ablations)

    @property
    def n_bins(self) -> int:
        """Bins of the horizon."""
        return round(self.horizon_s / self.bin_s)

    @property
    def regimes(self) -> list[str]:
        """``seen``, ``zero-shot``, …: those that were scored."""
        return list(dict.fromkeys(regime for regime, _ in self.sums))

    def of_run(self, run: int) -> Evaluation:
        """One of several runs by itself, beside the same baselines, as if it alone had been scored.

        Examples and ablations are of the first run, and left out for the others.
        """
        mine = {regime: [runs[run]] for regime, runs in self.by_run.items()}
        alone = replace(
            self,
            sums=self.sums
            | {(regime, MODEL): sums for regime, (sums,) in mine.items() if (regime, MODEL) in self.sums},
            by_run=mine,
            shorter=[part.of_run(run) for part in self.shorter],
            calibration={regime: [found[run]] for regime, found in self.calibration.items()},
        )
        return alone if run == 0 else replace(alone, examples=[], ablations=Ablations())

    def models(self, regime: str) -> dict[str, ScoreSums]:
        """Sums of every model of a regime."""
        return {model: sums for (of, model), sums in self.sums.items() if of == regime}

    def rows(self, regime: str) -> list[dict[str, Any]]:
        """One row of scores per model, the run first."""
        out = []
        for model, sums in sorted(self.models(regime).items(), key=lambda item: item[0] != MODEL):
            lo, hi = bootstrap_fp_bps(sums)
            row = {"model": model, "regime": regime, **scores(sums), "fp_bps_ci95": [lo, hi]}
            if model == MODEL:
                row["fp_bps_by_run"] = [scores(run)["fp_bps"] for run in self.by_run.get(regime, [sums])]
            out.append(row)
        return out

    def best_baseline(self, regime: str) -> str:
        """The baseline of the highest fp-bps; oracles and the null do not count."""
        found = {
            model: scores(sums)["fp_bps"] or 0.0
            for model, sums in self.models(regime).items()
            if model != MODEL and model not in ORACLES
        }
        return max(found, key=found.__getitem__) if found else "null"

    def delta(self, regime: str) -> dict[str, Any]:
        """Model minus best baseline, in fp-bps, with a paired bootstrap interval."""
        best = self.best_baseline(regime)
        mine, other = self.sums[regime, MODEL], self.sums[regime, best]
        lo, hi = bootstrap_delta(mine, other)
        score = scores(mine)["fp_bps"] or 0.0
        out = {"baseline": best, "fp_bps": score - (scores(other)["fp_bps"] or 0.0), "ci95": [lo, hi], "regime": regime}
        if (regime, "true_rate") in self.sums:
            ceiling = scores(self.sums[regime, "true_rate"])["fp_bps"]
            out["fraction_of_ceiling"] = score / ceiling if ceiling else None
        return out

    def sessions(self) -> list[dict[str, Any]]:
        """fp-bps of every model in every session."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for (regime, model), sums in self.sums.items():
            for session_id, part in sums.sessions.items():
                row = found.setdefault(
                    (regime, session_id),
                    {"session_id": session_id, "regime": regime, "n_units": len(part.unit_spikes)},
                )
                row.setdefault("fp_bps", {})[model] = scores(ScoreSums({session_id: part}))["fp_bps"]
        return list(found.values())

    def by_region(self) -> list[dict[str, Any]]:
        """fp-bps of every model in every region, over all sessions; empty where no region is known."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for (regime, model), sums in self.sums.items():
            totals: dict[str, NDArray[np.float64]] = {}
            for session_id, part in sums.sessions.items():
                for region in np.unique(self.regions.get(session_id, np.zeros(0, str))):
                    if region:
                        here = self.regions[session_id] == region
                        totals[str(region)] = totals.get(str(region), np.zeros(3)) + _gain(part, here)
            for region, (nats, spikes, units) in sorted(totals.items()):
                row = found.setdefault(
                    (regime, region),
                    {"regime": regime, "region": region, "n_units": int(units), "n_spikes": int(spikes)},
                )
                row.setdefault("fp_bps", {})[model] = nats / spikes / np.log(2) if spikes else None
        return list(found.values())

    def comparison(self) -> dict[str, Any]:
        """Scores of all models, and the run beside the best baseline, at this horizon."""
        deltas = [self.delta(regime) for regime in self.regimes if (regime, MODEL) in self.sums]
        return {
            "horizon_s": self.horizon_s,
            "scores": [row for regime in self.regimes for row in self.rows(regime)],
            "delta_best_baseline": min(deltas, key=lambda delta: HEADLINES.index(delta["regime"]), default=None),
            "deltas_by_regime": deltas,
        }

    def to_json(self, run: str | None) -> dict[str, Any]:
        """The object that ``nhmodel evaluate --json`` prints."""
        groups = {frozenset(sums.sessions): sums for sums in self.sums.values()}
        return {
            "schema": 1,
            "run": run,
            "task": self.task,
            "split": self.split,
            "bin_s": self.bin_s,
            "n_windows": sum(len(part.t_s) for sums in groups.values() for part in sums.sessions.values()),
            "windows_hash": self.windows_hash,
            **self.comparison(),
            "horizons": [part.comparison() for part in self.shorter],
            "sessions": self.sessions(),
            "regions": self.by_region(),
            "covariates": self.ablations.rows(),
            "skipped": [{"session_id": session_id, "reason": why} for session_id, why in self.skipped.items()],
        }

    def pictures(self) -> dict[str, Any]:
        """What a report draws besides the scores: calibration, and forecasts of single units."""
        curves = {
            regime: reduce(operator.add, found).curve_hz(self.bin_s) for regime, found in self.calibration.items()
        }
        return {
            "calibration": [
                {"regime": regime, "predicted_hz": predicted.tolist(), "observed_hz": observed.tolist()}
                for regime, (predicted, observed) in curves.items()
            ],
            "examples": [
                {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in vars(example).items()}
                for example in self.examples
            ],
        }


def tables(value: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Rows of scores to be shown together, best first, by the name of the model.

    Parameters
    ----------
    value : dict
        From `Evaluation.to_json` or `Evaluation.comparison`. Baselines are the same in all regimes of the same
        sessions, and come once.

    Returns
    -------
    dict of title to dict of name to row
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in sorted(value["scores"], key=lambda row: -(row["fp_bps"] or 0.0)):
        seen = row["regime"] in OF_TRAINING
        alone = row["regime"] == "seen" or row["model"] != MODEL
        name = row["model"] if alone else f"{MODEL}, {row['regime'].removeprefix('seen-')}"
        found.setdefault("seen sessions" if seen else "sessions never seen", {}).setdefault(name, row)
    return dict(sorted(found.items()))


def _gain(part: SessionSums, units: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Nats gained over the null, spikes and number of some of the units."""
    nats = (part.unit_null - part.unit_nll)[units].sum()
    return np.array([nats, part.unit_spikes[units].sum(), units.sum()], np.float64)
