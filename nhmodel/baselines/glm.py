"""Poisson generalised linear model of each unit's own history."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from nhmodel.baselines.protocol import null_expected, poisson_loss
from nhmodel.windows import SessionWindows

Floats = NDArray[np.float64]


class Glm:
    """``log expected = log mean + θ · [1, log((ema_m / mean + ε) / (1 + ε)) for each time constant m]``.

    A unit that fires at its mean has features of zero. The horizon is cut into groups of bins that widen with
    distance; each (group, unit) has its own θ, drawn by a ridge towards the θ that all units of the session
    share (so a unit with few spikes borrows from the others). ε (default 0.3) is chosen by the shared fit
    and the ridge (default 10 spikes) by the units' fit, both on `valid`. Outside the range seen in training
    features are clipped, and no forecast exceeds the unit's highest count of a group in training.

    Attributes
    ----------
    theta : (G, N, 1 + M) float64
    """

    name = "glm"
    epsilons = (0.1, 0.3, 1.0)
    ridges = (3.0, 10.0, 30.0)
    shared_samples = 300_000
    """Samples (window, unit) that the shared fit is thinned to: it has few weights."""

    def fit(self, train: SessionWindows, valid: SessionWindows) -> Self:
        self.null = null_expected(train)
        self.edges = bin_groups(train.n_bins)
        self.width = np.diff(self.edges)
        self.log_base = np.log(self.width[:, None] * self.null.astype(np.float64))
        grouped = self.grouped(train)
        self.log_cap = np.log(np.maximum(grouped.max(axis=0), 1.0))
        target = self.grouped(valid)

        def loss() -> float:
            return poisson_loss(target, np.exp(self.log_expected(valid))) if valid.n_windows else 0.0

        self.epsilon, self.ridge = 0.3, 10.0
        shared = {}
        losses = {}
        for self.epsilon in self.epsilons if valid.n_windows else (self.epsilon,):
            features = self._features(train)
            self.low, self.high = features.min(axis=1), features.max(axis=1)
            shared[self.epsilon] = self._fit_shared(features, grouped)
            self.theta = np.repeat(shared[self.epsilon][:, None], train.n_units, axis=1)
            losses[self.epsilon] = loss()
        self.epsilon = min(losses, key=losses.__getitem__)

        features = self._features(train)
        self.low, self.high = features.min(axis=1), features.max(axis=1)
        prior = np.repeat(shared[self.epsilon][:, None], train.n_units, axis=1)
        fitted = {}
        losses = {}
        for self.ridge in self.ridges if valid.n_windows else (self.ridge,):
            self.theta = self._fit_units(features, grouped, prior)
            fitted[self.ridge], losses[self.ridge] = self.theta, loss()
        self.ridge = min(losses, key=losses.__getitem__)
        self.theta = fitted[self.ridge]
        return self
