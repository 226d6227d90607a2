"""A batch of 64 windows, each 1 s of spikes and 25 × 302 counts of the next 0.5 s: the loader beside its peers."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nhdata.loading import WindowBatch, WindowDataset
from nhdata.loading.selection import select_units
from nhdata.store.session import Session
from nhdata.store.store import open_store

from .data import N_UNITS, add, recording

BATCH, HISTORY_S, HORIZON_S, BIN_S = 64, 1.0, 0.5, 0.02
EMA_TAU_S = (0.05, 0.2, 0.8, 3.2, 12.8)


class _Windows:
    """Random windows of one session; the same for everyone."""

    timeout = 600

    def setup_cache(self) -> str:
        root = Path("loader.zarr").absolute()
        add(root, recording())
        return str(root)

    setup_cache.timeout = 600  # type: ignore[attr-defined]

    def setup(self, root: str) -> None:
        selection = select_units(open_store(root), "select unit_id from units")

        def windows(**options: Any) -> WindowDataset:
            shape = {"history_s": HISTORY_S, "horizon_s": HORIZON_S, "bin_s": BIN_S, "batch_size": BATCH}
            return WindowDataset(root, select=selection, split="all", shuffle=True, drop_last=False, **shape, **options)

        self.plain = windows(memory_budget_mb=2048)
        self.ema = windows(memory_budget_mb=2048, ema_tau_s=EMA_TAU_S)
        self.tight = windows(memory_budget_mb=0)
        self.marks = self.plain.plan().batch(0, 0, 1)
        for one in (self.plain, self.ema):  # compile, decode
            one.collate(self.marks)
        self.batch = self.plain.collate(self.marks)


class Batch(_Windows):
    """From spikes that are decoded already, and without a budget to keep any.

    The copy moves the bytes of the finished batch once: nothing that makes a new batch can be faster.
    """

    def setup(self, root: str) -> None:
        super().setup(root)
        self.time_s, self.unit = Session(self.plain.selection.sessions[0].path).spikes()
        self.source = [getattr(self.batch, f.name).numpy() for f in fields(WindowBatch)]
        self.target = [np.empty_like(values) for values in self.source]

    def time_loader(self, root: str) -> int:
        return n_spikes(self.plain.collate(self.marks))

    def time_loader_with_averages(self, root: str) -> int:
        """With moving averages over the 20 s before: ten times as many spikes."""
        return n_spikes(self.ema.collate(self.marks))

    def time_loader_without_memory(self, root: str) -> int:
        """Over budget: every window decodes the chunks of the store that it touches."""
        return n_spikes(self.tight.collate(self.marks))

    def time_numpy_loop(self, root: str) -> int:
        """The same arrays for each window: slices of sorted seconds in memory, and counts by `numpy.bincount`."""
        parts = []
        for t_s in self.batch.t_s.tolist():
            a, b, c = np.searchsorted(self.time_s, [t_s - HISTORY_S, t_s, t_s + HORIZON_S])
            past_s, unit = (self.time_s[a:b] - t_s).astype(np.float32), self.unit[a:b].astype(np.int32)
            history = binned(past_s + HISTORY_S, unit, HISTORY_S)
            parts.append((past_s, unit, history, binned(self.time_s[b:c] - t_s, self.unit[b:c], HORIZON_S)))
        times, units, histories, counts = zip(*parts, strict=True)
        batch = np.concatenate(times), np.concatenate(units), np.stack(histories), np.stack(counts)
        return len(batch[0]) + int(batch[3].sum())

    def time_memory_copy(self, root: str) -> None:
        for source, target in zip(self.source, self.target, strict=True):
            np.copyto(target, source)


class TorchBrain(_Windows):
    """The same windows by torch_brain's lazily sliced HDF5, where it is installed."""

    def setup(self, root: str) -> None:
        try:
            from torch_brain.data import Data, Interval, IrregularTimeSeries
        except ImportError:
            raise NotImplementedError("torch_brain is not installed") from None
        super().setup(root)
        time_s, unit = Session(self.plain.selection.sessions[0].path).spikes()
        path = Path(root).with_name("loader.h5")
        if not path.exists():
            domain = Interval(0.0, float(time_s[-1]) + 1.0)
            spikes = IrregularTimeSeries(timestamps=time_s, unit_index=unit.astype(np.int64), domain=domain)
            with h5py.File(path, "w") as file:
                Data(spikes=spikes, domain=domain).to_hdf5(file)
        self.file = h5py.File(path, "r")
        self.data = Data.from_hdf5(self.file, lazy=True)

    def teardown(self, root: str) -> None:
        if hasattr(self, "file"):
            self.file.close()

    def time_loader(self, root: str) -> int:
        return n_spikes(self.plain.collate(self.marks))

    def time_torch_brain(self, root: str) -> int:
        total = 0
        for t_s in self.batch.t_s.tolist():
            spikes = self.data.slice(t_s - HISTORY_S, t_s + HORIZON_S).spikes
            time_s, unit = spikes.timestamps - HISTORY_S, spikes.unit_index
            mark = np.searchsorted(time_s, 0.0)
            total += mark + int(binned(time_s[mark:], unit[mark:], HORIZON_S).sum())
        return total


def binned(time_s: Any, unit: Any, span_s: float) -> Any:
    """(bins, N) int16 counts of the spikes of one span, times from its beginning."""
    n_bins = round(span_s / BIN_S)
    flat = np.minimum((time_s / BIN_S).astype(np.int64), n_bins - 1) * N_UNITS + unit
    return np.bincount(flat, minlength=n_bins * N_UNITS).reshape(n_bins, N_UNITS).astype(np.int16)


def n_spikes(batch: WindowBatch) -> int:
    """Tokens and counts: alike for all who load the same windows."""
    return len(batch.token_time_s) + int(batch.counts.sum())
