"""Small Phy folders, and what a store holds."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import nhdata
from nhdata.ingest import IngestReport, ingest


def sorting(folder: Path, seed: int, n_units: int = 12, n_spikes: int = 600) -> Path:
    """A Kilosort folder of unrated clusters with a spike train of 20 s."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    np.save(folder / "spike_times.npy", np.sort(rng.integers(0, 20 * 30000, n_spikes)))
    np.save(folder / "spike_clusters.npy", np.arange(n_spikes, dtype=np.int32) % n_units)
    (folder / "params.py").write_text("sample_rate = 30000.\n")
    return folder


@pytest.fixture
def sortings(tmp_path: Path) -> Path:
    """Three recordings a, b and c."""
    for seed, name in enumerate("abc"):
        sorting(tmp_path / "sorted" / name, seed)
    return tmp_path / "sorted"


@pytest.fixture
def sort_spikes() -> Callable[..., Path]:
    return sorting


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where a store is to be."""
    return tmp_path / "data.zarr"


@pytest.fixture
def run(root: Path, sortings: Path) -> Callable[..., IngestReport]:
    """Ingest the three recordings."""

    def run(**options: object) -> IngestReport:
        return ingest(options.pop("store", root), "phy", [options.pop("path", sortings)], **options)

    return run


def tree_of(folder: Path) -> dict[str, str]:
    """Every file and folder under a folder, by relative name: the hash of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def hashes_of(root: Path) -> dict[str, str]:
    """Content hash of every session, once each was read and found to be what the catalog says."""
    store = nhdata.open(root)
    rows = store.sql("select session_id, content_hash, n_spikes, n_units from sessions").to_pylist()
    for row in rows:
        session = store.session(row["session_id"])
        tick, unit = session.ticks()
        assert row["content_hash"] == session.attrs["content_hash"]
        assert tick.size == unit.size == row["n_spikes"] == session.units()["n_spikes"].sum()
        assert (np.diff(tick.astype(np.int64)) >= 0).all()
        params = [row["session_id"]]
        (sums,) = store.sql("select count(*) n, sum(n_spikes) s from units where session_id = ?", params).to_pylist()
        assert sums == {"n": row["n_units"], "s": row["n_spikes"]}
    return {row["session_id"]: row["content_hash"] for row in rows}


@pytest.fixture
def tree() -> Callable[[Path], dict[str, str]]:
    return tree_of


@pytest.fixture
def hashes() -> Callable[[Path], dict[str, str]]:
    return hashes_of
