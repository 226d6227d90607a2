"""A small recording with every kind of column, and stores made of such."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nhdata
from nhcatalog.place import AnyPlace, to_place
from nhdata.recording import Provenance, Recording, Series, SourceFile, Spikes
from nhdata.store.commit import add_session
from nhdata.store.encode import encode
from nhdata.store.session import Session
from nhdata.store.store import Store
from nhdata.store.write import write_session

N_UNITS = 5
STOP_S = 12.34


def small_recording(**changes: Any) -> Recording:
    """900 spikes of 5 units over 12.34 s, the fifth silent, with a table and two series."""
    rng = np.random.default_rng(7)
    recording = Recording(
        source="lab",
        session_id="mouse-1",
        spikes=Spikes(np.sort(rng.uniform(0, STOP_S, 900)), rng.integers(0, N_UNITS - 1, 900)),
        units={
            "cluster_id": np.array([3, 5, 8, 9, 40], np.int64),
            "probe": np.array(["probe00"] * N_UNITS, dtype=object),
            "region": np.array(["CA1", None, "", "Área 3ª / β", "CA1"], dtype=object),
            "depth_um": np.array([20.0, np.nan, -1.5, 0.0, np.inf]),
            "snr": np.array([1.5, np.nan, 2.0, 3.0, 4.0], np.float32),
            "putative": np.array([True, False, True, True, False]),
            "n_channels": np.array([0, 1, 255, 3, 4], np.uint8),
        },
        stop_s=STOP_S,
        provenance=Provenance((SourceFile("a.npy", 10, "00" * 32),), {"eid": "x"}, "label == 1", {"label != 1": 2}),
        intervals={
            "trials": {
                "start_s": np.array([0.5, 4.0, 8.0]),
                "stop_s": np.array([2.0, 6.0, np.nan]),
                "choice": np.array([-1.0, 1.0, np.nan]),
                "side": np.array(["left", "", "right"], dtype=object),
            },
            "empty": {"start_s": np.empty(0), "stop_s": np.empty(0)},
        },
        series={
            "wheel_position": Series(np.arange(0, 12, 0.25), np.sin(np.arange(48.0)), "rad"),
            "xy": Series(np.arange(5.0), np.array([[0, 1], [2, 3], [np.nan, 5], [6, 7], [8, 9]], np.float32), "cm"),
        },
        subject="M1",
        lab="a lab",
        date="2024-02-29",
    )
    return replace(recording, **changes)


def put_recording(root: AnyPlace, recording: Recording, *, overwrite: bool = False) -> str:
    """Stage, publish and commit, as ingest does; returns the session's path in the store."""
    return add_session(to_place(root), encode(recording), replace=overwrite)


@pytest.fixture
def recording() -> Callable[..., Recording]:
    return small_recording


@pytest.fixture
def put() -> Callable[..., str]:
    return put_recording


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the small recording, shared by a module: read only."""
    root = tmp_path_factory.mktemp("store") / "data.zarr"
    put_recording(root, small_recording())
    return root


@pytest.fixture(scope="module")
def store(root: Path) -> Store:
    return nhdata.open(root)


@pytest.fixture(scope="module")
def session(store: Store) -> Session:
    return store.session("mouse-1")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Recording], Session]:
    """Write one recording and open it."""

    def write(recording: Recording) -> Session:
        folder = tmp_path / f"session{len(list(tmp_path.iterdir()))}"
        write_session(folder, encode(recording))
        return Session(folder)

    return write


@pytest.fixture
def contents() -> Callable[[Path], dict[str, tuple[int, bytes]]]:
    """Every file and folder under a folder by relative name: time of change and content."""

    def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
        paths = [folder, *sorted(folder.rglob("*"))]
        return {
            str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in paths
        }

    return contents
