"""Many short waits at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AT_ONCE = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(task: Callable[[Item], Result], items: Iterable[Item], at_once: int = AT_ONCE) -> list[Result]:
    """What `task` makes of each item, in their order; several wait for a disk or the network at once.

    The first error is raised, and what has not begun then is not begun.

    Examples
    --------
    >>> in_parallel(abs, [-1, 2])
    [1, 2]
    """
    items = list(items)
    if len(items) < 2:
        return [task(item) for item in items]
    with ThreadPoolExecutor(min(at_once, len(items))) as pool:
        futures = [pool.submit(task, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
