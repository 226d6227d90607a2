"""Answer SQL of people nobody knows, in a process of its own that can be killed.

The guard (`nhcatalog.guard`) refuses what does more than read. What is left to fear is a query that takes all memory or
never ends, deep inside one function where DuckDB looks at no clock (``repeat('x', 2000000000)``), or a fault of DuckDB
itself. So the query runs in a child that may take only so much memory, can write no file (by its resource limits, and
by Landlock where the kernel has it), and is killed when its time is over; the next query gets a new one.
"""

from __future__ import annotations

import io
import json
import os
import selectors
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import IO, Any

import pyarrow as pa

from nhcatalog.confine import confine
from nhcatalog.errors import UserError
from nhcatalog.guard import QueryError, TooMuch, one_line
from nhcatalog.numbers import plain_batches
from nhcatalog.place import AnyPlace
from nhcatalog.query import Engine, Parameters
from nhcatalog.state import Reader, State
from nhcatalog.storage import open_files

_HEAD = struct.Struct("<cQ")
_ROWS, _END, _ERROR, _LAST = b"r", b".", b"e", b"l"
"""What follows: some rows, the last ones, an error, or an error after which the process is not to be trusted with
another query."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query may take.

    Attributes
    ----------
    time_s : float
        From the question to the answer, not counting the start of a new process.
    memory_mb : int
    rows : int
        Rows of the answer.
    answer_mb : int
        Size of the answer.
    """

    time_s: float = 10.0
    memory_mb: int = 1000
    rows: int = 100_000
    answer_mb: int = 64


class Sandbox:
    """Runs untrusted SQL over a catalog; one query at a time, from any thread.

    Parameters
    ----------
    catalog : path, Url or str
        The folder, ``<store>/catalog``.
    limits : Limits, optional

    Examples
    --------
    >>> with Sandbox("nowhere") as sandbox:
    ...     sandbox.sql("select count(*) as n from units").to_pylist()
    [{'n': 0}]
    """

    def __init__(self, catalog: AnyPlace, limits: Limits | None = None) -> None:
        self._catalog = str(catalog)
        self._limits = limits or Limits()
        self._child: subprocess.Popen[bytes] | None = None
        self._state: tuple[str, ...] = ()
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def sql(self, query: str, params: Parameters | None = None, at: int | None = None) -> pa.Table:
        """The answer of exactly one SELECT.

        Parameters
        ----------
        query : str
        params : sequence or mapping, optional
            Values for ``?`` or ``$name`` that JSON can hold.
        at : int, optional
            Log position; the newest by default. Another than the last costs the start of a process.

        Raises
        ------
        nhcatalog.guard.QueryError
            If the SQL is refused, fails, or takes more than the limits.
        CatalogError
            If the catalog is damaged or has no such position.
        """
        state = Reader(open_files(self._catalog)).state(at)
        with self._lock:
            if self._closed:
                raise QueryError("no more queries are answered", "start the program again")
            child = self._start(state)
            try:
                _send(child.stdin, _END, json.dumps({"query": query, "params": params}).encode())
                kind, content = self._answer(child, self._limits.time_s)
            except BaseException:
                self._kill()
                raise
            if kind == _LAST:
                self._kill()
        if kind != _END:
            said = json.loads(content)
            raise QueryError(said["problem"], said["remedy"])
        return pa.ipc.open_stream(content).read_all()

    def close(self) -> None:
        """End the process for good, and the query that it is at: whoever asked is told that there is no answer."""
        self._closed = True
        child = self._child
        if child is not None:
            child.kill()
        with self._lock:
            self._kill()

    def _start(self, state: State) -> subprocess.Popen[bytes]:
        if self._child is not None and (self._state != state.key or self._child.poll() is not None):
            self._kill()
        if self._child is None:
            # -P: nothing is imported from the folder that the user happens to be in.
            command = [sys.executable, "-P", "-m", "nhcatalog.sandbox"]
            # Arrow's own allocator reserves a gigabyte ahead, which counts as memory taken.
            environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
            pipe = subprocess.PIPE
            # A process group of its own: Ctrl-C is for the parent, which then ends the child.
            self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, process_group=0)
            self._state = state.key
            given = {"catalog": self._catalog, "position": state.position, "limits": asdict(self._limits)}
            _send(self._child.stdin, _END, json.dumps(given | {"parent": os.getpid()}).encode())
            try:
                kind, content = self._answer(self._child, 120.0)
            except BaseException:
                self._kill()
                raise
            if kind == _ERROR:
                self._kill()
                said = json.loads(content)
                raise UserError(said["problem"], said["remedy"])
        return self._child

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                assert pipe is not None
                pipe.close()

    def _answer(self, child: subprocess.Popen[bytes], time_s: float) -> tuple[bytes, bytes]:
        """How an answer ended, and its rows or its error."""
        until = time.monotonic() + time_s
        content = bytearray()
        while True:
            kind, n_bytes = _HEAD.unpack(self._read(child, _HEAD.size, until))
            if len(content) + n_bytes > self._limits.answer_mb * 2**20:
                size_mb = (len(content) + n_bytes) / 2**20
                raise QueryError(f"an answer of {size_mb:.0f} MB or more", "ask for fewer rows or columns")
            part = self._read(child, n_bytes, until)
            if kind in (_ERROR, _LAST):
                return kind, part
            content += part
            if kind == _END:
                return kind, bytes(content)

    def _read(self, child: subprocess.Popen[bytes], n_bytes: int, until: float) -> bytes:
        assert child.stdout is not None
        content = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while len(content) < n_bytes:
                if not selector.select(max(0.0, until - time.monotonic())):
                    problem = f"the query took longer than {self._limits.time_s:g} s"
                    raise TooMuch(problem, "ask for less")
                piece = os.read(child.stdout.fileno(), min(n_bytes - len(content), 2**20))
                if not piece:
                    problem = f"the process of the query ended (exit code {child.wait()})"
                    raise TooMuch(f"{problem}: it used more memory than it may, or broke DuckDB", "ask for less")
                content += piece
        return bytes(content)


def _send(pipe: IO[bytes] | None, kind: bytes, content: bytes) -> None:
    assert pipe is not None
    try:
        pipe.write(_HEAD.pack(kind, len(content)) + content)
        pipe.flush()
    except BrokenPipeError:
        pass  # who reads the answer sees that there is none


def _receive(pipe: IO[bytes]) -> bytes | None:
    head = pipe.read(_HEAD.size)
    return pipe.read(_HEAD.unpack(head)[1]) if len(head) == _HEAD.size else None


def _serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """The child: one catalog, then queries one after another, until the parent closes the pipe."""
    given = json.loads(_receive(questions) or b"{}")
    limits = Limits(**given["limits"])
    try:
        state = Reader(open_files(given["catalog"])).state(given["position"])
        state.files.fetch(file.path for file in state.fragments())
        confine(limits.memory_mb)
        threading.Thread(target=_end_with, args=(given["parent"],), daemon=True).start()
        warm = Engine(state, f"{limits.memory_mb}MB", spill=False)
    except UserError as error:
        _send(answers, _ERROR, json.dumps({"problem": error.problem, "remedy": error.remedy}).encode())
        return
    _send(answers, _END, b"")
    while (question := _receive(questions)) is not None:
        asked = json.loads(question)
        try:
            schema, batches = warm.stream(asked["query"], asked["params"], time_s=limits.time_s)
            _send_rows(answers, *plain_batches(schema, batches), limits.rows)
        except UserError as error:
            # An allocation that failed may have broken anything, and what was interrupted may hold memory.
            said = json.dumps({"problem": error.problem, "remedy": error.remedy}).encode()
            _send(answers, _LAST if isinstance(error, TooMuch) else _ERROR, said)
        except MemoryError:
            said = json.dumps({"problem": "the query used more memory than it may", "remedy": "ask for less"}).encode()
            _send(answers, _LAST, said)
        except BaseException as error:
            problem = f"the query failed ({type(error).__name__}: {one_line(error)})"
            _send(answers, _LAST, json.dumps({"problem": problem, "remedy": "try it again, or ask for less"}).encode())


def _end_with(parent: int) -> None:
    """End when the parent is gone, in the midst of a query too.

    The kernel could tell (``PR_SET_PDEATHSIG``), but it counts the end of the thread that started this process.
    """
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


class _Held(io.RawIOBase):
    """What Arrow writes, until it is taken."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._held)
        self._held.clear()
        return taken


def _send_rows(answers: IO[bytes], schema: pa.Schema, batches: Iterable[pa.RecordBatch], max_rows: int) -> None:
    """An answer in parts, so that no more than one of them is in memory."""
    sink, n_rows = _Held(), 0
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            n_rows += batch.num_rows
            if n_rows > max_rows:
                raise QueryError(f"more than {max_rows} rows", "ask for fewer, e.g. with LIMIT or GROUP BY")
            writer.write_batch(batch)
            _send(answers, _ROWS, sink.take())
    _send(answers, _END, sink.take())


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
