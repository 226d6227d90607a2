"""Which windows, in which order, on which rank: pure functions of the selection, the seed and the epoch. No I/O.

All times are whole ticks of a session's own clock, so a window is the same window on every machine. A window
is named by its session and the tick at which its history ends and its horizon begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError

SPLIT_FRACTIONS: dict[str, tuple[Fraction, Fraction]] = {
    "train": (Fraction(0), Fraction(7, 10)),
    "valid": (Fraction(7, 10), Fraction(8, 10)),
    "test": (Fraction(8, 10), Fraction(1)),
    "all": (Fraction(0), Fraction(1)),
}


def whole_bins(name: str, span_s: float, bin_s: float) -> int:
    """How many bins make up `span_s`.

    Raises
    ------
    UserError
        If it is not a whole, positive number of bins; names the nearest spans that are.

    Examples
    --------
    >>> whole_bins("horizon_s", 0.5, 0.02)
    25
    """
    if not bin_s > 0 or not span_s > 0:
        raise UserError(f"{name}={span_s}, bin_s={bin_s}", "both must be positive numbers of seconds")
    bins = Fraction(repr(float(span_s))) / Fraction(repr(float(bin_s)))
    if bins.denominator != 1:
        below, above = int(bins), int(bins) + 1
        near = " or ".join(f"{float(k * Fraction(repr(float(bin_s)))):g}" for k in (below, above) if k)
        raise UserError(f"{name}={span_s} is {float(bins):g} bins of {bin_s} s", f"use {near}")
    return int(bins)


@dataclass(frozen=True, slots=True)
class WindowShape:
    """A window in ticks of one session: `history` ticks before its mark, `horizon` ticks from it."""

    history: int
    horizon: int


def split_span(split: str, n_ticks: int, gap: int, reference: int | None = None) -> tuple[int, int]:
    """The stretch ``[start, stop)`` of a session that belongs to a split.

    Train, valid and test are the first 70 %, the next 10 % and the last 20 % of the session; each but the
    first begins `gap` ticks late, so that no window of one split shares a spike with a window of another.
    ``reference`` is the beginning of a session that was never trained on, ``rest`` what can be scored of it.

    Parameters
    ----------
    split : {"train", "valid", "test", "all", "reference", "rest"}
    n_ticks : int
        Length of the session.
    gap : int
        At least history + horizon.
    reference : int, optional
        Length of the reference; needed for the last two splits.

    Raises
    ------
    UserError
        If the split has no such name, or needs a reference that is not given.
    """
    if split in ("reference", "rest"):
        if reference is None:
            raise UserError(f"split '{split}' needs the length of the reference", "give reference_s, e.g. 60")
        return (0, min(reference, n_ticks)) if split == "reference" else (min(reference + gap, n_ticks), n_ticks)
    if split not in SPLIT_FRACTIONS:
        raise UserError(f"unknown split '{split}'", f"choose one of {', '.join(SPLIT_FRACTIONS)}, reference, rest")
    first, last = SPLIT_FRACTIONS[split]
    start, stop = int(first * n_ticks), int(last * n_ticks)
    return (min(start + gap, stop) if first else 0, stop)


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
    spans: list[tuple[int, int]],
    shapes: list[WindowShape],
    n_units: list[int],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    shuffle: bool,
) -> EpochPlan:
    """Order and batches of one epoch.

    Shuffled, every session's grid of windows is shifted by a random offset and all windows are visited in random
    order, mixed over sessions; a batch takes sessions of similar size only (numbers of units within a
    factor of two), so that little of it is padding. Unshuffled, the windows come by session and time, their
    horizons side by side, and a batch holds one session: the same list for whoever evaluates.

    Parameters
    ----------
    spans, shapes, n_units : list, one entry per session
        Stretch to cover and shape of a window, in ticks; number of selected units.
    batch_size : int
        Most windows in a batch.
    seed, epoch : int
        Decide offsets and order, and nothing else does.
    shuffle : bool
    """
    rng = np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64)))
    groups: dict[int, list[NDArray[np.int64]]] = {}
    for number, (span, shape) in enumerate(zip(spans, shapes, strict=True)):
        stride = shape.horizon
        offset = int(rng.integers(stride)) if shuffle else 0
        marks = window_marks(span, shape, stride, offset, n_windows(span, shape, stride, shuffle))
        group = n_units[number].bit_length() if shuffle else number
        groups.setdefault(group, []).append(np.column_stack([np.full(marks.size, number, np.int64), marks]))
    batches: list[NDArray[np.int64]] = []
    for group in sorted(groups):
        windows = np.concatenate(groups[group])
        if shuffle:
            windows = rng.permutation(windows)
        batches.extend(windows[k : k + batch_size] for k in range(0, len(windows), batch_size))
    if shuffle:
        batches = [batches[k] for k in rng.permutation(len(batches))]
    edges = np.cumsum([0, *(len(batch) for batch in batches)])
    return EpochPlan(np.concatenate(batches) if batches else np.empty((0, 2), np.int64), edges)
