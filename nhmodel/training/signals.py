"""SIGINT and SIGTERM: raised as exceptions, and deferred while weights are updated or saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, as job schedulers, containers and service managers send it."""

    exit_code = 128 + signal.SIGTERM


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt on the first SIGINT and `Terminated` on the first SIGTERM, and ignore later ones.

    Signals after the first are ignored, so that they cannot interrupt what the first one started: torchrun and
    schedulers send several. The handlers before are restored at the end. Outside the main thread, which alone
    receives signals, nothing is changed.

    Examples
    --------
    >>> try:
    ...     with raise_on_signals():
    ...         signal.raise_signal(signal.SIGTERM)
    ... except KeyboardInterrupt as interrupt:
    ...     type(interrupt).__name__
    'Terminated'
    """
    received = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal received
        if received:
            return
        received = True
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the end of the block, then handle the first as if it had just arrived.

    Outside the main thread nothing is changed.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
