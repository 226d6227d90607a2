"""The plan of a session's counts on disk: chunks, shards, and how much is held at once. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from nhcatalog.errors import UserError

CHUNK_BYTES = 2**20
SHARD_BYTES = 32 * 2**20
BYTES_PER_SPIKE = 32  # stored, decoded, remapped: ticks and rows of units, once each
LEAST_MB = 64


@dataclass(frozen=True, slots=True)
class CountGrid:
    """How the (n_bins, n_units) counts of a session are cut; every shard is written whole and once.

    Attributes
    ----------
    n_bins, n_units : int
    chunk, shard : int
        Bins of a chunk, and of a shard: a whole number of chunks.
    spikes_at_once : int
        Spikes that a thread holds at a time.
    """

    n_bins: int
    n_units: int
    chunk: int
    shard: int
    spikes_at_once: int

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """Bins ``a:b`` of each shard."""
        return [(a, min(a + self.shard, self.n_bins)) for a in range(0, self.n_bins, self.shard)]


def plan_counts(n_bins: int, n_units: int, itemsize: int, memory_mb: int, n_threads: int = 1) -> CountGrid:
    """Shards of 32 MB, or smaller ones where the memory for one session is little.

    Each thread fills shards of its own, in an equal part of the memory: a quarter is a shard, a quarter what it is
    encoded into, and the rest spikes and slack.

    Raises
    ------
    UserError
        If the memory is less than 64 MB.

    Examples
    --------
    >>> grid = plan_counts(269_100, 302, 2, 256)
    >>> grid.chunk, grid.shard // grid.chunk, len(grid.blocks)
    (1736, 32, 5)
    """
    if memory_mb < LEAST_MB:
        raise UserError(f"{memory_mb} MB for a session is too little", f"give at least {LEAST_MB} MB to each job")
    budget = memory_mb * 2**20 // (4 * n_threads)
    row = max(1, n_units * itemsize)
    chunk = max(1, min(n_bins, min(CHUNK_BYTES, budget) // row))
    in_shard = max(1, min(SHARD_BYTES, budget) // (chunk * row))
    shard = chunk * min(in_shard, -(-n_bins // chunk)) if n_bins else chunk
    return CountGrid(n_bins, n_units, chunk, shard, budget // BYTES_PER_SPIKE)
