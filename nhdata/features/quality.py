"""Is this one neuron? Spikes that follow another sooner than a neuron can say how many are another's.

Every estimate takes the refractory period as given; `nhdata.features.sliding_rp` tries many.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features import exact
from nhdata.features.correlogram import pairs_between
from nhdata.features.exact import FloatArray
from nhdata.features.jit import kernel
from nhdata.features.trains import Trains, over_units, whole_ticks


def refractory_violations(trains: Trains, refractory_s: float = 0.0015) -> NDArray[np.int64]:
    """Number of inter-spike intervals shorter than `refractory_s`, as SpikeInterface's ``isi_violations_count``.

    Returns
    -------
    (n_units,) int64

    Raises
    ------
    UserError
        If `refractory_s` is negative or not a number.
    """
    out = np.zeros((trains.n_units, 1), np.int64)
    least = np.uint32(min(whole_ticks(refractory_s, trains.tick_hz, "refractory_s"), 2**32 - 1))
    over_units(_short_intervals, trains, (least,), out)
    return out[:, 0]


def contamination_hill(trains: Trains, refractory_s: float = 0.0015, censored_s: float = 0.0) -> FloatArray:
    """Rate of violations over the unit's rate: ``v T / (2 N² (r - c))``.

    v is the number of intervals shorter than r, N that of spikes, T the length of the recording. Small values estimate
    the fraction of contaminating spikes; it may exceed 1. Hill, Mehta & Kleinfeld 2011, J Neurosci 31:8699, in the form
    of SpikeInterface's ``isi_violations_ratio`` (and AllenSDK's ``isi_violations``).

    Parameters
    ----------
    trains : Trains
    refractory_s : float
        r, the refractory period.
    censored_s : float
        c, the time after a spike in which the sorter finds none.

    Returns
    -------
    (n_units,) float64
        NaN without spikes.

    Raises
    ------
    UserError
        If the times are not ``0 <= censored_s < refractory_s``.
    """
    _check(refractory_s, censored_s)
    n = trains.n_spikes.astype(np.float64)
    expected = 2 * n * n * (refractory_s - censored_s) / trains.duration_s
    return exact.ratios(refractory_violations(trains, refractory_s), expected)


def contamination_llobet(trains: Trains, refractory_s: float = 0.001, censored_s: float = 0.0) -> FloatArray:
    """Fraction of contaminating spikes: ``1 - sqrt(1 - v (T - 2 N c) / (N² (r - c)))``.

    v is the number of pairs of spikes, consecutive or not, no further apart than r; N, T, c as in `contamination_hill`;
    1 where the root has no value. Llobet, Wyngaard & Barbour 2022, bioRxiv 2022.02.08.479192, as SpikeInterface's
    ``rp_contamination``, which counts a pair exactly r apart as one too.

    Returns
    -------
    (n_units,) float64
        NaN without spikes.

    Raises
    ------
    UserError
        If the times are not ``0 <= censored_s < refractory_s``.
    """
    _check(refractory_s, censored_s)
    violations = pairs_between(trains, 0, round(refractory_s * trains.tick_hz) + 1)
    n = trains.n_spikes.astype(np.float64)
    free = trains.duration_s - 2 * n * censored_s
    inside = 1 - exact.ratios(violations * free, n * n * (refractory_s - censored_s))
    return np.where(inside >= 0, 1 - np.sqrt(np.maximum(inside, 0)), np.where(n > 0, 1.0, math.nan))


def _check(refractory_s: float, censored_s: float) -> None:
    if not 0 <= censored_s < refractory_s < math.inf:
        raise UserError(
            f"refractory_s={refractory_s}, censored_s={censored_s} are not 0 <= censored_s < refractory_s",
            "give both in seconds, e.g. 0.0015 and 0",
        )


@kernel
def _short_intervals(
    tick: NDArray[np.uint32],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    least: np.uint32,
    out: NDArray[np.int64],
) -> None:
    """Intervals of fewer than `least` ticks."""
    for u in range(first.shape[0]):
        n = np.int64(0)
        for p in range(first.shape[1]):
            one = tick[first[u, p] : stop[u, p]]
            short = np.uint32(0)  # as wide as a tick, so that as many fit into a register
            for i in range(one.size - 1):
                short += np.uint32(np.uint32(one[i + 1] - one[i]) < least)
            n += np.int64(short)
        out[u, 0] = n
