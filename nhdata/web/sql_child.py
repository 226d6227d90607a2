"""SQL in a process of its own, that is killed when it takes too long.

DuckDB's own limits do not stop every query (building one huge string, say), so nothing short of ending the
process is a limit. The process is kept between queries, for starting it takes a second.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa

from nhcatalog.errors import UserError
from nhdata.loading.selection import freeze_selection
from nhdata.store.store import Store

LIMIT_S = 10.0
MAX_WAIT = 6
MEMORY_BYTES = 6 * 2**30


class SqlChild:
    """Runs guarded SELECTs over one store, one at a time.

    Parameters
    ----------
    limit_s : float
        Seconds that a query may take.
    """

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self._lock = threading.Lock()
        self._process: mp.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def run(self, store: Store, query: str, params: list[Any] | None = None) -> pa.Table:
        """The result of a query over the position that `store` is at.

        Raises
        ------
        UserError
            If it is refused, fails, or takes too long.
        """
        return pa.ipc.open_stream(self._ask(_select, store, query, params)).read_all()

    def save(self, store: Store, name: str, query: str) -> None:
        """Keep the units that a query chooses as a named selection: all of it or, if it takes too long, nothing.

        Raises
        ------
        UserError
            If the query is refused, fails or takes too long, or the name is taken or is none.
        """
        self._ask(_save, store, name, query)

    def _ask(self, task: Callable[..., Any], *arguments: Any) -> Any:
        """What a task gives, done in the process."""
        if not self._lock.acquire(timeout=MAX_WAIT * self.limit_s):
            raise UserError("other queries are still running", "wait a moment, and ask again")
        try:
            pipe = self._start()
            try:
                pipe.send((task, arguments))
                if not pipe.poll(self.limit_s):
                    self._stop()
                    raise UserError(f"the SQL took more than {self.limit_s:g} s", "ask for less at a time")
                answer = pipe.recv()
            except (EOFError, OSError):
                self._stop()
                raise UserError("the SQL used more memory than it may", "ask for fewer rows or columns") from None
        finally:
            self._lock.release()
        if isinstance(answer, UserError):
            raise answer
        return answer

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def _start(self) -> Connection:
        if self._pipe is None or self._process is None or not self._process.is_alive():
            self._stop()
            context = mp.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,), daemon=True, name="nhdata-sql")
            self._process.start()
            theirs.close()
            if not self._pipe.poll(60):  # starting is not the query's time
                self._stop()
                raise UserError("the SQL process does not start", "look at the load and memory of this machine")
            self._pipe.recv()
        return self._pipe

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def _serve(pipe: Connection) -> None:
    """Answer queries until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(ImportError, ValueError, OSError):  # not on Windows, and not above a limit that is there
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    pipe.send("ready")
    with suppress(EOFError, OSError):
        while True:
            task, arguments = pipe.recv()
            pipe.send(_answer(task, arguments))


def _end_with_parent() -> None:
    """A server that was killed leaves no query behind."""
    parent = mp.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _select(store: Store, query: str, params: list[Any] | None) -> bytes:
    table = store.sql(query, params)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _save(store: Store, name: str, query: str) -> None:
    freeze_selection(store, name, query)


def _answer(task: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return task(*arguments)
    except UserError as error:
        return error
    except Exception as error:
        return UserError(f"the SQL failed ({type(error).__name__})", "correct the SQL, or ask for less")
