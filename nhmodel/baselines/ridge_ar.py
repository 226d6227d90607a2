"""Ridge autoregression of each unit by itself."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from nhmodel.baselines.protocol import null_expected, poisson_loss
from nhmodel.windows import SessionWindows


class RidgeAutoregression:
    """Per unit, a linear map from its own past (counts of the history, moving averages) to its future counts.

    All about the unit's mean. One ridge a session and the floor (a fraction of the unit's mean) are chosen on
    `valid`; defaults 10 and 0.2. The ridge is in units of the mean variance of the unit's inputs, times windows.
    """

    name = "ridge_ar"
    ridges = (0.01, 0.1, 1.0, 10.0, 100.0)
    floors = (0.05, 0.1, 0.2, 0.3, 0.5)

    def fit(self, train: SessionWindows, valid: SessionWindows) -> Self:
        self.ridge, self.floor = 10.0, 0.2
        if valid.n_windows:
            losses = {}
            for ridge in self.ridges:
                self.ridge = ridge
                raw = self.refit(train)._raw(valid)
                for floor in self.floors:
                    losses[ridge, floor] = poisson_loss(valid.counts, np.maximum(raw, floor * self.null))
            self.ridge, self.floor = min(losses, key=losses.__getitem__)
        return self.refit(train)

    def refit(self, windows: SessionWindows) -> Self:
        self.null = null_expected(windows)
        inputs, targets = self._inputs(windows), windows.counts - self.null
        self.map = np.empty((windows.n_units, inputs.shape[1], windows.n_bins), np.float32)
        for unit in range(windows.n_units):
            x = inputs[..., unit]
            strength = self.ridge * max(float(np.mean(x**2)), 1e-9) * windows.n_windows
            fitted = Ridge(strength, fit_intercept=False, solver="cholesky").fit(x, targets[..., unit])
            self.map[unit] = fitted.coef_.reshape(windows.n_bins, -1).T
        return self

    def predict(self, windows: SessionWindows) -> NDArray[np.float32]:
        expected: NDArray[np.float32] = np.maximum(self._raw(windows), np.float32(self.floor) * self.null)
        return expected

    def _raw(self, windows: SessionWindows) -> NDArray[np.float32]:
        added: NDArray[np.float32] = np.einsum("wfn,nft->wtn", self._inputs(windows), self.map, optimize=True)
        return self.null + added

    def _inputs(self, windows: SessionWindows) -> NDArray[np.float32]:
        """(W, H + M, N) counts and moving averages, counts per bin about the unit's mean."""
        averages = windows.ema_hz * np.float32(windows.bin_s)
        return np.concatenate([windows.history.astype(np.float32), averages], axis=1) - self.null
