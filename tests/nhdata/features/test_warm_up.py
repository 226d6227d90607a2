"""After a warm-up nothing is compiled in the user's time, whatever the shape of what is asked for."""

import importlib
import pkgutil

import numba
import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

import nhdata.features
from nhdata.features.bins import binned_counts
from nhdata.features.correlogram import crosscorrelogram
from nhdata.features.psth import psth
from nhdata.features.sets import SETS, feature_columns
from nhdata.features.trains import spike_trains
from nhdata.features.warm_up import warm_up


def signatures() -> dict[str, int]:
    found = {}
    for module in pkgutil.iter_modules(nhdata.features.__path__, "nhdata.features."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, CPUDispatcher):
                found[f"{value.__module__}.{name}"] = len(value.signatures)
    return found


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_nothing_is_compiled_after_a_warm_up(monkeypatch):
    assert warm_up() > 0
    before = signatures()
    assert sum(n > 0 for n in before.values()) > 12  # those that only other kernels call have none of their own
    monkeypatch.setattr("nhdata.features.threads.FEW_SPIKES", 0)
    monkeypatch.setattr("nhdata.features.threads.n_threads", lambda: 3)
    rng = np.random.default_rng(0)
    tick = np.sort(rng.integers(0, 30000, 500)).astype(np.uint32)
    unit = rng.integers(0, 4, 500).astype(np.uint16)
    for pieces in ([(0, 30000)], [(0, 9000), (10000, 20000), (21000, 30000)]):
        trains = spike_trains(tick, unit, n_units=5, tick_hz=30000.0, pieces=pieces)
        for some in (trains, trains.units([3, 1]), trains.units([])):
            feature_columns(some, tuple(SETS))
            psth(some, [5000, 15000], pre_s=0.1, post_s=0.1, bin_s=0.01)
        crosscorrelogram(trains, [(0, 1), (2, 3)])
    binned_counts(tick, unit, n_units=5, first_bin=3, n_bins=20, bin_s=0.01, tick_hz=30000.0)
    assert signatures() == before
