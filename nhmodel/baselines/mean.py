"""Forecasts that never look beyond a mean."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from nhmodel.baselines.protocol import null_expected, poisson_loss
from nhmodel.windows import SessionWindows


class Mean:
    """Each unit's mean count in training, for every bin: the null itself, which scores 0 bits per spike."""

    name = "mean"

    def fit(self, train: SessionWindows, valid: SessionWindows) -> Self:
        return self.refit(train)

    def refit(self, windows: SessionWindows) -> Self:
        self.null = null_expected(windows)
        return self

    def predict(self, windows: SessionWindows) -> NDArray[np.float32]:
        return np.tile(self.null, (windows.n_windows, windows.n_bins, 1))


class TrailingMean:
    """Each unit's mean count over the window's own history, for every bin.

    Never below a fraction of the unit's training mean, chosen on `valid` (default 0.2): a unit that was silent
    for half a second is not silent for ever.
    """

    name = "trailing_mean"
    fractions = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)

    def fit(self, train: SessionWindows, valid: SessionWindows) -> Self:
        self.null = null_expected(train)
        self.fraction = 0.2
        if valid.n_windows:
            summed = valid.counts.sum(axis=1, dtype=np.int64)
            self.fraction = min(self.fractions, key=lambda f: poisson_loss(summed, valid.n_bins * self._rate(valid, f)))
        return self

    def refit(self, windows: SessionWindows) -> Self:
        self.null = null_expected(windows)
        return self

    def predict(self, windows: SessionWindows) -> NDArray[np.float32]:
        return np.repeat(self._rate(windows, self.fraction)[:, None], windows.n_bins, axis=1)

    def _rate(self, windows: SessionWindows, fraction: float) -> NDArray[np.float32]:
        trailing = windows.history.mean(axis=1, dtype=np.float32)
        rate: NDArray[np.float32] = np.maximum(trailing, np.float32(fraction) * self.null)
        return rate
