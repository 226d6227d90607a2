"""Training batches from a SQL query, as a torch IterableDataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed
import torch.utils.data
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.loading.batch import WindowBatch
from nhdata.loading.cutter import WindowCutter
from nhdata.loading.fetch import SpikeCache
from nhdata.loading.plan import EpochPlan, plan_epoch, split_span, whole_bins
from nhdata.loading.selection import ALL_GOOD, Selection, select_units
from nhdata.store.store import open_store


class NoWindows(UserError):
    """The selected sessions are too short for a window of this shape in this split."""


class WindowDataset(torch.utils.data.IterableDataset[WindowBatch]):
    """Windows of history and horizon over selected units, in whole batches.

    Give it to a DataLoader with ``batch_size=None``. The order is a function of (selection, seed, epoch); every
    window comes exactly once an epoch over any number of ranks and workers, and all ranks get the same number of
    batches. It may be pickled and used with ``fork`` or ``spawn``: files are opened by the process that
    reads them. Without workers, an iteration that was left early goes on where it was left; `set_epoch` begins anew.

    Parameters
    ----------
    store : path or str
        The store; read only.
    select : str or Selection
        A SELECT with a column ``unit_id``, or an answer frozen before.
    split : {"train", "valid", "test", "all", "reference", "rest"}
        See `nhdata.loading.plan.split_span`.
    history_s, horizon_s, bin_s : float
        Half-open windows ``[t - history_s, t)`` and ``[t, t + horizon_s)``; both whole numbers of bins.
    batch_size : int
        Most windows in a batch.
    seed : int
    memory_budget_mb : float
        Decoded spikes to keep in each process.
    ema_tau_s : tuple of float
        Time constants of the moving averages in ``WindowBatch.ema_hz``; they look back up to 20 s, before the
        history and never past its end.
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
        If nothing is selected or the spans are not whole numbers of bins; `NoWindows` if no session holds a window.
    """

    def __init__(
        self,
        store: str | Path,
        *,
        select: str | Selection = ALL_GOOD,
        split: str = "train",
        history_s: float = 0.5,
        horizon_s: float = 0.5,
        bin_s: float = 0.02,
        batch_size: int = 64,
        seed: int = 0,
        memory_budget_mb: float = 2048,
        ema_tau_s: tuple[float, ...] = (),
        shuffle: bool | None = None,
        drop_last: bool | None = None,
        gap_s: float | None = None,
        reference_s: float | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__()
        self.selection = select if isinstance(select, Selection) else select_units(open_store(store), select)
        self.split, self.bin_s = split, float(bin_s)
        self.history_s, self.horizon_s = float(history_s), float(horizon_s)
        self.n_history = whole_bins("history_s", history_s, bin_s)
        self.n_horizon = whole_bins("horizon_s", horizon_s, bin_s)
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}", "use at least 1")
        self.batch_size, self.seed, self.ema_tau_s = batch_size, seed, ema_tau_s
        self.shuffle = split == "train" if shuffle is None else shuffle
        self.drop_last = self.shuffle if drop_last is None else drop_last
        joined = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = (torch.distributed.get_rank() if joined else 0) if rank is None else rank
        self.world_size = (torch.distributed.get_world_size() if joined else 1) if world_size is None else world_size
        window_s = round(history_s + horizon_s, 9)  # 0.1 + 0.2 is 0.3
        gap_s = window_s if gap_s is None else gap_s
        if gap_s < window_s:
            raise UserError(f"gap_s={gap_s} is shorter than a window", f"use at least {window_s}")
        self._cutter = WindowCutter(
            self.selection,
            bin_s=self.bin_s,
            n_history=self.n_history,
            n_horizon=self.n_horizon,
            ema_tau_s=ema_tau_s,
            cache=SpikeCache(self.selection.sessions, memory_budget_mb),
        )
        self._spans = [
            split_span(
                split,
                s.n_ticks,
                round(gap_s * s.tick_hz),
                None if reference_s is None else round(reference_s * s.tick_hz),
            )
            for s in self.selection.sessions
        ]
        # epoch and batches done live in shared memory, so that workers that persist see them change
        self._position = torch.zeros(2, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        if len(self) == 0:
            longest_s = max((b - a) / s.tick_hz for (a, b), s in zip(self._spans, self.selection.sessions, strict=True))
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
    def spans_s(self) -> dict[str, tuple[float, float]]:
        """The stretch of each session that this split may touch, seconds on the session's clock."""
        return {
            s.session_id: (s.t_start_s + a / s.tick_hz, s.t_start_s + b / s.tick_hz)
            for s, (a, b) in zip(self.selection.sessions, self._spans, strict=True)
        }

    @property
    def epoch(self) -> int:
        """Epoch that the next iteration goes through."""
        return int(self._position[0])

    def set_epoch(self, epoch: int) -> None:
        """Go through another order from its beginning; call it before each epoch of training."""
        self._position[0], self._position[1] = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Epoch, batches that all ranks together have done of it, seed; valid for any number of workers and ranks.

        A DataLoader with workers reads ahead of what it hands out: `make_loader` counts what was handed out.
        """
        return {"epoch": self.epoch, "batches": int(self._position[1]), "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from `state`.

        Raises
        ------
        UserError
            If the state was taken with another seed.
        """
        if state["seed"] != self.seed:
            raise UserError(f"the state has seed {state['seed']}, this data set {self.seed}", "use the same seed")
        self._position[0], self._position[1] = state["epoch"], state["batches"]

    def plan(self) -> EpochPlan:
        """Windows and batches of the current epoch, over all ranks."""
        return plan_epoch(
            self._spans,
            self._cutter.shapes,
            [len(s.rows) for s in self.selection.sessions],
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=self.epoch,
            shuffle=self.shuffle,
        )

    @property
    def windows_hash(self) -> str:
        """SHA-256 of the epoch's list of windows and the selection: equal lists, equal scores to compare."""
        digest = hashlib.sha256(self.selection.hash.encode())
        digest.update(f"{self.history_s} {self.horizon_s} {self.bin_s}".encode())
        digest.update(np.ascontiguousarray(self.plan().windows).data)
        return digest.hexdigest()

    def __len__(self) -> int:
        """Batches of one epoch on this rank."""
        return self.plan().n_steps(self.world_size, self.drop_last)

    def __iter__(self) -> Iterator[WindowBatch]:
        info = torch.utils.data.get_worker_info()
        worker, n_workers = (info.id, info.num_workers) if info else (0, 1)
        plan, done = self.plan(), int(self._position[1])
        for step in range(worker, plan.n_steps(self.world_size, self.drop_last, done), n_workers):
            if info is None:
                self._position[1] = done + (step + 1) * self.world_size
            yield self.collate(plan.batch(step, self.rank, self.world_size, done))
        if info is None:
            self._position[1] = 0

    def collate(self, windows: NDArray[np.int64]) -> WindowBatch:
        """Read and cut the given windows.

        Parameters
        ----------
        windows : (B, 2) int64
            Session and mark, as in `EpochPlan.windows`.
        """
        return self._cutter(windows)
