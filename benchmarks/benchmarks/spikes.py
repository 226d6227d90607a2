"""The session of the benchmarks as the arrays that each side starts from."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nhdata.features.trains import Trains, spike_trains
from nhdata.features.warm_up import warm_up

from .data import N_UNITS, SAMPLE_RATE_HZ, recording

if TYPE_CHECKING:
    import pynapple as nap

Array = NDArray[np.float64]
BIN = 600  # ticks: 20 ms


class Spikes:
    """Time-sorted spikes, a whole number of bins of 20 ms long."""

    timeout = 600

    def setup(self) -> None:
        warm_up()
        spikes = recording().spikes
        self.tick, self.unit = spikes.time.astype(np.uint32), spikes.unit.astype(np.uint16)
        self.stop_tick = int(self.tick[-1]) // BIN * BIN  # whole bins
        keep = self.tick < self.stop_tick
        self.tick, self.unit = self.tick[keep], self.unit[keep]
        self.time_s = self.tick / SAMPLE_RATE_HZ
        self.stop_s = self.stop_tick / SAMPLE_RATE_HZ

    def by_unit(self) -> list[Array]:
        """Spike times of each unit."""
        order = np.argsort(self.unit, kind="stable")
        return np.split(self.time_s[order], np.cumsum(np.bincount(self.unit, minlength=N_UNITS))[:-1])

    def pynapple(self) -> "nap.TsGroup":
        import pynapple as nap

        epoch = nap.IntervalSet(0, self.stop_s)
        return nap.TsGroup({k: nap.Ts(train) for k, train in enumerate(self.by_unit())}, time_support=epoch)

    def trains(self) -> Trains:
        pieces = [(0, self.stop_tick)]
        return spike_trains(self.tick, self.unit, n_units=N_UNITS, tick_hz=SAMPLE_RATE_HZ, pieces=pieces)


class Grouped(Spikes):
    """The same grouped by unit."""

    def setup(self) -> None:
        super().setup()
        self.grouped = self.trains()
        start, stop = self.grouped.first[:, 0], self.grouped.stop[:, 0]
        self.ticks = [self.grouped.tick[a:b] for a, b in zip(start, stop, strict=True)]
        self.seconds = [t / SAMPLE_RATE_HZ for t in self.ticks]
