"""Exponentially weighted moving average, shrunk towards the mean."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from nhmodel.baselines.protocol import null_expected, poisson_loss
from nhmodel.windows import SessionWindows


class EwmaShrinkage:
    """``expected[bin, unit] = mean + w[bin] · u[unit] · (ema - mean)``, one time constant a session.

    For each time constant, the weight of each bin of the horizon, then the factor of each unit, is the best in
    training on a grid. Their product stays within [0, 0.98], so that the forecast stays above 2 % of the mean.
    The time constant is the best on `valid` (or in training, where `valid` is empty).
    """

    name = "ewma"
    highest = 0.98
    n_grid = 50

    def fit(self, train: SessionWindows, valid: SessionWindows) -> Self:
        self.null = null_expected(train)
        judge = valid if valid.n_windows else train
        losses = []
        fitted = [self._fit_weights(train, m) for m in range(len(train.ema_tau_s))]
        for self.tau, self.weight in enumerate(fitted):
            losses.append(poisson_loss(judge.counts, self.predict(judge)))
        self.tau = int(np.argmin(losses))
        self.weight = fitted[self.tau]
        return self

    def refit(self, windows: SessionWindows) -> Self:
        self.null = null_expected(windows)
        self.weight = self._fit_weights(windows, self.tau)
        return self

    def predict(self, windows: SessionWindows) -> NDArray[np.float32]:
        return self.null + self.weight * self._deviation(windows, self.tau)[:, None]

    def _deviation(self, windows: SessionWindows, tau: int) -> NDArray[np.float32]:
        """(W, N) ema - mean, counts per bin."""
        return windows.ema_hz[:, tau] * np.float32(windows.bin_s) - self.null

    def _fit_weights(self, train: SessionWindows, tau: int) -> NDArray[np.float32]:
        """(T, N) products of the best weight of each bin and the best factor of each unit in training.

        The loss is ``Σ expected - Σ_spikes log(expected)``: the first sum is linear in the weight, so that
        only spikes need a logarithm.
        """
        deviation = self._deviation(train, tau)
        window, horizon_bin, unit = np.nonzero(train.counts)
        spikes = train.counts[window, horizon_bin, unit].astype(np.float64)
        mean, shift = self.null[unit].astype(np.float64), deviation[window, unit].astype(np.float64)
        total = deviation.sum(axis=0, dtype=np.float64)

        weights = np.linspace(0, self.highest, self.n_grid)
        per_bin = [
            w * total.sum() - np.bincount(horizon_bin, spikes * np.log(mean + w * shift), minlength=train.n_bins)
            for w in weights
        ]
        weight = weights[np.argmin(per_bin, axis=0)]
        shift *= weight[horizon_bin]
        factors = np.linspace(0, self.highest / max(weight.max(), 0.1), self.n_grid)
        per_unit = [
            u * weight.sum() * total - np.bincount(unit, spikes * np.log(mean + u * shift), minlength=train.n_units)
            for u in factors
        ]
        factor = factors[np.argmin(per_unit, axis=0)]
        product: NDArray[np.float32] = (weight[:, None] * factor).astype(np.float32)
        return product
