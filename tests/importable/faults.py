"""Make file operations fail: raise an exception before or after the k-th operation of a scenario took effect.

An operation is a change of files. On a disk: opening a file for writing, ``mkdir``, ``rename``, ``replace``, ``link``,
``symlink``, ``unlink``, ``rmdir`` and ``fsync``, as called by Python code (`os`, `io`, `pathlib`, `shutil`, `tempfile`,
zarr). In an object store: ``put``, ``delete``, ``copy`` and ``rename`` of obstore and their asynchronous forms; a
multipart upload is one ``put``. Files that C++ code opens by name (``torch.save(…, path)``, DuckDB's ``COPY``) are not
seen.

A test records the operations of a scenario once, and repeats the scenario for each fault of `sample`, or for every k
until a fault no longer fires:

>>> import os, tempfile
>>> folder = tempfile.mkdtemp()
>>> def scenario():
...     with open(f"{folder}/a.part", "w") as file:
...         _ = file.write("content")
...     os.replace(f"{folder}/a.part", f"{folder}/a")
>>> with record(folder) as operations:
...     scenario()
>>> [operation.kind for operation in operations]
['open', 'replace']
>>> with inject(Fault(1, "after", OSError), folder) as state:
...     scenario()
Traceback (most recent call last):
    ...
OSError: [Errno 5] injected after replace a
>>> os.path.exists(f"{folder}/a"), state.fired
(True, True)

``OSError`` is raised where the operation was called. Operations of an object store raise
``obstore.exceptions.GenericError`` instead, as obstore does when a server does not answer. ``KeyboardInterrupt`` and
``SystemExit`` are raised in the main thread, as Python does for signals: where another thread carries out the
operation, the main thread is interrupted at whatever it does, and the other thread goes on. So a scenario must run in
the main thread.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import functools
import inspect
import io
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Literal, NamedTuple
from unittest import mock

ERRORS: tuple[type[BaseException], ...] = (KeyboardInterrupt, OSError, SystemExit)

_RANDOM = re.compile(r"[0-9a-f]{16,}")
_DELIVERY_S = 30.0


class Operation(NamedTuple):
    """One change of files: the name of the function, and the path relative to the folder (an object's key)."""

    kind: str
    path: str

    @property
    def label(self) -> str:
        """Kind and path with random names replaced by ``*``: the same in every run of a scenario."""
        return f"{self.kind} {_RANDOM.sub('*', self.path)}"


class Fault(NamedTuple):
    """The exception `error`, raised before or after operation `k` (from 0) takes effect."""

    k: int
    when: Literal["before", "after"]
    error: type[BaseException]

    def __str__(self) -> str:
        return f"{self.error.__name__} {self.when} {self.k}"


class State:
    """What happened so far.

    Attributes
    ----------
    operations : list of Operation
        Those that have begun.
    fired : bool
        Whether the fault was raised; False where its `k` is past the last operation.
    """

    def __init__(self, fault: Fault | None) -> None:
        self.operations: list[Operation] = []
        self.fired = False
        self._fault = fault
        self._lock = threading.Lock()

    def begin(self, kind: str, path: str) -> Fault | None:
        """Count an operation; the fault that it is to meet, or None."""
        with self._lock:
            k = len(self.operations)
            self.operations.append(Operation(kind, path))
            if self._fault is None or self._fault.k != k:
                return None
            self.fired = True
            return self._fault


def sample(
    operations: Sequence[Operation], label: Callable[[Operation], str] = lambda operation: operation.label
) -> list[Fault]:
    """Return faults that hit every distinct operation before and after it takes effect, with all exceptions in turn.

    Parameters
    ----------
    operations : sequence of Operation
        As recorded.
    label : callable
        Operations of the same label are alike: the first is hit before, the last after it takes effect.
    """
    of: dict[str, list[int]] = {}
    for k, operation in enumerate(operations):
        of.setdefault(label(operation), []).append(k)
    hits = sorted(hit for alike in of.values() for hit in ((alike[0], "before"), (alike[-1], "after")))
    return [Fault(k, when, ERRORS[n % len(ERRORS)]) for n, (k, when) in enumerate(hits)]  # type: ignore[arg-type]


@contextmanager
def record(folder: str | os.PathLike[str]) -> Iterator[list[Operation]]:
    """Record the operations on files below a folder and on all object stores."""
    with _patched(folder, State(None)) as state:
        yield state.operations


@contextmanager
def inject(fault: Fault, folder: str | os.PathLike[str]) -> Iterator[State]:
    """Raise a fault at the k-th operation on files below a folder and on all object stores."""
    with _patched(folder, State(fault)) as state:
        yield state


@contextmanager
def _patched(folder: str | os.PathLike[str], state: State) -> Iterator[State]:
    root = os.path.realpath(folder)

    def relative(path: str) -> str | None:
        path = os.path.abspath(path)
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        return os.path.relpath(path, root) if path == root or path.startswith(root + os.sep) else None

    def on_disk(name: str) -> Callable[..., str | None]:
        def target(*args: Any, **kwargs: Any) -> str | None:
            path = args[1] if name in ("rename", "replace", "link", "symlink") else args[0]
            if name == "fsync":
                return relative(_path_of(path))
            if name == "open" and not _writes(*args, **kwargs):
                return None
            if isinstance(path, int):
                return None
            dir_fd = kwargs.get("dst_dir_fd", kwargs.get("dir_fd"))
            path = os.fsdecode(path)
            return relative(path if dir_fd is None else os.path.join(_path_of(dir_fd), path))

        return target

    def in_store(store: Any, paths: str | Sequence[str], *args: Any, **kwargs: Any) -> str:
        return paths if isinstance(paths, str) else ",".join(paths)

    with ExitStack() as stack:
        _listen()

        def replace(
            owner: Any, name: str, target: Callable[..., str | None], fault: Callable[..., BaseException]
        ) -> None:
            real = getattr(owner, name)
            kind = name.removesuffix("_async")
            stack.enter_context(mock.patch.object(owner, name, _wrapped(real, kind, target, state, fault)))

        for name in ("mkdir", "rename", "replace", "link", "symlink", "unlink", "remove", "rmdir", "fsync", "open"):
            replace(os, name, on_disk(name), _os_error)
        opens = on_disk("open")
        for owner in (builtins, io):
            replace(owner, "open", opens, _os_error)
        with suppress(ImportError):
            import obstore
            from obstore.exceptions import GenericError

            for name in ("put", "delete", "copy", "rename"):
                for function in (name, f"{name}_async"):
                    replace(obstore, function, in_store, GenericError)
        yield state


def _wrapped(
    real: Callable[..., Any],
    kind: str,
    target: Callable[..., str | None],
    state: State,
    error_of: Callable[..., BaseException],
) -> Callable[..., Any]:
    def begin(args: Any, kwargs: Any) -> Callable[[str], None] | None:
        path = target(*args, **kwargs)
        fault = None if path is None else state.begin(kind, path)
        if fault is None:
            return None

        def fire(when: str) -> None:
            if fault.when == when:
                text = f"injected {when} {kind} {path}"
                _raise(error_of(text) if issubclass(fault.error, OSError) else fault.error(text))

        return fire

    @functools.wraps(real)
    def call(*args: Any, **kwargs: Any) -> Any:
        fire = begin(args, kwargs)
        if fire is None:
            return real(*args, **kwargs)
        fire("before")
        result = real(*args, **kwargs)
        try:
            fire("after")
        except BaseException:
            if isinstance(result, io.IOBase):
                result.close()
            elif kind == "open":
                os.close(result)
            raise
        return result

    @functools.wraps(real)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        fire = begin(args, kwargs)
        if fire is None:
            return await real(*args, **kwargs)
        fire("before")
        result = await real(*args, **kwargs)
        fire("after")
        return result

    return call_async if inspect.iscoroutinefunction(real) or real.__name__.endswith("_async") else call


def _os_error(text: str) -> OSError:
    return OSError(errno.EIO, text)


def _writes(path: Any, mode: Any = "r", *args: Any, **kwargs: Any) -> bool:
    """Whether the arguments of `open` or `os.open` create or change a file."""
    mode = kwargs.get("mode", mode) if not isinstance(mode, int) else mode
    mode = kwargs.get("flags", mode)
    if isinstance(mode, int):
        return bool(mode & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return any(letter in mode for letter in "wax+")


def _path_of(descriptor: int) -> str:
    if hasattr(fcntl, "F_GETPATH"):
        return fcntl.fcntl(descriptor, fcntl.F_GETPATH, b"\0" * 1024).rstrip(b"\0").decode()  # type: ignore[attr-defined]
    return os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")


# --- exceptions in the main thread -----------------------------------------------------------------------------------

_pending: BaseException | None = None
_delivered = threading.Event()


def _listen() -> None:
    """Let the main thread be interrupted. The handler stays: a thread may be about to send the signal."""
    signal.signal(signal.SIGUSR1, _deliver)


def _deliver(*signal_and_frame: object) -> None:
    global _pending
    error, _pending = _pending, None
    _delivered.set()
    if error is not None:
        raise error


def _raise(error: BaseException) -> None:
    """Raise here; an exception that no thread but the main one gets in reality, there."""
    global _pending
    if isinstance(error, Exception) or threading.current_thread() is threading.main_thread():
        raise error
    _pending = error
    _delivered.clear()
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGUSR1)
    assert _delivered.wait(_DELIVERY_S), "the main thread does not run Python code"
