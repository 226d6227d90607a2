"""What belongs to which split: stretches of sessions, or whole sessions, subjects or units. Pure, no I/O.

Who goes where hangs on names and a seed alone, never on what else is in the store: a session that is a test session
stays one when others are added.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.loading.selection import Selection

By = Literal["time", "session", "subject", "unit"]
SPLIT_FRACTIONS: dict[str, tuple[Fraction, Fraction]] = {
    "train": (Fraction(0), Fraction(7, 10)),
    "valid": (Fraction(7, 10), Fraction(8, 10)),
    "test": (Fraction(8, 10), Fraction(1)),
    "all": (Fraction(0), Fraction(1)),
}


@dataclass(frozen=True)
class Splits:
    """How a selection is divided into train (70 %), valid (10 %) and test (20 %).

    Attributes
    ----------
    by : {"time", "session", "subject", "unit"}
        By time, every session is divided; else each session, subject or unit falls into one split by a hash of its
        name, with all of its time.
    n_blocks : int
        By time: equal parts of a session, each of which is divided anew. More blocks make splits alike where a
        recording drifts, and cost more gaps.
    seed : int
        Another seed, another division by session, subject or unit.
    """

    by: By = "time"
    n_blocks: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in get_args(By):
            raise UserError(f"splits by '{self.by}'", f"choose one of {', '.join(get_args(By))}")
        if self.n_blocks < 1 or (self.n_blocks > 1 and self.by != "time"):
            raise UserError(f"n_blocks={self.n_blocks} by {self.by}", "use at least 1, and more by time only")

    def select(self, selection: Selection, split: str) -> Selection:
        """The part of `selection` that belongs to `split`: all of it by time.

        Raises
        ------
        UserError
            If nothing falls into the split.
        """
        if self.by == "time" or split == "all":
            return selection
        if split not in SPLIT_FRACTIONS:
            raise UserError(f"split '{split}' by {self.by}", f"choose one of {', '.join(SPLIT_FRACTIONS)}")
        if self.by == "unit":
            part = selection.units([self._holds(split, unit_id) for unit_id in selection.unit_ids])
        else:
            name = {s.session_id: s.session_id if self.by == "session" else s.subject for s in selection.sessions}
            if unnamed := [session_id for session_id, subject in name.items() if not subject]:
                raise UserError(f"session {unnamed[0]} names no subject", "split by session, or leave it out")
            part = selection.only([s for s in name if self._holds(split, name[s])])
        if not part.unit_ids:
            raise UserError(f"no {self.by} falls into split '{split}'", "use another seed, or select more")
        return part

    def _holds(self, split: str, name: str) -> bool:
        digest = hashlib.sha256(f"{self.seed}/{self.by}/{name}".encode()).digest()
        first, last = SPLIT_FRACTIONS[split]
        return first <= Fraction(int.from_bytes(digest[:8], "big"), 2**64) < last

    def stretches(self, split: str, n_ticks: int, gap: int, reference: int | None = None) -> NDArray[np.int64]:
        """(K, 2) half-open stretches of a session of `split`, in ticks; see `split_span`."""
        if self.by != "time":
            return np.array([[0, n_ticks]], np.int64)
        if split in ("all", "reference", "rest") or self.n_blocks == 1:
            return np.array([split_span(split, n_ticks, gap, reference)], np.int64)
        edges = [k * n_ticks // self.n_blocks for k in range(self.n_blocks + 1)]
        spans = []
        for start, stop in pairwise(edges):
            late = gap if start else 0  # the block before ends with a test
            a, b = split_span(split, stop - start, gap)
            spans.append((min(max(start + a, start + late), start + b), start + b))
        return np.array(spans, np.int64)


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


def without(stretches: NDArray[np.int64], holes: NDArray[np.int64]) -> NDArray[np.int64]:
    """What is left of some half-open stretches when others are cut out.

    Examples
    --------
    >>> without(np.array([[0, 10], [20, 30]]), np.array([[5, 7], [8, 22]])).tolist()
    [[0, 5], [7, 8], [22, 30]]
    """
    left = stretches[stretches[:, 0] < stretches[:, 1]]
    for a, b in holes.tolist():
        before = np.column_stack([left[:, 0], np.minimum(left[:, 1], a)])
        after = np.column_stack([np.maximum(left[:, 0], b), left[:, 1]])
        left = np.concatenate([before, after]) if b > a else left
        left = left[left[:, 0] < left[:, 1]]
    return left[np.argsort(left[:, 0])]
