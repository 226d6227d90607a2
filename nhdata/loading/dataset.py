"""Training batches from a SQL query, as a torch IterableDataset."""

from __future__ import annotations

import hashlib
import math
import multiprocessing.context
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import numpy as np
import torch
import torch.distributed
import torch.utils.data
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhcatalog.place import Place
from nhdata.features.bins import whole_bins
from nhdata.loading.ahead import read_ahead
from nhdata.loading.batch import WindowBatch
from nhdata.loading.batches import BySize, ByTokens
from nhdata.loading.covariates import CovariateReader, Covariates
from nhdata.loading.cutter import WindowCutter
from nhdata.loading.fetch import SpikeCache
from nhdata.loading.main_guard import check_main_module
from nhdata.loading.mix import Mix
from nhdata.loading.plan import EpochPlan, Weights, plan_epoch
from nhdata.loading.selection import ALL_GOOD, Selection, select_units
from nhdata.loading.series import SeriesReader
from nhdata.loading.sessions import look_back, plan_sessions, spike_indexes
from nhdata.loading.splits import Splits
from nhdata.store.store import open_store

MAX_WORKERS = 1024
_N_LOADED, _BY_LOADER, _MAIN = 0, 1, 2  # in WindowDataset._loads; worker k follows the main process


class NoWindows(UserError):
    """The selected sessions are too short for a window of this shape in this split."""


class WindowDataset(torch.utils.data.IterableDataset[WindowBatch]):
    """Windows of history and horizon over selected units, in whole batches.

    Give it to a DataLoader with ``batch_size=None``. The order is a function of (selection, seed, epoch); every
    window comes exactly once an epoch over any number of ranks and workers, and all ranks get the same number of
    batches. It may be pickled and used with ``fork`` or ``spawn``: files are opened by the process that
    reads them. Every iteration begins at the beginning of the epoch, but the first one after `load_state_dict`;
    iterations that run at the same time are independent of each other.

    Parameters
    ----------
    store : path, Url or str
        The store; read only.
    select : str or Selection
        A SELECT with a column ``unit_id``, a named selection, or an answer frozen before.
    split : {"train", "valid", "test", "all", "reference", "rest"}
        See `nhdata.loading.splits.split_span`.
    splits : Splits
        How the selection is divided: by time (the default), session, subject or unit.
    history_s, horizon_s, bin_s : float
        Half-open windows ``[t - history_s, t)`` and ``[t, t + horizon_s)``; both whole numbers of bins. No window
        touches what the source calls invalid (its intervals ``invalid_times``).
    align : str, optional
        Windows at events, e.g. ``"trials.stimOn_times"``, in place of horizons side by side.
    align_offset_s : float
        From the event to the beginning of the horizon.
    batch_size : int
        Most windows in a batch.
    max_tokens : int, optional
        Most tokens in a batch, in place of `batch_size`; a window that has more is alone. Counted in the store's index
        of 100 ms blocks: never too few if all units are selected, else in proportion to the spikes of those that are.
    seed : int
    memory_budget_mb : float
        Decoded spikes to keep, for this data set and all its workers together: 6 bytes per spike of the sessions,
        and up to 8 kB per session for whole pages. Spikes that do not fit are read a few blocks at a time; see
        `shuffle_quality`.
    ema_tau_s : tuple of float
        Time constants of the moving averages in ``WindowBatch.ema_hz``; they look back up to 20 s, before the
        history and never past its end.
    count_history : bool
        Whether batches have counts of the history beside its tokens; without them they are cut faster.
    series : tuple of str
        Continuous signals to resample to the bins of the horizon, e.g. ``("wheel_velocity",)``.
    covariates : tuple of str
        What was known in the history besides spikes, e.g. ``("wheel_velocity", "trials.contrast@stim_on_s")``; see
        `nhdata.loading.covariates`.
    covariate_steps : int
        Equal steps of the history that they are given in.
    unit_dropout : float
        Share of units to leave out of each window, at random.
    weights : {"uniform", "session", "spikes"}
        Every window once an epoch; or as many windows in all, but the same number from each session, or a number in
        proportion to its spikes. Shuffled only.
    max_windows : int, optional
        Most windows of one session in an epoch.
    shuffle : bool, optional
        Random order and offsets; by default for the split ``train`` only.
    drop_last : bool, optional
        Leave out the batches that do not go round all ranks; by default as `shuffle`. Otherwise ranks
        without a batch get an empty one.
    gap_s : float, optional
        Distance between splits; history + horizon by default, and at least that.
    reference_s : float, optional
        Length of the reference of sessions never trained on, for the last two splits.
    rank, world_size : int, optional
        By default those of torch.distributed, else 0 and 1.

    Raises
    ------
    UserError
        If nothing is selected or an option makes no sense; `NoWindows` if no session holds a window.
    """

    def __init__(
        self,
        store: Place | str,
        *,
        select: str | Selection = ALL_GOOD,
        split: str = "train",
        splits: Splits = Splits(),  # noqa: B008 (frozen)
        history_s: float = 0.5,
        horizon_s: float = 0.5,
        bin_s: float = 0.02,
        align: str | None = None,
        align_offset_s: float = 0.0,
        batch_size: int = 64,
        max_tokens: int | None = None,
        seed: int = 0,
        memory_budget_mb: float = 2048,
        ema_tau_s: tuple[float, ...] = (),
        count_history: bool = True,
        series: tuple[str, ...] = (),
        covariates: tuple[str, ...] = (),
        covariate_steps: int = 10,
        unit_dropout: float = 0.0,
        weights: Weights = "uniform",
        max_windows: int | None = None,
        shuffle: bool | None = None,
        drop_last: bool | None = None,
        gap_s: float | None = None,
        reference_s: float | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__()
        everything = select if isinstance(select, Selection) else select_units(open_store(store), select)
        self.split, self.splits, self.bin_s = split, splits, float(bin_s)
        self.selection = splits.select(everything, split)
        self.history_s, self.horizon_s = float(history_s), float(horizon_s)
        self.n_history = whole_bins("history_s", history_s, bin_s)
        self.n_horizon = whole_bins("horizon_s", horizon_s, bin_s)
        for name, value in (("batch_size", batch_size), ("max_tokens", max_tokens), ("max_windows", max_windows)):
            if value is not None and value < 1:
                raise UserError(f"{name}={value}", "use at least 1")
        if not 0 <= unit_dropout < 1:
            raise UserError(f"unit_dropout={unit_dropout}", "use a share of units from 0 to below 1")
        self.shuffle = split == "train" if shuffle is None else shuffle
        if weights not in get_args(Weights) or (weights != "uniform" and not self.shuffle):
            raise UserError(
                f"weights='{weights}'", f"choose one of {', '.join(get_args(Weights))}; shuffle for the last two"
            )
        self.batch_size, self.seed, self.ema_tau_s = batch_size, seed, ema_tau_s
        self.memory_budget_mb = memory_budget_mb
        self.drop_last = self.shuffle if drop_last is None else drop_last
        joined = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = (torch.distributed.get_rank() if joined else 0) if rank is None else rank
        self.world_size = (torch.distributed.get_world_size() if joined else 1) if world_size is None else world_size
        window_s = round(history_s + horizon_s, 9)  # 0.1 + 0.2 is 0.3
        gap_s = window_s if gap_s is None else gap_s
        if gap_s < window_s:
            raise UserError(f"gap_s={gap_s} is shorter than a window", f"use at least {window_s}")
        sessions = self.selection.sessions
        self._cutter = WindowCutter(
            self.selection,
            bin_s=self.bin_s,
            n_history=self.n_history,
            n_horizon=self.n_horizon,
            ema_tau_s=ema_tau_s,
            count_history=count_history,
            unit_dropout=unit_dropout,
            series=SeriesReader(sessions, series, int(memory_budget_mb * 1e5)),
            covariates=CovariateReader(
                sessions,
                covariates,
                history_s=self.history_s,
                n_steps=covariate_steps,
                budget_bytes=int(memory_budget_mb * 1e5),
            ),
            cache=SpikeCache(sessions, memory_budget_mb),
        )
        self._sessions = plan_sessions(
            self.selection,
            self._cutter.shapes,
            splits=splits,
            split=split,
            gap_s=gap_s,
            reference_s=reference_s,
            align=align,
            align_offset_s=align_offset_s,
        )
        self._look_back = look_back(self.selection, self._sessions, splits)
        self._cutter.look_back(self._look_back)
        self._batches: BySize | ByTokens = BySize(batch_size)
        if max_tokens is not None:
            self._batches = ByTokens(max_tokens, spike_indexes(self.selection, self._sessions))
        self._weights, self._max_windows = weights, max_windows
        # in shared memory, so that workers that persist see them change: epoch, batches done, chunks open at a time
        self._position = torch.zeros(3, dtype=torch.int64).share_memory_()
        self._position[2] = self.open_chunks(self._cutter.cache.arena.n_slots)
        # in shared memory too: number of states loaded, whether `WindowLoader` says where workers begin, and the last
        # state that was used by iterations in the main process and in each worker
        self._loads = torch.zeros(2 + 1 + MAX_WORKERS, dtype=torch.int64).share_memory_()
        self._restored: tuple[int, int] | None = None  # a state that was loaded in a worker, for its next iteration
        self._begun: tuple[int, int] = (0, 0)  # iteration in use: batches before it, and batches it handed out here
        self._planned: tuple[tuple[int, int], EpochPlan] | None = None
        if len(self) == 0:
            ticks = [(s.stretches, one.tick_hz) for s, one in zip(self._sessions, sessions, strict=True)]
            longest_s = max(float((a[:, 1] - a[:, 0]).max(initial=0)) / tick_hz for a, tick_hz in ticks)
            who = ", ".join(self.session_ids[:3]) + (", …" if len(self.session_ids) > 3 else "")
            raise NoWindows(
                f"no window of {history_s} + {horizon_s} s fits split '{split}' of {who} (longest: {longest_s:.2f} s)",
                "use a shorter history or horizon, a smaller batch, or longer sessions",
            )

    @property
    def unit_ids(self) -> tuple[str, ...]:
        """Ids of the selected units; ``WindowBatch.unit_id`` counts along it."""
        return self.selection.unit_ids

    @property
    def session_ids(self) -> tuple[str, ...]:
        """Ids of the selected sessions; ``WindowBatch.session_id`` counts along it."""
        return tuple(s.session_id for s in self.selection.sessions)

    @property
    def stretches_s(self) -> dict[str, NDArray[np.float64]]:
        """(K, 2) half-open stretches of each session that windows of this split may touch, on the session's clock."""
        return self._seconds([plan.stretches for plan in self._sessions])

    @property
    def look_back_s(self) -> dict[str, NDArray[np.float64]]:
        """The same of the stretches that its averages may look back within."""
        return self._seconds(self._look_back)

    def _seconds(self, stretches: list[NDArray[np.int64]]) -> dict[str, NDArray[np.float64]]:
        return {
            s.session_id: s.t_start_s + ticks / s.tick_hz
            for s, ticks in zip(self.selection.sessions, stretches, strict=True)
        }

    @property
    def spans_s(self) -> dict[str, tuple[float, float]]:
        """From the first to the last of these stretches, seconds on the session's clock."""
        return {
            name: (float(s[0, 0]), float(s[-1, 1])) if len(s) else (math.nan, math.nan)
            for name, s in self.stretches_s.items()
        }

    @property
    def epoch(self) -> int:
        """Epoch that the next iteration goes through."""
        return int(self._position[0])

    def set_epoch(self, epoch: int) -> None:
        """Go through another order from its beginning; call it before each epoch of training."""
        self._position[0], self._position[1] = epoch, 0
        self._loads[_MAIN:] = self._loads[_N_LOADED]
        self._begun = (0, 0)

    def state_dict(self) -> dict[str, int]:
        """Epoch, batches that all ranks together have done of it, seed; valid for any number of workers and ranks.

        The batches are those of the iteration that last began or handed out a batch in this process, or those of the
        state that was loaded since.

        A DataLoader with workers reads ahead of what it hands out: `make_loader` counts what was handed out. The
        state holds how many chunks of spikes the order keeps open, so that it is the same under another memory budget.
        In a worker process it also holds the worker's own batches, for torchdata's StatefulDataLoader.
        """
        before, steps = self._begun
        is_worker = torch.utils.data.get_worker_info() is not None
        if not is_worker:
            before = int(self._position[1]) if self.is_loaded else before + steps * self.world_size
        state = {
            "epoch": self.epoch,
            "batches": before,
            "seed": self.seed,
            "open_chunks": int(self._position[2]),
        }
        return state | ({"worker_batches": steps} if is_worker else {})

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from `state` at the next iteration, and at that one only.

        Raises
        ------
        UserError
            If the state was taken with another seed.
        """
        if state["seed"] != self.seed:
            raise UserError(f"the state has seed {state['seed']}, this data set {self.seed}", "use the same seed")
        self._position[0], self._position[2] = state["epoch"], state.get("open_chunks", 0)
        if torch.utils.data.get_worker_info():  # torchdata restores each worker by itself
            self._restored = self._begun = state["batches"], state.get("worker_batches", 0)
            return
        self._position[1] = state["batches"]
        self._loads[_N_LOADED] += 1

    @property
    def is_loaded(self) -> bool:
        """Whether a state was loaded that no iteration has begun from."""
        return bool(self._loads[_MAIN] != self._loads[_N_LOADED])

    def begin_workers_at(self, batches: int | None) -> None:
        """Set where all iterations in workers begin, for `WindowLoader`; None: as elsewhere."""
        self._loads[_BY_LOADER] = batches is not None
        self._position[1] = batches or 0

    def take_start(self) -> tuple[int, int]:
        """Batches of all ranks, and of this worker beyond them, to leave out of an iteration that begins now."""
        worker = torch.utils.data.get_worker_info()
        if self._restored is not None:
            start, self._restored = self._restored, None
            return start
        if worker and self._loads[_BY_LOADER]:
            return int(self._position[1]), 0
        mine = _MAIN if worker is None else _MAIN + 1 + worker.id
        if self._loads[mine] == self._loads[_N_LOADED]:
            return 0, 0
        if worker is None:
            self._loads[_MAIN:] = self._loads[_N_LOADED]
        else:
            self._loads[mine] = self._loads[_MAIN] = self._loads[_N_LOADED]
        return int(self._position[1]), 0

    def plan(self, epoch: int | None = None, open_chunks: int | None = None) -> EpochPlan:
        """Windows and batches of an epoch over all ranks, by default of the current one.

        Parameters
        ----------
        epoch : int, optional
        open_chunks : int, optional
            See `open_chunks`; by default that of the memory budget, or of the state that was loaded.
        """
        key = (
            int(self._position[0]) if epoch is None else epoch,
            int(self._position[2]) if open_chunks is None else open_chunks,
        )
        if self._planned is None or self._planned[0] != key:
            plan = plan_epoch(
                self._sessions,
                seed=self.seed,
                epoch=key[0],
                shuffle=self.shuffle,
                batches=self._batches,
                weights=self._weights,
                max_windows=self._max_windows,
                mix=Mix.of(key[1]) if key[1] else None,
            )
            self._planned = key, plan
        return self._planned[1]

    def slots_within(self, memory_budget_mb: float) -> int:
        """Chunks of spikes that a memory budget has room for; all of them where their spikes fit."""
        return self._cutter.cache.slots_within(memory_budget_mb)

    def open_chunks(self, n_chunks: int) -> int:
        """Chunks of spikes that an order keeps open where there is room for `n_chunks`; 0 where there is for all."""
        return n_chunks if n_chunks < self._cutter.cache.first_chunk[-1] else 0

    @property
    def windows_hash(self) -> str:
        """SHA-256 of the epoch's list of windows and the selection: equal lists, equal scores to compare."""
        digest = hashlib.sha256(self.selection.hash.encode())
        digest.update(f"{self.history_s} {self.horizon_s} {self.bin_s}".encode())
        digest.update(np.ascontiguousarray(self.plan().windows).data)
        return digest.hexdigest()

    @property
    def split_hash(self) -> str:
        """SHA-256 of the units and stretches of this split, whatever the windows: equal where the division is."""
        digest = hashlib.sha256(self.selection.hash.encode())
        for session, plan in zip(self.selection.sessions, self._sessions, strict=True):
            digest.update(f"{session.session_id} {session.tick_hz} {plan.stretches.tolist()}".encode())
        return digest.hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        if multiprocessing.context.get_spawning_popen() is not None:
            check_main_module()
        return {**self.__dict__, "_planned": None}

    def __len__(self) -> int:
        """Batches of one epoch on this rank."""
        return self.plan().n_steps(self.world_size, self.drop_last)

    def __iter__(self) -> Iterator[WindowBatch]:
        self._begun = self.take_start()
        return self._iterate(*self._begun)

    def _iterate(self, done: int, skip: int) -> Iterator[WindowBatch]:
        """Hand out the batches of an epoch after the first `done` of all and `skip` of this worker's."""
        info = torch.utils.data.get_worker_info()
        worker, n_workers = (info.id, info.num_workers) if info else (0, 1)
        plan = self.plan()
        steps = range(worker, plan.n_steps(self.world_size, self.drop_last, done), n_workers)
        windows = (plan.batch(step, self.rank, self.world_size, done) for step in steps[skip:])
        for n, batch in enumerate(self._stream(windows), skip + 1):
            self._begun = done, n
            yield batch
        if info is None:
            self._begun = (0, 0)

    def _stream(self, windows: Iterable[NDArray[np.int64]]) -> Iterator[WindowBatch]:
        """Batches of windows; what they need is read ahead."""
        epoch = self.epoch
        located = (self._cutter.locate(batch, self.seed, epoch) for batch in windows)
        return map(self._cutter.cut, read_ahead(self._cutter.cache, located))

    def collate(self, windows: NDArray[np.int64]) -> WindowBatch:
        """Read and cut the given windows.

        Parameters
        ----------
        windows : (B, 2) int64
            Session and mark, as in `EpochPlan.windows`.
        """
        return self._cutter.cut(self._cutter.locate(windows, self.seed, self.epoch))

    def covariates(self, windows: NDArray[np.int64]) -> Covariates:
        """Covariates and their masks alone, of the given windows, as `collate` gives them; no spike is read."""
        return self._cutter.covariates(windows)
