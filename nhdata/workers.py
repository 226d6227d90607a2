"""Many independent tasks at once: in this process, on processes of this machine, or on a dask cluster."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from nhcatalog.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

CONNECT_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Workers:
    """Where tasks run.

    Attributes
    ----------
    jobs : int
        Tasks at once on this machine, each in a process of its own; 1 runs them here, one after another.
    scheduler : str or None
        Address of a running dask scheduler, e.g. ``"tcp://10.0.0.1:8786"``, whose workers are used instead.
    """

    jobs: int = 1
    scheduler: str | None = None


def run_tasks(
    task: Callable[[Item], Result], items: Sequence[Item], workers: Workers | None = None
) -> Iterator[Result]:
    """Do `task` for each item and give the results as they come.

    Parameters
    ----------
    task : callable
        Of one argument; it, the items and the results must be picklable unless all run here.
    items : sequence
    workers : Workers, optional

    Yields
    ------
    Result
        In the order of completion. Left early, by an error or Ctrl-C, what has not begun is not begun.

    Raises
    ------
    UserError
        If no scheduler answers at the address.

    Examples
    --------
    >>> list(run_tasks(abs, [-1, 2]))
    [1, 2]
    """
    workers = workers or Workers()
    if workers.scheduler is not None:
        yield from _on_dask(task, items, workers.scheduler)
    elif workers.jobs == 1 or len(items) < 2:
        yield from map(task, items)
    else:
        yield from _on_processes(task, items, workers.jobs)


def _on_processes(task: Callable[[Any], Any], items: Sequence[Any], jobs: int) -> Iterator[Any]:
    with ProcessPoolExecutor(min(jobs, len(items)), mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(task, item) for item in items]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _on_dask(task: Callable[[Any], Any], items: Sequence[Any], scheduler: str) -> Iterator[Any]:
    import distributed

    _check_listening(scheduler)
    with distributed.Client(scheduler, timeout=CONNECT_TIMEOUT_S) as client:  # type: ignore[no-untyped-call]
        futures = [client.submit(task, item, pure=False) for item in items]
        try:
            for future in distributed.as_completed(futures):  # type: ignore[no-untyped-call]
                yield future.result()
        except BaseException:
            client.cancel(futures, force=True)
            raise


def _check_listening(scheduler: str) -> None:
    """Fail in one line: a client that never connected takes half a minute to go."""
    place = urlsplit(scheduler if "://" in scheduler else f"tcp://{scheduler}")
    try:
        socket.create_connection((place.hostname or "", place.port or 8786), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"no dask scheduler at {scheduler} ({error})", "start one with 'dask scheduler', or leave out --scheduler"
        ) from None
