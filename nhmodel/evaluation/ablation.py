"""What each covariate is worth to a run: its score minus its score with the covariate masked out.

It says what this model makes of a covariate that was there when it learnt. What a model that never had it would score
is another question, and answered by training one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.loading.covariates import present
from nhmodel.bootstrap import bootstrap_delta
from nhmodel.evaluation.identity import Expected, predict
from nhmodel.evaluation.session import ScoredSession
from nhmodel.metrics import ScoreSums, scores
from nhmodel.model import NeuroHorizon, UnitTable

ALL = "all of them"
EVERYWHERE = ""


def masked_forecasts(model: NeuroHorizon, session: ScoredSession, units: UnitTable) -> dict[str, Expected]:
    """Forecasts (W, T, N) without each covariate that the session has, and without any where there are more."""
    if model.covariates is None:
        return {}
    names = present(session.scored.selection.sessions, model.covariates.names)
    without = {name: (name,) for name in names} | ({ALL: names} if len(names) > 1 else {})
    return {name: predict(model, session.scored, units, left_out) for name, left_out in without.items()}


@dataclass
class Ablations:
    """Scores with and without covariates, over the sessions that have them.

    Attributes
    ----------
    sums : dict of (regime, covariate, region) to pair of ScoreSums
        With and without; the region `EVERYWHERE` is all units.
    n_units : dict, by the same
    """

    sums: dict[tuple[str, str, str], tuple[ScoreSums, ScoreSums]] = field(default_factory=dict)
    n_units: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def add(
        self,
        session: ScoredSession,
        regime: str,
        region: NDArray[np.str_],
        expected: Expected,
        masked: Mapping[str, Expected],
    ) -> None:
        """Add a session: `expected` is the forecast with all, `masked` those of `masked_forecasts`."""
        truth = session.truth
        groups = {name: region == name for name in np.unique(region).tolist() if name}
        for covariate, without in masked.items():
            for name, here in ({EVERYWHERE: np.ones(len(region), bool)} | groups).items():
                pair = self.sums.setdefault((regime, covariate, name), (ScoreSums(), ScoreSums()))
                for sums, forecast in zip(pair, (expected, without), strict=True):
                    sums.add(
                        truth.session_id, truth.t_s, truth.counts[..., here], forecast[..., here], session.null[here]
                    )
                key = regime, covariate, name
                self.n_units[key] = self.n_units.get(key, 0) + int(here.sum())

    def rows(self) -> list[dict[str, Any]]:
        """One for each regime and covariate: what is lost without it, with a paired bootstrap interval; by region."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for (regime, covariate, region), (full, without) in sorted(self.sums.items()):
            score, left = (scores(sums)["fp_bps"] for sums in (full, without))
            row: dict[str, Any] = {
                "fp_bps": score,
                "fp_bps_without": left,
                "delta_fp_bps": None if score is None or left is None else score - left,
                "ci95": list(bootstrap_delta(full, without)),
                "n_units": self.n_units[regime, covariate, region],
            }
            if region == EVERYWHERE:
                head = {"covariate": covariate, "regime": regime, "n_sessions": len(full.sessions)}
                found[regime, covariate] = head | row | {"regions": []}
            else:
                found[regime, covariate]["regions"].append({"region": region} | row)

        def place(row: dict[str, Any]) -> tuple[bool, bool, float]:
            return row["regime"] != "seen", row["covariate"] == ALL, -(row["delta_fp_bps"] or 0.0)

        return sorted(found.values(), key=place)
