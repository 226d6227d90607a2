"""Random order with few stretches open at a time, so that spikes larger than memory stream through it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nhdata.loading.session_plan import SessionPlan
from nhdata.store.layout import CHUNK_SPIKES, SHARD_SPIKES

MIN_SHARE = 0.08
CHUNKS_PER_SHARD = SHARD_SPIKES // CHUNK_SPIKES


def block_chunks(n_slots: int) -> int:
    """Chunks to read together where there is room for `n_slots`, up to a whole shard."""
    return min(max(n_slots // 16, 1), CHUNKS_PER_SHARD)


@dataclass(frozen=True)
class Mix:
    """Blocks of spikes are opened one after another, in random order; each spreads its windows at random over a while.

    That while is as long as it takes to go through `open_chunks` chunks: so many are open at any time, and a batch
    mixes windows of all of them.

    Attributes
    ----------
    block_chunks : int
        Chunks of one session that are read together.
    open_chunks : float
        Chunks of all blocks that are open at a time.
    """

    block_chunks: int
    open_chunks: float

    @classmethod
    def of(cls, n_slots: int) -> Mix:
        """For a cache of `n_slots`, which must also hold what windows reach into beside their blocks."""
        block = block_chunks(n_slots)
        return cls(block, max(0.85 * n_slots * block / (block + 2), 1.0))

    def parts(self, n_spikes: Sequence[int]) -> list[Mix]:
        """One for each of several groups of sessions that are gone through side by side.

        Each gets the share of what may be open that it has of all spikes, but some even if it has few; and
        blocks so small that a few of them are open.
        """
        share = [max(n / max(sum(n_spikes), 1), MIN_SHARE) for n in n_spikes]
        chunks = [self.open_chunks * s / sum(share) for s in share]
        return [Mix(max(min(self.block_chunks, int(n / 4)), 1), n) for n in chunks]

    def order(
        self, windows: NDArray[np.int64], sessions: Sequence[SessionPlan], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Windows in the order in which they are visited, and when: from 0, at the start, to 1.

        Parameters
        ----------
        windows : (n, 2) int64
            Session and mark.
        sessions : sequence of SessionPlan
        rng : numpy.random.Generator
        """
        block_spikes = self.block_chunks * CHUNK_SPIKES
        n_spikes = np.array([max(s.n_spikes, 1) for s in sessions])
        length = np.array([max(block_spikes * s.n_ticks // max(s.n_spikes, 1), 1) for s in sessions])
        history = np.array([s.shape.history for s in sessions])
        number = windows[:, 0]
        block_of = np.column_stack([number, (windows[:, 1] - history[number]) // length[number]])
        blocks, block = np.unique(block_of, axis=0, return_inverse=True)
        size = np.minimum(block_spikes, n_spikes)[blocks[:, 0]]
        place = rng.permutation(len(blocks))
        opens = np.empty(len(blocks))
        opens[place] = np.cumsum(size[place]) - size[place]
        spread = self.open_chunks * CHUNK_SPIKES
        at = opens[block.ravel()] + spread * rng.random(len(windows))
        order = np.argsort(at, kind="stable")
        return windows[order], at[order] / (size.sum() + spread)
