"""Tasks on processes of this machine, one at a time in each, so that a crash costs one task and nothing else."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

from nhdata.workers.where import WorkerDied

STOP_S = 3.0
"""How long a process that is stopped at its work may tidy up before it is killed."""
LEAVE_S = 30.0
"""How long one that has no more work may take to leave, which on a busy machine is not at once."""


class ChildTraceback(Exception):
    """The traceback of an error in a worker process, as text; the cause of that error in this process."""


class _Lane:
    """One process that does one task after another."""

    def __init__(self, task: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(task, theirs), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process ends the pipe
        self.item: Any = None
        self.busy = False

    def begin(self, item: Any) -> None:
        self.item, self.busy = item, True
        try:
            self.pipe.send(item)
        except BrokenPipeError:  # it died between two tasks: `result` will say so
            return

    def result(self) -> Any:
        """What the task gave, once the pipe has something to read; raises what the task raised."""
        try:
            done, value = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return WorkerDied(_cause(self.process))
        self.busy = False
        if done:
            return value
        error, trace = value
        raise error from ChildTraceback(trace)

    def stop(self) -> None:
        self.pipe.close()  # without work, that is the word to leave; a signal would cut that short
        if self.busy:
            self.process.terminate()

    def join(self) -> None:
        self.process.join(STOP_S if self.busy else LEAVE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _cause(process: multiprocessing.process.BaseProcess) -> str:
    process.join(STOP_S)
    code = process.exitcode
    if code is None or code >= 0:
        return f"its process ended with code {code}"
    name = signal.Signals(-code).name
    hint = "; is there too little memory?" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"


def on_processes(
    task: Callable[[Any], Any], items: Sequence[Any], jobs: int, on_begin: Callable[[Any], None]
) -> Iterator[tuple[Any, Any]]:
    """(item, result) in the order of completion; the result of an item whose process died is a `WorkerDied`."""
    waiting = iter(items)
    busy: dict[Connection, _Lane] = {}
    lanes: list[_Lane] = []

    def give(lane: _Lane | None) -> None:
        """The next item to a process; a new one where there is none."""
        for item in waiting:
            if lane is None:
                lane = _Lane(task)
                lanes.append(lane)
            on_begin(item)
            lane.begin(item)
            busy[lane.pipe] = lane
            return

    try:
        for _ in range(min(jobs, len(items))):
            give(None)
        while busy:
            for pipe in [pipe for pipe in wait(list(busy)) if isinstance(pipe, Connection)]:
                lane = busy.pop(pipe)
                item, result = lane.item, lane.result()
                give(None if isinstance(result, WorkerDied) else lane)
                yield item, result
    finally:
        for lane in lanes:
            lane.stop()
        for lane in lanes:
            lane.join()


def _serve(task: Callable[[Any], Any], pipe: Connection) -> None:
    """Do what comes through the pipe until it closes, or until SIGTERM, which unwinds what is at work."""

    def stop(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent says what to do
    signal.signal(signal.SIGTERM, stop)
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        answer: tuple[bool, Any]
        try:
            answer = True, task(item)
        except Exception as error:
            answer = False, (error, traceback.format_exc())
        try:
            pipe.send(answer)
        except OSError:  # nobody listens any more
            return
        except Exception as error:
            unpicklable = RuntimeError(f"cannot be pickled ({type(error).__name__}: {error})")
            pipe.send((False, (unpicklable, traceback.format_exc())))
