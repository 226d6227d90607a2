"""Tasks on a dask cluster: one that runs already, or one that SLURM starts for them."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from nhcatalog.errors import UserError
from nhdata.workers.host import check_at_worker, check_version, installed_version, run_at_worker
from nhdata.workers.where import SchedulerLost, WorkerDied, Workers

CONNECT_TIMEOUT_S = 10
RENEW_S = 30.0
"""How often to ask for new SLURM jobs in place of those whose time is up."""
POLL_S = 2.0
"""How often to look whether there are workers."""
SILENT_S = 30.0
"""After how long without a worker a warning is logged; each further one comes after twice the time."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A client of a cluster.

    Attributes
    ----------
    client : distributed.Client
    name : str
        The cluster's name in messages.
    renew : callable
        Asks for workers in place of those that ended.
    why_none : callable
        Why there is no worker, as a text; raises UserError if there will never be one.
    """

    client: Any
    name: str
    renew: Callable[[], Any]
    why_none: Callable[[], str]


def on_cluster(
    task: Callable[[Any], Any],
    items: Sequence[Any],
    workers: Workers,
    on_begin: Callable[[Any], None],
    check: Callable[[], None] | None,
) -> Iterator[tuple[Any, Any]]:
    """(item, result) in the order of completion; the result of an item whose worker died is a `WorkerDied`."""
    if not items:
        return
    from distributed import CancelledError, KilledWorker
    from distributed.client import FuturesCancelledError
    from distributed.comm.core import CommClosedError

    with _connect(workers, len(items)) as connection:
        client = connection.client
        watch = _Watch(connection)
        left: dict[Any, Any] = {}
        done: SimpleQueue[Any] = SimpleQueue()
        try:
            watch.wait()
            if check is not None:
                _check(client, check)
            for item in items:
                on_begin(item)
                future = client.submit(partial(run_at_worker, task), item, pure=False)
                left[future] = item
                future.add_done_callback(done.put)
            while left:
                try:
                    future = done.get(timeout=POLL_S)
                except Empty:
                    future = None
                watch.look_again()
                if future is None:
                    continue
                try:
                    result = future.result(timeout=RENEW_S)
                except TimeoutError:  # its worker ended and the result with it: dask computes it again
                    future.add_done_callback(done.put)
                    continue
                except KilledWorker as error:
                    result = WorkerDied(f"every worker that tried it died, {error.last_worker.address} the last")
                yield left.pop(future), result
        except (asyncio.CancelledError, CancelledError, FuturesCancelledError, CommClosedError):
            raise SchedulerLost(connection.name) from None
        except BaseException:
            if client.status == "running":
                client.cancel(list(left), force=True)
            raise


class _Watch:
    """Watches that a cluster has workers, and logs a warning while it has none."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last_worker = self._renewed = time.monotonic()
        self._asked = self._looked = 0.0
        self._patience_s = SILENT_S

    def wait(self) -> None:
        """Return once there is a worker."""
        while not self.look():
            time.sleep(0.2)

    def look_again(self) -> None:
        """Look, unless that was just done."""
        if time.monotonic() - self._looked >= min(POLL_S, RENEW_S):
            self.look()

    def look(self) -> bool:
        """Whether there is a worker now."""
        now = self._looked = time.monotonic()
        if now - self._renewed > RENEW_S:
            self._renewed = now
            self._connection.renew()
        if _addresses(self._connection):
            self._last_worker, self._patience_s = now, SILENT_S
            return True
        if now - self._asked < POLL_S:
            return False
        self._asked = now
        reason = self._connection.why_none()
        if now - self._last_worker > self._patience_s:
            self._patience_s *= 2
            logging.getLogger(__name__).warning(
                "no worker at %s for %.0f s%s", self._connection.name, now - self._last_worker, reason
            )
        return False


def _addresses(connection: Connection) -> list[str]:
    """Addresses of all workers."""
    if connection.client.status != "running":
        raise SchedulerLost(connection.name)
    try:
        return list(connection.client.nthreads())
    except OSError:
        raise SchedulerLost(connection.name) from None


def _check(client: Any, check: Callable[[], None]) -> None:
    """Check every worker: first its version, as another one may not read `check`."""
    for function, argument in ((check_version, installed_version()), (check_at_worker, check)):
        answers = client.run(function, argument, on_error="return")
        for worker, answer in answers.items():
            if isinstance(answer, Exception):
                problem = f"worker {worker} cannot run neurohorizon ({type(answer).__name__}: {answer})"
                raise UserError(problem, "install the same version there")
            if answer is not None:
                problem, _, remedy = answer.rpartition(": ")
                raise UserError(problem, remedy)


@contextmanager
def _connect(workers: Workers, n_items: int) -> Iterator[Connection]:
    if workers.scheduler is None:
        from nhdata.workers.slurm import slurm_cluster
        from nhdata.workers.where import Slurm

        with _quiet(), slurm_cluster(workers.slurm or Slurm(), min(workers.jobs, n_items)) as connection:
            yield connection
        return
    from distributed import Client

    _check_listening(workers.scheduler)
    with _quiet(), Client(workers.scheduler, timeout=CONNECT_TIMEOUT_S) as client:
        yield Connection(client, workers.scheduler, lambda: None, lambda: "; start one with 'dask worker'")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep dask from logging tracebacks of a lost scheduler and of Ctrl-C, which end in errors of one line."""
    loggers = [logging.getLogger(name) for name in ("distributed.client", "tornado.application")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check_listening(scheduler: str) -> None:
    """Fail in one line: a client that never connected takes half a minute to go."""
    place = urlsplit(scheduler if "://" in scheduler else f"tcp://{scheduler}")
    try:
        socket.create_connection((place.hostname or "", place.port or 8786), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"no dask scheduler at {scheduler} ({error})", "start one with 'dask scheduler', or leave out --scheduler"
        ) from None
