"""Simple forecasters that a model has to beat, tuned as carefully as the model is."""

from __future__ import annotations

from collections.abc import Mapping

from nhmodel.baselines.ewma import EwmaShrinkage
from nhmodel.baselines.glm import Glm
from nhmodel.baselines.glm_coupled import GlmCoupled
from nhmodel.baselines.gru import Gru
from nhmodel.baselines.mean import Mean, TrailingMean
from nhmodel.baselines.protocol import Baseline, null_expected
from nhmodel.baselines.psth import Psth
from nhmodel.baselines.ridge_ar import RidgeAutoregression
from nhmodel.baselines.rrr import ReducedRankRidge

BASELINES: Mapping[str, type[Baseline]] = {
    baseline.name: baseline
    for baseline in (
        *(Mean, TrailingMean, EwmaShrinkage, RidgeAutoregression),
        *(ReducedRankRidge, Glm, GlmCoupled, Psth, Gru),
    )
}
"""Every baseline by name; an instance is fitted to one session."""

__all__ = ["BASELINES", "Baseline", "null_expected"]
