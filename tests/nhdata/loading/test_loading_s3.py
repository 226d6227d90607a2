"""The same batches from an object store, where blocks are read ahead in large pieces."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nhdata.ingest import ingest
from nhdata.loading import WindowBatch, WindowDataset, fetch
from nhdata.sources import SourceOptions


def test_batches_are_those_of_a_disk(bucket: str, tmp_path: Path, content: Callable[[WindowBatch], Any]) -> None:
    options = SourceOptions(n_sessions=2, n_units=12, duration_s=30.0)
    for place in (tmp_path / "data.zarr", f"{bucket}/data.zarr"):
        ingest(place, "synthetic", [], options=options)
    shape: dict[str, Any] = {"history_s": 0.2, "horizon_s": 0.5, "bin_s": 0.1, "batch_size": 8}
    local, remote = (WindowDataset(place, **shape) for place in (tmp_path / "data.zarr", f"{bucket}/data.zarr"))
    assert remote._cutter.cache.n_readers == fetch.REMOTE_READERS
    assert [content(b) for b in remote] == [content(b) for b in local]
