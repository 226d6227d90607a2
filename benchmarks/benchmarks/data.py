"""What the benchmarks run on: one session of 302 units, with as many spikes as ``NH_BENCH_SPIKES`` says.

By default a million spikes, three minutes; 31,170,000 are a recording of an hour and a half.
"""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from nhdata.recording import Provenance, Recording, Spikes
from nhdata.store.commit import add_session
from nhdata.store.encode import encode

N_SPIKES = int(os.environ.get("NH_BENCH_SPIKES", "1_000_000"))
N_UNITS = 302
RATE_HZ = 5791.0
SAMPLE_RATE_HZ = 30000.0
REGIONS = ("CA1", "CA3", "DG", "VISp", "LP")


@lru_cache(maxsize=1)
def recording(n_spikes: int = N_SPIKES, n_units: int = N_UNITS, seed: int = 0, rate_hz: float = RATE_HZ) -> Recording:
    """Poisson units with log-normal rates, `rate_hz` all together, sorted by time."""
    rng = np.random.default_rng(seed)
    duration_s = n_spikes / rate_hz
    share = rng.lognormal(0.0, 0.5, n_units)
    return Recording(
        source="bench",
        session_id=f"bench-{seed:04d}",
        spikes=Spikes(
            np.sort(rng.integers(0, int(duration_s * SAMPLE_RATE_HZ), n_spikes)),
            rng.choice(n_units, n_spikes, p=share / share.sum()),
            SAMPLE_RATE_HZ,
        ),
        units={
            "cluster_id": np.arange(n_units),
            "probe": np.full(n_units, "probe00", dtype=object),
            "region": np.array(REGIONS, dtype=object)[rng.integers(0, len(REGIONS), n_units)],
            "quality": np.where(rng.random(n_units) < 0.5, "good", "mua").astype(object),
            "depth_um": rng.uniform(0, 3840, n_units),
        },
        stop_s=duration_s,
        provenance=Provenance(files=(), original_ids={}, rule="every simulated unit", dropped={}),
    )


def add(root: Path, session: Recording) -> None:
    """Write a session to the store at `root`, which is made if it is not there."""
    add_session(root, encode(session))
