"""Read what the next batches need while the last ones are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from nhdata.loading.collate import Windows
from nhdata.loading.fetch import SpikeCache

DEPTH = 4


def read_ahead(cache: SpikeCache, batches: Iterable[Windows], depth: int = DEPTH) -> Iterator[Windows]:
    """The same batches, while a thread decodes what those up to `depth` later need.

    Nothing is read ahead, and no thread begun, where all is decoded already.
    """
    waiting: deque[tuple[Windows, Future[None] | None]] = deque()
    pool = ThreadPoolExecutor(cache.n_readers, "nhdata-read-ahead")
    try:
        for batch in batches:
            ahead = pool.submit(cache.fetch, batch.lo, batch.hi) if cache.lacks(batch.lo, batch.hi) else None
            waiting.append((batch, ahead))
            if len(waiting) > depth:
                yield _ready(*waiting.popleft())
        while waiting:
            yield _ready(*waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ready(batch: Windows, ahead: Future[None] | None) -> Windows:
    if ahead is not None:
        ahead.result()  # an error of reading is raised here
    return batch
