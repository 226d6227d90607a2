"""A small catalog, and rows to put into one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from nhcatalog.catalog import Catalog

Rows = tuple[dict[str, Any], dict[str, pa.Table]]


def make_rows(session_id: str, n_units: int = 3, region: str = "CA1") -> Rows:
    session = {
        "session_id": session_id,
        "source": "synthetic",
        "subject": None,
        "date": "2024-02-29",
        "duration_s": 60.0,
        "tick_hz": 30000.0,
        "n_units": n_units,
        "n_spikes": 100 * n_units,
        "n_trials": 2,
    }
    ids = [f"{session_id}:{k}" for k in range(n_units)]
    units = pa.table(
        {
            "unit_id": ids,
            "session_id": [session_id] * n_units,
            "unit_index": range(n_units),
            "region": [region] * n_units,
            "good": [True] * n_units,
            "rate_hz": [float(k) for k in range(n_units)],
            "snr": [float("nan")] * n_units,
        }
    )
    features = pa.table({"unit_id": ids, "session_id": [session_id] * n_units, "fano_20ms": [1.5] * n_units})
    intervals = pa.table(
        {
            "session_id": [session_id] * 2,
            "name": ["trials"] * 2,
            "interval_index": [0, 1],
            "start_s": [0.0, 20.0],
            "stop_s": [5.0, 40.0],
            "fields": ['{"choice": -1.0}', '{"choice": 1.0}'],
        }
    )
    provenance = pa.table(
        {
            "session_id": [session_id] * 2,
            "kind": ["file", "dropped"],
            "name": ["spikes.npy", "quality"],
            "value": ["0" * 64, None],
            "n": [1000, 7],
        }
    )
    return session, {"units": units, "unit_features": features, "intervals": intervals, "provenance": provenance}


@pytest.fixture
def rows() -> Callable[..., Rows]:
    return make_rows


@pytest.fixture
def add() -> Callable[..., int]:
    """Add a made-up session to a catalog; returns the log position."""

    def add(catalog: Catalog, session_id: str, *, replace: bool = False, **shape: Any) -> int:
        session, tables = make_rows(session_id, **shape)
        path = f"sessions/synthetic/{session_id}"
        return catalog.add(session, tables, path, f"hash-{session_id}", replace=replace)

    return add


@pytest.fixture
def catalog(tmp_path: Path, add: Callable[..., int]) -> Catalog:
    """Sessions a (3 units in CA1) and b (2 units in VISp)."""
    catalog = Catalog(tmp_path / "store" / "catalog")
    add(catalog, "a")
    add(catalog, "b", n_units=2, region="VISp")
    return catalog


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file under a folder, by relative name."""

    def contents(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    return contents
