"""A store of two sessions that differ in units, length and clock, and one of silence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nhdata
from nhdata.recording import Provenance, Recording, Spikes
from nhdata.store.commit import add_session
from nhdata.store.encode import encode
from nhdata.store.store import Store


def made(session_id: str, n_units: int, stop_s: float, n_spikes: int, rate_hz: float, **changes: Any) -> Recording:
    rng = np.random.default_rng(n_units)
    time = np.sort(rng.integers(0, int(stop_s * rate_hz), n_spikes))
    return Recording(
        source="lab",
        session_id=session_id,
        spikes=Spikes(time // 60 * 60, rng.integers(0, n_units, n_spikes), rate_hz),  # many on edges of bins
        units={
            "cluster_id": np.arange(n_units),
            "probe": np.array(["p"] * n_units, dtype=object),
            "region": np.array(["CA1", "CA3"] * n_units, dtype=object)[:n_units],
        },
        stop_s=stop_s,
        provenance=Provenance((), {}, "all", {}),
        intervals={"trials": {"start_s": np.array([1.0, 3.0]), "stop_s": np.array([2.0, 5.0])}},
        **changes,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("derivatives") / "data.zarr"
    for recording in (
        made("long", 7, 150.0, 40_000, 30000.0),
        made("short", 3, 9.87, 5_000, 24414.0625),
        made("silent", 2, 8.0, 0, 30000.0),
    ):
        add_session(root, encode(recording))
    return nhdata.open(root)


@pytest.fixture
def root(store: Store) -> Path:
    assert isinstance(store.path, Path)
    return store.path
