"""Poisson generalised linear model of each unit's own history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nhmodel.baselines.newton import fit_poisson
from nhmodel.baselines.protocol import null_expected, poisson_loss
from nhmodel.windows import SessionWindows

Floats = NDArray[np.float64]

UNITS_AT_ONCE = 64
SHARED_SAMPLES = 300_000
"""Samples (window, unit) that the shared fit is thinned to: it has a handful of weights."""


@dataclass(frozen=True)
class OwnHistory:
    """Features of a unit's own past: ``log((ema_m / mean + ε) / (1 + ε))`` per time constant, 0 at the mean.

    Clipped to the range each had in training, so that a log-linear forecast never extrapolates.
    """

    mean: Floats
    epsilon: float
    low: Floats
    high: Floats

    @classmethod
    def of(cls, train: SessionWindows, null: NDArray[np.float32], epsilon: float) -> OwnHistory:
        mean = null.astype(np.float64)
        raw = cls(mean, epsilon, np.array(-np.inf), np.array(np.inf))(train)
        return cls(mean, epsilon, raw.min(axis=0), raw.max(axis=0))

    def __call__(self, windows: SessionWindows) -> Floats:
        """(W, M, N) features."""
        ratio = windows.ema_hz * windows.bin_s / self.mean
        return np.clip(np.log((ratio + self.epsilon) / (1 + self.epsilon)), self.low, self.high)


@dataclass(frozen=True)
class BinGroups:
    """Runs of horizon bins that share a rate; they widen with distance (2, 3, 5, 7, 8 of 25 bins)."""

    width: NDArray[np.int64]

    @classmethod
    def of(cls, n_bins: int) -> BinGroups:
        edges = np.unique(np.round(np.array([0, 0.08, 0.2, 0.4, 0.68, 1]) * n_bins).astype(np.int64))
        return cls(np.diff(edges))

    def counts(self, windows: SessionWindows) -> Floats:
        """(W, G, N) counts of each group."""
        starts = np.cumsum(self.width) - self.width
        return np.add.reduceat(windows.counts, starts, axis=1, dtype=np.float64)

    def per_bin(self, expected: NDArray[Any]) -> NDArray[np.float32]:
        """(W, T, N) expected counts per bin from those per group."""
        return np.repeat((expected / self.width[:, None]).astype(np.float32), self.width, axis=1)


class Glm:
    """Per unit and group of bins, ``log expected = log mean + θ · [1, features of the own history]``.

    A ridge draws each unit's θ towards the one that all units of the session share, so that a unit with few
    spikes borrows from the others. The ε of the features (default 0.3) is chosen by the shared fit, the ridge
    (default 10) by the units' fit, both on `valid`. No forecast exceeds the unit's highest count of that
    group in training (or 1).
    """

    name = "glm"
    epsilons = (0.1, 0.3, 1.0)
    ridges = (3.0, 10.0, 30.0)

    def fit(self, train: SessionWindows, valid: SessionWindows) -> Self:
        null = null_expected(train)
        counts = self._take(train, null)
        target = self.groups.counts(valid)
        epsilons, ridges = (self.epsilons, self.ridges) if valid.n_windows else ((0.3,), (10.0,))

        def loss(history: OwnHistory, theta: Floats) -> float:
            log_expected = self._log_expected(history, theta, valid)
            return poisson_loss(target, np.minimum(np.exp(log_expected), self.cap))

        histories = [OwnHistory.of(train, null, epsilon) for epsilon in epsilons]
        shared = [self._fit_shared(history(train), counts) for history in histories]
        best = int(np.argmin([loss(*pair) for pair in zip(histories, shared, strict=True)]))
        self.history = histories[best]
        features = self.history(train)
        fits = {ridge: self._fit_units(features, counts, shared[best], ridge) for ridge in ridges}
        self.ridge = min(fits, key=lambda ridge: loss(self.history, fits[ridge]))
        self.theta = fits[self.ridge]
        return self

    def refit(self, windows: SessionWindows) -> Self:
        null = null_expected(windows)
        counts = self._take(windows, null)
        self.history = OwnHistory.of(windows, null, self.history.epsilon)
        features = self.history(windows)
        self.theta = self._fit_units(features, counts, self._fit_shared(features, counts), self.ridge)
        return self

    def _take(self, train: SessionWindows, null: NDArray[np.float32]) -> Floats:
        """Groups of bins, their means and highest counts; returns the (W, G, N) counts."""
        self.groups = BinGroups.of(train.n_bins)
        self.log_base = np.log(self.groups.width[:, None] * null.astype(np.float64))
        counts = self.groups.counts(train)
        self.cap = np.maximum(counts.max(axis=0), 1.0)
        return counts

    def predict(self, windows: SessionWindows) -> NDArray[np.float32]:
        return self.groups.per_bin(np.minimum(np.exp(self.log_expected(windows)), self.cap))

    def log_expected(self, windows: SessionWindows) -> Floats:
        """(W, G, N) log expected count of each group of bins, without the cap."""
        return self._log_expected(self.history, self.theta, windows)

    def _log_expected(self, history: OwnHistory, theta: Floats, windows: SessionWindows) -> Floats:
        """`theta` is (G, N, 1 + M), or (G, 1, 1 + M) where all units share it."""
        added: Floats = np.einsum(
            "wmn,gnm->wgn",
            history(windows),
            np.broadcast_to(theta[..., 1:], (len(theta), windows.n_units, theta.shape[2] - 1)),
            optimize=True,
        )
        return self.log_base + theta[..., 0] + added

    def _fit_shared(self, features: Floats, counts: Floats) -> Floats:
        """(G, 1, 1 + M): one regression per group over the samples of all units."""
        step = -(-features.shape[0] * features.shape[2] // SHARED_SAMPLES)
        design = _design(features[::step]).reshape(1, -1, 1 + features.shape[1])
        thetas = []
        for group in range(len(self.log_base)):
            samples = counts[::step, group].T
            base = np.repeat(self.log_base[group], samples.shape[1])
            thetas.append(fit_poisson(design, samples.reshape(1, -1), base[None], np.zeros((1, design.shape[2])), 1.0))
        return np.stack(thetas)

    def _fit_units(self, features: Floats, counts: Floats, shared: Floats, ridge: float) -> Floats:
        """(G, N, 1 + M): a regression per group and unit, drawn towards `shared`."""
        n_units = features.shape[2]
        theta = np.empty((len(shared), n_units, shared.shape[2]))
        for start in range(0, n_units, UNITS_AT_ONCE):
            units = slice(start, start + UNITS_AT_ONCE)
            design = _design(features[..., units])
            for group, prior in enumerate(shared):
                theta[group, units] = fit_poisson(
                    design,
                    np.ascontiguousarray(counts[:, group, units].T),
                    self.log_base[group, units, None],
                    np.repeat(prior, len(design), axis=0),
                    ridge,
                )
        return theta


def _design(features: Floats) -> Floats:
    """(N, W, 1 + M) with a leading column of ones from (W, M, N)."""
    padded = np.pad(features, ((0, 0), (1, 0), (0, 0)), constant_values=1.0)
    return np.ascontiguousarray(padded.transpose(2, 0, 1))
