"""A batch of 64 windows, each 1 s of spikes and 25 × 302 counts of the next 0.5 s: the loader beside its peers."""

import time
from collections.abc import Iterator
from dataclasses import fields
from itertools import count, islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import torch.utils.data

from nhdata.loading import WindowBatch, WindowDataset, WindowLoader, make_loader
from nhdata.loading.selection import select_units
from nhdata.store.session import Session
from nhdata.store.store import open_store

from .data import N_SPIKES, N_UNITS, add, recording

BATCH, HISTORY_S, HORIZON_S, BIN_S = 64, 1.0, 0.5, 0.02
N_BATCHES = 32
TEN_SESSIONS = (
    (31_168_943, 302, 5382), (27_860_790, 294, 5015), (13_133_018, 291, 7200), (12_355_315, 134, 5853),
    (7_638_177, 138, 5031), (6_953_627, 128, 5014), (2_996_599, 80, 6499), (2_191_468, 19, 4019),
    (1_586_392, 70, 4699), (454_639, 17, 3691),
)  # fmt: skip
"""Spikes, units and seconds of ten IBL sessions."""
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
    """From spikes that are decoded already.

    The copy moves the bytes of the finished batch once: nothing that makes a new batch can be faster.
    """

    def setup(self, root: str) -> None:
        super().setup(root)
        self.time_s, self.unit = Session(self.plain.selection.sessions[0].path).spikes()
        values = (getattr(self.batch, field.name) for field in fields(WindowBatch))
        self.source = [value.numpy() for value in values if isinstance(value, torch.Tensor)]
        self.target = [np.empty_like(values) for values in self.source]

    def time_ours(self, root: str) -> int:
        return n_spikes(self.plain.collate(self.marks))

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


class OtherBatches(_Windows):
    """The same windows with more to do for each."""

    def time_ours_with_averages(self, root: str) -> int:
        """With moving averages over the 20 s before: ten times as many spikes."""
        return n_spikes(self.ema.collate(self.marks))

    def time_ours_without_memory(self, root: str) -> int:
        """Over budget: every window decodes the chunks of the store that it touches."""
        return n_spikes(self.tight.collate(self.marks))


class _Stream:
    """Epochs of shuffled windows over ten sessions, `N_BATCHES` batches a round, through loaders as they are used.

    The sizes are those of ten IBL sessions, of which the largest has ``NH_BENCH_SPIKES`` spikes. All hand out
    tokens of 1 s and counts of 0.5 s; ours are exact at the edges of bins.
    """

    timeout = 600

    def setup_cache(self) -> str:
        root = Path("stream.zarr").absolute()
        folder = root.with_name("stream")
        folder.mkdir()
        for seed, (n_spikes, n_units, duration_s) in enumerate(TEN_SESSIONS):
            share = N_SPIKES / TEN_SESSIONS[0][0]
            one = recording.__wrapped__(int(n_spikes * share), n_units, seed, n_spikes / duration_s)
            add(root, one)
            to_brainset(Session(root / "sessions" / "bench" / one.session_id), folder / f"{one.session_id}.h5")
        return str(root)

    setup_cache.timeout = 600  # type: ignore[attr-defined]

    def ours(self, root: str, memory_budget_mb: float, num_workers: int = 0) -> float:
        windows = WindowDataset(
            root, select="select unit_id from units", split="all", shuffle=True, drop_last=False,
            history_s=HISTORY_S, horizon_s=HORIZON_S, bin_s=BIN_S, batch_size=BATCH,
            memory_budget_mb=memory_budget_mb, count_history=False,
        )  # fmt: skip
        return seconds(epochs(make_loader(windows, num_workers=num_workers)))

    def peer(self, root: str, eager: bool, num_workers: int = 0) -> float:
        return seconds(epochs(torch_brain_loader(Path(root).with_name("stream"), eager, num_workers)))


class StreamFromMemory(_Stream):
    """All spikes fit."""

    params, param_names, unit = [0, 1, 2], ("workers",), "seconds"

    def track_ours(self, root: str, num_workers: int) -> float:
        return self.ours(root, 4096, num_workers)

    def track_torch_brain_eager(self, root: str, num_workers: int) -> float:
        return self.peer(root, True, num_workers)


class StreamFromDisk(_Stream):
    """A tenth of all spikes fits; torch_brain reads lazily."""

    params, param_names, unit = [0, 1, 2], ("workers",), "seconds"

    def track_ours(self, root: str, num_workers: int) -> float:
        return self.ours(root, tenth_mb(), num_workers)

    def track_torch_brain_lazy(self, root: str, num_workers: int) -> float:
        return self.peer(root, False, num_workers)


class StreamMemory(_Stream):
    """Of the whole process: beside the budget of a tenth, Python, torch and compiled kernels."""

    def peakmem_ours(self, root: str) -> None:
        self.ours(root, tenth_mb())

    def peakmem_torch_brain_lazy(self, root: str) -> None:
        self.peer(root, False)


class FirstBatch(_Stream):
    """From nothing but a path."""

    def time_ours(self, root: str) -> None:
        select = "select unit_id from units"
        next(iter(WindowDataset(root, select=select, history_s=HISTORY_S, memory_budget_mb=4096)))

    def time_torch_brain_eager(self, root: str) -> None:
        next(iter(torch_brain_loader(Path(root).with_name("stream"), True, 0)))

    def time_torch_brain_lazy(self, root: str) -> None:
        next(iter(torch_brain_loader(Path(root).with_name("stream"), False, 0)))


def tenth_mb() -> float:
    return sum(n for n, _, _ in TEN_SESSIONS) * N_SPIKES / TEN_SESSIONS[0][0] * 6 / 1e7


def seconds(batches: Iterator[Any], n_rounds: int = 3) -> float:
    """The median round of `N_BATCHES`, once everything has started."""
    times = []
    for n in (1, *[N_BATCHES] * n_rounds):
        begin = time.perf_counter()
        for _ in islice(batches, n):
            pass
        times.append(time.perf_counter() - begin)
    return float(np.median(times[1:]))


def epochs(loader: Any) -> Iterator[Any]:
    """Batches for ever."""
    for epoch in count():
        if isinstance(loader, WindowLoader):
            loader.set_epoch(epoch)
        yield from loader


def to_brainset(session: Session, path: Path) -> None:
    """A session as torch_brain stores it, where that is installed."""
    try:
        from torch_brain.data import Data, Interval, IrregularTimeSeries
    except ImportError:
        return
    time_s, unit = session.spikes()
    domain = Interval(0.0, float(time_s[-1]) + 1.0)
    spikes = IrregularTimeSeries(timestamps=time_s, unit_index=unit.astype(np.int64), domain=domain)
    with h5py.File(path, "w") as file:
        Data(spikes=spikes, domain=domain).to_hdf5(file)


def torch_brain_loader(folder: Path, eager: bool, num_workers: int) -> Any:
    """torch_brain's own Dataset, sampler and DataLoader; eager, its recordings are read whole and never copied."""
    from torch_brain.data import Data
    from torch_brain.datasets import Dataset
    from torch_brain.samplers import RandomFixedWindowSampler

    class Eager(Dataset):  # type: ignore[misc]
        def get_recording(self, recording_id: str, _namespace: str = "") -> Any:
            return self._data_objects[recording_id]

    dataset = (Eager if eager else Dataset)(folder, transform=tokens_and_counts)
    if eager:
        for name in dataset.recording_ids:
            with h5py.File(folder / f"{name}.h5") as file:
                dataset._data_objects[name] = Data.from_hdf5(file, lazy=False)
    sampler = RandomFixedWindowSampler(
        sampling_intervals=dataset.get_sampling_intervals(), window_length=HISTORY_S + HORIZON_S
    )
    return torch.utils.data.DataLoader(
        dataset, sampler=sampler, batch_size=BATCH, num_workers=num_workers, collate_fn=concatenated,
        multiprocessing_context="fork" if num_workers else None, persistent_workers=num_workers > 0,
    )  # fmt: skip


def tokens_and_counts(sample: Any) -> tuple[Any, Any, Any]:
    """Tokens of the history, and counts of the horizon, of one window."""
    time_s, unit = sample.spikes.timestamps - HISTORY_S, sample.spikes.unit_index
    mark = np.searchsorted(time_s, 0.0)
    return time_s[:mark].astype(np.float32), unit[:mark].astype(np.int32), binned(time_s[mark:], unit[mark:], HORIZON_S)


def concatenated(windows: list[tuple[Any, Any, Any]]) -> tuple[torch.Tensor, ...]:
    times, units, counts = zip(*windows, strict=True)
    lengths = np.cumsum([0, *map(len, times)])
    batch = np.concatenate(times), np.concatenate(units), lengths, np.stack(counts)
    return tuple(map(torch.from_numpy, batch))


def binned(time_s: Any, unit: Any, span_s: float) -> Any:
    """(bins, N) int16 counts of the spikes of one span, times from its beginning."""
    n_bins = round(span_s / BIN_S)
    flat = np.minimum((time_s / BIN_S).astype(np.int64), n_bins - 1) * N_UNITS + unit
    return np.bincount(flat, minlength=n_bins * N_UNITS).reshape(n_bins, N_UNITS).astype(np.int16)


def n_spikes(batch: WindowBatch) -> int:
    """Tokens and counts: alike for all who load the same windows."""
    return len(batch.token_time_s) + int(batch.counts.sum())
