"""Population reduced-rank ridge regression."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from nhmodel.baselines.ewma import EwmaShrinkage
from nhmodel.baselines.protocol import poisson_loss
from nhmodel.windows import SessionWindows


class ReducedRankRidge:
    """What the moving averages of all units say about each unit's future, through a few shared dimensions.

    A linear map of low rank from the moving averages of all units to all (bin, unit) counts is added to the
    forecast of `EwmaShrinkage`: an infinite ridge gives that forecast back, so that a short recording with more
    averages than windows loses little. Averages and counts are divided by the square root of the unit's mean
    (equal Poisson variances). Ridge strength and rank, then the floor (a fraction of the unit's mean), are chosen
    on `valid`; defaults 10, 8, 0.3.

    Reduced-rank ridge (Mukherjee & Zhu 2011): with principal axes Z of the inputs, ``ZᵀZ = diag(s)``, targets Y,
    ``C = ZᵀY``, ``d = (s + ridge)^-½`` and L the leading eigenvectors of ``(dC)(dC)ᵀ``, the map is
    ``(dL)(dL)ᵀC``. Nothing larger than inputs × axes or axes × targets is ever formed, and the result is the
    same as of the primal and of the dual form wherever all axes are kept.
    """

    name = "rrr"
    max_axes = 1024
    """Principal axes kept of the inputs: the ridge leaves nothing of those beyond."""
    ridges = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
    """In units of the mean eigenvalue of the inputs' Gram matrix."""
    ranks = (1, 2, 4, 8, 16, 32, 64)
    floors = (0.05, 0.1, 0.2, 0.3, 0.5)

    def fit(self, train: SessionWindows, valid: SessionWindows) -> Self:
        self.own = EwmaShrinkage().fit(train, valid)
        maps = self._maps(train)
        self.ridge, self.rank, self.floor = 10.0, 8, 0.3
        if valid.n_windows:
            z, own = self.pca.transform(self._inputs(valid)), self.own.predict(valid)
            losses = {}
            for ridge in self.ridges:
                down, up = maps(ridge)
                for rank in self.ranks:
                    expected = self._forecast(own, (z @ down[:, :rank]) @ up[:rank], self.floor)
                    losses[ridge, rank] = poisson_loss(valid.counts, expected)
            self.ridge, self.rank = min(losses, key=losses.__getitem__)
        down, up = maps(self.ridge)
        self.down, self.up = down[:, : self.rank], up[: self.rank]
        if valid.n_windows:
            shared = (z @ self.down) @ self.up
            self.floor = min(
                self.floors, key=lambda floor: poisson_loss(valid.counts, self._forecast(own, shared, floor))
            )
        return self

    def refit(self, windows: SessionWindows) -> Self:
        self.own.refit(windows)
        down, up = self._maps(windows)(self.ridge)
        self.down, self.up = down[:, : self.rank], up[: self.rank]
        return self

    def _maps(self, train: SessionWindows) -> Callable[[float], tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Take scale and principal axes from `train`; returns what makes the two factors of each ridge's map."""
        self.scale: NDArray[np.float32] = np.sqrt(self.own.null)
        inputs = self._inputs(train)
        self.pca = PCA(min(self.max_axes, *inputs.shape), random_state=0).fit(inputs)
        z = self.pca.transform(inputs)
        s = np.sum(z**2, axis=0, dtype=np.float64)
        c = self._cross(z, train)
        gram = (c @ c.T).astype(np.float64)
        typical = max(float(s.sum()) / min(inputs.shape), 1e-6)

        def maps(ridge: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            d = 1 / np.sqrt(s + ridge * typical)
            span = [max(0, len(d) - max(self.ranks)), len(d) - 1]
            leading = scipy.linalg.eigh(d[:, None] * gram * d, subset_by_index=span)[1][:, ::-1]
            down = (d[:, None] * leading).astype(np.float32)
            return down, down.T @ c

        return maps

    def predict(self, windows: SessionWindows) -> NDArray[np.float32]:
        expected = np.empty((windows.n_windows, windows.n_bins, windows.n_units), np.float32)
        for rows in chunks(windows):
            part = windows[rows]
            shared = (self.pca.transform(self._inputs(part)) @ self.down) @ self.up
            expected[rows] = self._forecast(self.own.predict(part), shared, self.floor)
        return expected

    def _inputs(self, windows: SessionWindows) -> NDArray[np.float32]:
        """(W, M·N) moving averages about the unit's mean, in standard deviations of a Poisson count."""
        per_bin = windows.ema_hz * np.float32(windows.bin_s)
        return ((per_bin - self.own.null) / self.scale).reshape(windows.n_windows, -1)

    def _cross(self, z: NDArray[np.float32], train: SessionWindows) -> NDArray[np.float32]:
        """(axes, T·N) product of the principal axes with what `own` leaves of the counts."""
        c = np.zeros((z.shape[1], train.n_bins * train.n_units), np.float32)
        for rows in chunks(train):
            part = train[rows]
            left = (part.counts - self.own.predict(part)) / self.scale
            c += z[rows].T @ left.reshape(len(left), -1)
        return c

    def _forecast(self, own: NDArray[np.float32], shared: NDArray[np.float32], floor: float) -> NDArray[np.float32]:
        """(W, T, N) expected counts from those of `own` and the (W, T·N) of the population in standard deviations."""
        expected: NDArray[np.float32] = np.maximum(
            own + shared.reshape(own.shape) * self.scale, np.float32(floor) * self.own.null
        )
        return expected


def chunks(windows: SessionWindows) -> Iterator[slice]:
    """Runs of windows of about 128 MB of float32 targets each."""
    rows = max(1, 2**25 // max(1, windows.n_bins * windows.n_units))
    return (slice(start, start + rows) for start in range(0, windows.n_windows, rows))
