"""What every simple forecaster has in common."""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nhmodel.null import smoothed_mean
from nhmodel.windows import SessionWindows


class Baseline(Protocol):
    """A forecaster of one session, fitted without a look at the windows it is scored on.

    `fit` learns from `train` and chooses hyper-parameters by Poisson likelihood on `valid`; where `valid` has
    no windows, the class's documented defaults stand. `refit` learns once more, from other windows of the same
    session, and keeps what was chosen: so that a short reference is not left with a quarter unused.
    """

    name: str

    def fit(self, train: SessionWindows, valid: SessionWindows) -> Self: ...

    def refit(self, windows: SessionWindows) -> Self: ...

    def predict(self, windows: SessionWindows) -> NDArray[np.float32]:
        """(W, T, N) expected counts per bin, all above zero; never reads ``windows.counts``."""
        ...


def null_expected(train: SessionWindows) -> NDArray[np.float32]:
    """Each unit's mean count per bin: the null of every score and the forecast of `Mean`.

    Returns
    -------
    (N,) float32
        Expected counts per bin, as `nhmodel.null.smoothed_mean` takes them.

    Raises
    ------
    ValueError
        If `train` has no windows.
    """
    bins = train.n_windows * train.n_bins
    if not bins or not train.n_units:
        raise ValueError(f"session {train.session_id}: no windows or units to take a mean from")
    return smoothed_mean(train.counts.sum(axis=(0, 1), dtype=np.int64), bins)


def poisson_loss(counts: NDArray[Any], expected: NDArray[Any]) -> float:
    """Summed Poisson loss ``Σ expected - Σ counts · log(expected)``; takes the logarithm only at spikes."""
    at = np.nonzero(counts)
    total = expected.sum(dtype=np.float64)
    return float(total - np.sum(counts[at] * np.log(expected[at]), dtype=np.float64))
