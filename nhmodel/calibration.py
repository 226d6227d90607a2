"""Predicted against observed rates: of all bins that were forecast to hold so much, how much did they hold?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGES_HZ = np.logspace(-2, 2.5, 46)


@dataclass(frozen=True)
class Calibration:
    """Sums over bins of similar forecast.

    Attributes
    ----------
    n_bins : (46 + 1,) int64
        How many (window, bin, unit) were forecast between two of `EDGES_HZ`, below the first and above the last.
    expected, counts : (46 + 1,) float64
        What was forecast for them all together, and what they held.
    """

    n_bins: NDArray[np.int64]
    expected: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def of(cls, counts: NDArray[Any], expected: NDArray[Any], bin_s: float) -> Calibration:
        """Sums over arrays of equal shape; `expected` in counts per bin."""
        f, n = expected.ravel(), len(EDGES_HZ) + 1
        place = np.searchsorted(EDGES_HZ * bin_s, f, side="right")
        return cls(
            np.bincount(place, minlength=n),
            np.bincount(place, f, minlength=n).astype(np.float64),
            np.bincount(place, counts.ravel(), minlength=n).astype(np.float64),
        )

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(self.n_bins + other.n_bins, self.expected + other.expected, self.counts + other.counts)

    def curve_hz(self, bin_s: float, at_least: int = 200) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean forecast and mean observed rate, Hz, of each group of at least so many bins."""
        enough = self.n_bins >= at_least
        time_s = self.n_bins[enough] * bin_s
        return self.expected[enough] / time_s, self.counts[enough] / time_s
