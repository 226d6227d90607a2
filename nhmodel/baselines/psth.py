"""Peri-stimulus time histogram."""

from __future__ import annotations

import itertools
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from nhmodel.baselines.protocol import null_expected, poisson_loss
from nhmodel.windows import SessionWindows

MAX_S = 10.0


class Psth:
    """Each unit's mean count at the same time after the onset of a trial, over the trials of training.

    A bin's time is counted from the latest onset before the end of the history: trials still to come are not known.
    Counts are smoothed over time by a Gaussian and shrunk towards the unit's mean by a number of trials; both are
    chosen on `valid` (defaults 0.06 s, 10). Where no onset is near, and in a recording without trials, it is the mean.
    """

    name = "psth"
    widths_s = (0.02, 0.06, 0.15, 0.4)
    shrinkages = (1.0, 3.0, 10.0, 30.0, 100.0)

    def fit(self, train: SessionWindows, valid: SessionWindows) -> Self:
        self.width_s, self.shrinkage = 0.06, 10.0
        if valid.n_windows and len(train.onset_s):
            losses = {}
            for chosen in itertools.product(self.widths_s, self.shrinkages):
                self.width_s, self.shrinkage = chosen
                losses[chosen] = poisson_loss(valid.counts, self.refit(train).predict(valid))
            self.width_s, self.shrinkage = min(losses, key=losses.__getitem__)
        return self.refit(train)

    def refit(self, windows: SessionWindows) -> Self:
        self.null = null_expected(windows)
        n_bins, known = round(MAX_S / windows.bin_s), windows.bins_since_onset(known=True)
        near = (known >= 0) & (known < n_bins)
        total, trials = np.zeros((n_bins, windows.n_units)), np.bincount(known[near], minlength=n_bins)
        np.add.at(total, known[near], windows.counts[near])
        width = self.width_s / windows.bin_s
        total, weight = (gaussian_filter1d(x, width, axis=0, mode="constant") for x in (total, trials[:, None] * 1.0))
        self.expected = ((total + self.shrinkage * self.null) / (weight + self.shrinkage)).astype(np.float32)
        return self

    def predict(self, windows: SessionWindows) -> NDArray[np.float32]:
        known = windows.bins_since_onset(known=True)
        near = (known >= 0) & (known < len(self.expected))
        return np.where(near[..., None], self.expected[np.where(near, known, 0)], self.null)
