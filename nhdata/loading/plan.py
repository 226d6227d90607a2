"""Which windows, in which order, on which rank: pure functions of the selection, the seed and the epoch. No I/O.

All times are whole ticks of a session's own clock, so a window is the same window on every machine. A window
is named by its session and the tick at which its history ends and its horizon begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nhdata.loading.mix import Mix
from nhdata.loading.session_plan import SessionPlan, WindowShape

Weights = Literal["uniform", "session", "spikes"]


def n_windows(span: tuple[int, int], shape: WindowShape, stride: int, jitter: bool) -> int:
    """Windows that fit `span` at any offset: the same number in every epoch."""
    room = span[1] - span[0] - shape.history - shape.horizon - (stride - 1 if jitter else 0)
    return room // stride + 1 if room >= 0 else 0


def window_marks(span: tuple[int, int], shape: WindowShape, stride: int, offset: int, n: int) -> NDArray[np.int64]:
    """Marks of `n` windows, `stride` apart, the first `offset` ticks after the earliest possible one."""
    return span[0] + shape.history + offset + stride * np.arange(n, dtype=np.int64)


@dataclass(frozen=True)
class EpochPlan:
    """Every window of one epoch, once, in batches.

    Attributes
    ----------
    windows : (n_windows, 2) int64
        Session (its number) and mark, in the order in which they are visited.
    edges : (n_batches + 1,) int64
        Batch k holds ``windows[edges[k]:edges[k + 1]]``.
    """

    windows: NDArray[np.int64]
    edges: NDArray[np.int64]

    def n_steps(self, world_size: int, drop_last: bool, done: int = 0) -> int:
        """Batches for each rank after the first `done` of all: the same number on all ranks.

        With `drop_last`, batches that do not go round all ranks are left out of this epoch; without it, ranks that
        have none left get an empty batch.
        """
        n = max(len(self.edges) - 1 - done, 0)
        return n // world_size if drop_last else -(-n // world_size)

    def batch(self, step: int, rank: int, world_size: int, done: int = 0) -> NDArray[np.int64]:
        """Windows of batch `step` of one rank; consecutive batches go to consecutive ranks."""
        k = done + step * world_size + rank
        if k >= len(self.edges) - 1:
            return self.windows[:0]
        return self.windows[self.edges[k] : self.edges[k + 1]]


def plan_epoch(
    sessions: Sequence[SessionPlan],
    *,
    seed: int,
    epoch: int,
    shuffle: bool,
    batches: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    weights: Weights = "uniform",
    max_windows: int | None = None,
    mix: Mix | None = None,
) -> EpochPlan:
    """Order and batches of one epoch.

    Shuffled, every session's grid of windows is shifted by a random offset and all windows are visited in random
    order, mixed over sessions; a batch takes sessions of similar size only (numbers of units within a
    factor of two), so that little of it is padding. Unshuffled, the windows come by session and time, their
    horizons side by side, and a batch holds one session: the same list for whoever evaluates.

    Parameters
    ----------
    sessions : sequence of SessionPlan
    seed, epoch : int
        Decide offsets and order, and nothing else does.
    shuffle : bool
    batches : callable
        Given (n, 2) windows in order, says where batches end: (n_batches,) int64; see `nhdata.loading.batches`.
    weights : {"uniform", "session", "spikes"}
        Every window once; or as many windows in all, the same number from each session, or in proportion to its
        spikes: then a window comes as often as any other of its session, or once more.
    max_windows : int, optional
        Most windows of one session: random ones, or unshuffled evenly spaced ones.
    mix : Mix, optional
        Visit a few stretches at a time, for spikes that do not fit into memory.
    """
    rng = np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64)))
    draws = np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64), counter=[0, 0, 0, 1]))
    marks = [session_marks(s, int(rng.integers(s.shape.horizon)) if shuffle else 0, shuffle) for s in sessions]
    wanted = quotas([len(m) for m in marks], [s.n_spikes for s in sessions], weights, max_windows)
    groups: dict[int, list[NDArray[np.int64]]] = {}
    for number, (session, mark, n) in enumerate(zip(sessions, marks, wanted, strict=True)):
        if n != len(mark):
            mark = mark[_repeated(len(mark), n, draws) if shuffle else np.arange(n) * len(mark) // n]
        group = _group(session) if shuffle else number
        groups.setdefault(group, []).append(np.column_stack([np.full(mark.size, number, np.int64), mark]))
    parts: list[NDArray[np.int64]] = []
    when: list[float] = []  # of each batch, between 0 and 1
    mixes = mix.parts(_spikes_by_group(sessions, sorted(groups))) if shuffle and mix else None
    for place, group in enumerate(sorted(groups)):
        windows = np.concatenate(groups[group])
        at = np.arange(len(windows), dtype=np.float64)
        if shuffle and mixes:
            windows, at = mixes[place].order(windows, sessions, rng)
        elif shuffle:
            windows = rng.permutation(windows)
        ends = batches(windows).tolist()
        parts.extend(windows[a:b] for a, b in pairwise([0, *ends]))
        when.extend(at[a] for a in [0, *ends][:-1])
    if shuffle:
        order = rng.permutation(len(parts)) if mix is None else np.argsort(when, kind="stable")
        parts = [parts[k] for k in order]
    edges = np.cumsum([0, *(len(part) for part in parts)])
    return EpochPlan(np.concatenate(parts) if parts else np.empty((0, 2), np.int64), edges)


def session_marks(session: SessionPlan, offset: int, jitter: bool) -> NDArray[np.int64]:
    """Marks of all windows of a session, ascending: on a grid of horizons in each stretch, or at its events."""
    shape, spans = session.shape, [(a, b) for a, b in session.stretches.tolist()]
    if session.events is not None:
        events = np.unique(session.events)
        fits = [events[(events - shape.history >= a) & (events + shape.horizon <= b)] for a, b in spans]
    else:
        stride = shape.horizon
        fits = [window_marks(s, shape, stride, offset, n_windows(s, shape, stride, jitter)) for s in spans]
    return np.concatenate([*fits, np.empty(0, np.int64)])


def quotas(n_windows: Sequence[int], n_spikes: Sequence[int], weights: Weights, most: int | None) -> list[int]:
    """How many windows to take from each session: the same number in every epoch.

    Examples
    --------
    >>> quotas([10, 2], [1, 3], "session", None), quotas([10, 2], [1, 3], "spikes", None)
    ([6, 6], [3, 9])
    >>> quotas([10, 2], [1, 3], "uniform", 4)
    [4, 2]
    """
    if weights == "uniform":
        wanted = list(n_windows)
    else:
        weight = [(k if weights == "spikes" else 1) * (n > 0) for n, k in zip(n_windows, n_spikes, strict=True)]
        total, whole = sum(n_windows), max(sum(weight), 1)
        edges = [total * before // whole for before in accumulate(weight, initial=0)]
        wanted = [b - a for a, b in pairwise(edges)]
    return [min(n, most) if most is not None else n for n in wanted]


def _group(session: SessionPlan) -> int:
    """Sessions of one group have numbers of units within a factor of two."""
    return session.n_units.bit_length()


def _spikes_by_group(sessions: Sequence[SessionPlan], groups: Sequence[int]) -> list[int]:
    """Return the spikes of the sessions of each group."""
    n_spikes = dict.fromkeys(groups, 0)
    for session in sessions:
        n_spikes[_group(session)] += session.n_spikes
    return [n_spikes[group] for group in groups]


def _repeated(n: int, wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`wanted` of n, each as often as any other or once more."""
    return np.concatenate([np.tile(np.arange(n), wanted // n), rng.permutation(n)[: wanted % n]])
