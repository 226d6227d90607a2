"""One small simulated store, and data sets over spikes held in memory, for spikes at chosen ticks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nhdata.ingest import ingest
from nhdata.loading import WindowBatch, WindowDataset
from nhdata.loading.selection import SelectedSession, Selection
from nhdata.sources import SourceOptions


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sessions of 12 units and 60 s."""
    path = tmp_path_factory.mktemp("loading") / "data.zarr"
    options = SourceOptions(n_sessions=3, n_units=12, duration_s=60.0)
    assert len(ingest(path, "synthetic", [], options=options).ingested) == 3
    return path


@dataclass
class Train:
    """Spikes of one session in memory, and which of its units are selected."""

    tick: NDArray[Any]
    unit: NDArray[Any]
    rows: Sequence[int]
    tick_hz: float = 30000.0
    n_ticks: int = 60_000
    t_start_s: float = 0.0


class Held:
    """Stands in for the SpikeCache."""

    def __init__(self, trains: dict[Path, Train]) -> None:
        self.trains = trains

    def spikes(self, path: Path, start_tick: int, stop_tick: int) -> tuple[NDArray[Any], NDArray[Any]]:
        train = self.trains[path]
        order = np.argsort(train.tick, kind="stable")
        return np.asarray(train.tick, np.uint32)[order], np.asarray(train.unit, np.uint16)[order]


@pytest.fixture(scope="session")
def train() -> type[Train]:
    return Train


@pytest.fixture(scope="session")
def windows_over() -> Callable[..., WindowDataset]:
    """Make a data set over trains in memory."""

    def make(*trains: Train, split: str = "all", **options: Any) -> WindowDataset:
        sessions, unit_ids = [], []
        for number, one in enumerate(trains):
            rows = np.array(one.rows, np.int64)
            sessions.append(
                SelectedSession(
                    session_id=f"s{number}",
                    path=Path(f"s{number}"),
                    tick_hz=one.tick_hz,
                    t_start_s=one.t_start_s,
                    n_ticks=one.n_ticks,
                    n_units=max([*one.unit, *rows]) + 1,
                    rows=rows,
                    first=len(unit_ids),
                )
            )
            unit_ids += [f"s{number}/{row}" for row in rows]
        selection = Selection("in memory", 0, tuple(unit_ids), tuple(sessions))
        windows = WindowDataset("nowhere", select=selection, split=split, **options)
        windows._cache = Held({s.path: one for s, one in zip(sessions, trains, strict=True)})
        return windows

    return make


@pytest.fixture(scope="session")
def content() -> Callable[[WindowBatch], tuple[tuple[Any, ...], ...]]:
    """All there is in a batch, bit by bit, so that batches can be compared and counted."""

    def of(batch: WindowBatch) -> tuple[tuple[Any, ...], ...]:
        values = [getattr(batch, f.name) for f in fields(batch)]
        return tuple((v.dtype, tuple(v.shape), v.numpy().tobytes()) for v in values)

    return of
