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
from nhdata.store.layout import CHUNK_SPIKES


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
    """Stands in for the reader of a session's chunks."""

    def __init__(self, train: Train) -> None:
        order = np.argsort(train.tick, kind="stable")
        self.tick, self.unit = (np.asarray(v)[order] for v in (train.tick, train.unit))

    def spans(self) -> tuple[NDArray[Any], NDArray[Any]]:
        starts = range(0, len(self.tick), CHUNK_SPIKES)
        ends = [int(self.tick[start : start + CHUNK_SPIKES][-1]) + 1 for start in starts]
        return np.array([self.tick[start] for start in starts], np.int64), np.array(ends, np.int64)

    def read(self, numbers: NDArray[Any], tick: Any, unit: Any) -> None:
        for k, number in enumerate(numbers):
            part = slice(number * CHUNK_SPIKES, (number + 1) * CHUNK_SPIKES)
            n = len(self.tick[part])
            tick[k][:n], unit[k][:n] = self.tick[part], self.unit[part]


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
                    n_spikes=len(one.tick),
                    rows=rows,
                    first=len(unit_ids),
                )
            )
            unit_ids += [f"s{number}/{row}" for row in rows]
        selection = Selection("in memory", 0, tuple(unit_ids), tuple(sessions))
        windows = WindowDataset("nowhere", select=selection, split=split, **options)
        windows._cutter.cache._readers = dict(enumerate(map(Held, trains)))
        return windows

    return make


@pytest.fixture(scope="session")
def content() -> Callable[[WindowBatch], tuple[tuple[Any, ...], ...]]:
    """All there is in a batch, bit by bit, so that batches can be compared and counted."""

    def of(batch: WindowBatch) -> tuple[tuple[Any, ...], ...]:
        values = [getattr(batch, f.name) for f in fields(batch) if f.type != "dict[str, torch.Tensor]"]
        values += [*batch.series.values(), *batch.series_mask.values()]
        values += [*batch.covariates.values(), *batch.covariates_mask.values()]
        return tuple((v.dtype, tuple(v.shape), v.numpy().tobytes()) for v in values)

    return of
