"""Population coupling: does a unit fire when the others do?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features import exact
from nhdata.features.bins import MOST_BINS, bin_ticks, bins_of_train, longest_train, squared_runs
from nhdata.features.exact import FloatArray
from nhdata.features.jit import kernel
from nhdata.features.trains import Trains, over_units


def population_coupling(trains: Trains, bin_s: float = 0.01) -> FloatArray:
    """Correlation (Pearson) of a unit's counts with the summed counts of all *other* units, in bins of `bin_s`.

    From -1 to 1. The idea of Okun et al. 2015, Nature 521:511, "soloists and choristers": their measure is the
    covariance in this correlation, of counts smoothed over 12 ms, scaled by the unit's rate alone. Bins are
    half-open and counted from the start of each piece; one cut off by the piece's end is left out.

    Returns
    -------
    (n_units,) float64
        NaN for a unit whose counts are all equal, and where those of the others are.

    Raises
    ------
    UserError
        If the width is not possible.
    """
    n_bins = trains.n_bins(bin_s)
    if n_bins.sum() > MOST_BINS:
        raise UserError(f"{n_bins.sum():,} bins of {bin_s} s do not fit into memory", "use wider bins")
    offset = np.cumsum(n_bins) - n_bins
    args = (trains.start_tick, n_bins, offset, *bin_ticks(bin_s, trains.tick_hz))
    population = np.zeros(int(n_bins.sum()), np.int64)
    _population(trains.tick, trains.first, trains.stop, *args, population)
    sums = np.zeros((trains.n_units, 3), np.int64)
    over_units(_joint_sums, trains, (*args, population), sums)
    n, total, squares = population.size, int(population.sum()), int((population * population).sum())
    return np.array(
        [
            exact.pearson(n, x, total - x, xx, squares - 2 * xp + xx, xp - xx)  # of the population less the unit
            for x, xx, xp in sums.tolist()
        ],
        np.float64,
    )


@kernel
def _population(
    tick: NDArray[np.uint32],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    start_tick: NDArray[np.int64],
    n_bins: NDArray[np.int64],
    offset: NDArray[np.int64],
    numerator: int,
    denominator: int,
    population: NDArray[np.int64],
) -> None:
    """Counts of all units together."""
    bins = np.empty(longest_train(first, stop), np.uint32)
    for u in range(first.shape[0]):
        for p in range(first.shape[1]):
            one = tick[first[u, p] : stop[u, p]]
            n = bins_of_train(one, start_tick[p], n_bins[p], numerator, denominator, bins)
            for i in range(n):
                population[offset[p] + bins[i]] += 1


@kernel
def _joint_sums(
    tick: NDArray[np.uint32],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    start_tick: NDArray[np.int64],
    n_bins: NDArray[np.int64],
    offset: NDArray[np.int64],
    numerator: int,
    denominator: int,
    population: NDArray[np.int64],
    sums: NDArray[np.int64],
) -> None:
    """Per unit: Σ c, Σ c², Σ c P, P the counts of the population. Over spikes, c P sums P at each."""
    bins = np.empty(longest_train(first, stop), np.uint32)
    for u in range(first.shape[0]):
        for p in range(first.shape[1]):
            one = tick[first[u, p] : stop[u, p]]
            n = bins_of_train(one, start_tick[p], n_bins[p], numerator, denominator, bins)
            sums[u, 0] += n
            sums[u, 1] += squared_runs(bins[:n])
            for i in range(n):
                sums[u, 2] += population[offset[p] + bins[i]]
