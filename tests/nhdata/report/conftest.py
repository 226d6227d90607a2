"""A store whose every text is hostile, and a session of two minutes."""

from pathlib import Path

import numpy as np
import pytest

import nhdata
from nhdata.recording import Provenance, Recording, Series, Spikes
from nhdata.sources.synthetic import simulate
from nhdata.store.commit import add_session
from nhdata.store.encode import encode
from nhdata.store.store import Store

EVIL = "<!--<script></script><script>document.title='owned'</script>"


def hostile_recording() -> Recording:
    """800 spikes of four units, one silent, whose region, quality, reason and subject are markup."""
    rng = np.random.default_rng(3)
    return Recording(
        source="lab",
        session_id="evil",
        spikes=Spikes(np.sort(rng.uniform(0, 20, 800)), rng.integers(0, 3, 800)),
        units={
            "cluster_id": np.arange(4),
            "probe": np.array([EVIL] * 4, dtype=object),
            "region": np.array([EVIL, "$$x^2$$", "\\(x\\)", ""], dtype=object),
            "depth_um": np.array([10.0, np.nan, 30.0, 40.0]),
            "quality": np.array([EVIL] * 4, dtype=object),
        },
        stop_s=20.0,
        provenance=Provenance((), {"x": EVIL}, EVIL, {EVIL: 2}, notes=(EVIL,)),
        intervals={"trials": {"start_s": np.array([3.0, 12.0, np.nan]), "stop_s": np.array([5.0, 14.0, np.nan])}},
        series={
            "wheel": Series(np.arange(0, 20, 0.01), np.sin(np.arange(2000.0)), EVIL),
            "pose": Series(np.arange(0, 20, 2.0), np.zeros((10, 2)), EVIL),
            "position": Series(np.arange(0, 20, 0.04), np.cumsum(rng.normal(size=(500, 2)), axis=0), EVIL),
        },
        subject=EVIL,
        lab=EVIL,
        date="2024-05-01",
    )


def empty_recording() -> Recording:
    """Ten seconds of two units without a spike."""
    return Recording(
        source="lab",
        session_id="silent",
        spikes=Spikes(np.empty(0), np.empty(0, np.int64)),
        units={"cluster_id": np.arange(2), "probe": np.array(["p", "p"], dtype=object)},
        stop_s=10.0,
        provenance=Provenance((), {}, "all", {}),
    )


@pytest.fixture(scope="session")
def report_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report") / "data.zarr"
    add_session(root, encode(simulate(np.random.default_rng(0), "sim", 0, 20, 120.0)))
    add_session(root, encode(hostile_recording()))
    add_session(root, encode(empty_recording()))
    return root


@pytest.fixture(scope="session")
def report_store(report_root: Path) -> Store:
    return nhdata.open(report_root)


@pytest.fixture
def evil() -> str:
    return EVIL
