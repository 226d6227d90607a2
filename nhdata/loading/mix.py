"""Random order with few stretches open at a time, so that spikes larger than memory stream through it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nhdata.store.layout import CHUNK_SPIKES, SHARD_SPIKES

if TYPE_CHECKING:
    from nhdata.loading.plan import SessionPlan

CHUNKS_PER_SHARD = SHARD_SPIKES // CHUNK_SPIKES


def block_chunks(open_chunks: int) -> int:
    """Chunks to read together, up to a whole shard: so many that two dozen such blocks can be open."""
    return min(max(open_chunks // 24, 1), CHUNKS_PER_SHARD)


@dataclass(frozen=True)
class Mix:
    """Blocks of spikes are opened one after another, in random order; each spreads its windows at random over a while.

    That while is as long as it takes to go through `open_spikes`, so that about ``open_spikes / block_spikes`` blocks
    are open at any time, and a batch mixes windows of all of them.

    Attributes
    ----------
    block_spikes : int
        Spikes of one session that are read together.
    open_spikes : int
        Spikes of all blocks that are open at a time.
    total_spikes : int
        Of all sessions.
    """

    block_spikes: int
    open_spikes: int
    total_spikes: int

    @classmethod
    def of(cls, open_chunks: int, total_spikes: int) -> Mix:
        """Blocks for a cache of `open_chunks`, which must also hold what windows reach into beside their blocks."""
        block = block_chunks(open_chunks)
        open_spikes = max(open_chunks * block // (block + 2), 1) * CHUNK_SPIKES
        return cls(block * CHUNK_SPIKES, open_spikes, total_spikes)

    def order(
        self, windows: NDArray[np.int64], sessions: Sequence[SessionPlan], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Windows in the order in which they are visited, and when: from 0, at the start, to 1.

        Parameters
        ----------
        windows : (n, 2) int64
            Session and mark. They get the share of what may be open that their sessions have of all spikes, but
            room for a few blocks.
        """
        length = np.array([max(self.block_spikes * s.n_ticks // max(s.n_spikes, 1), 1) for s in sessions])
        block_of = np.column_stack([windows[:, 0], windows[:, 1] // length[windows[:, 0]]])
        blocks, block = np.unique(block_of, axis=0, return_inverse=True)
        spikes_per_tick = np.array([s.n_spikes / s.n_ticks for s in sessions])
        size = np.minimum(length * spikes_per_tick, [max(s.n_spikes, 1) for s in sessions])[blocks[:, 0]]
        share = size.sum() / self.total_spikes
        spread = max(share * self.open_spikes, min(4 * self.block_spikes, self.open_spikes / 4))
        place = rng.permutation(len(blocks))
        opens = np.empty(len(blocks))
        opens[place] = np.cumsum(size[place]) - size[place]
        at = opens[block.ravel()] + spread * rng.random(len(windows))
        order = np.argsort(at, kind="stable")
        return windows[order], at[order] / (size.sum() + spread)
