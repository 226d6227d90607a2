"""Tasks that other processes import."""

import os
import signal
import time
from multiprocessing.util import Finalize
from pathlib import Path

from nhdata.sources import SourceError


def where(number):
    return number * number, os.getpid()


def crash_at_two(number):
    """As libhdf5 does on a damaged file."""
    if number == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return number


def linger(path):
    """Say that it began, stay, and say what became of it."""
    path = Path(path)
    try:
        path.with_suffix(".begun").touch()
        time.sleep(60)
    finally:
        path.with_suffix(".tidied").touch()


def unpicklable(number):
    return lambda: number


def refuse(number):
    raise SourceError("a.nwb", f"no {number}", "try again")


def tidy_up_late(path):
    """What a library leaves for its process's end, such as the locks of numcodecs, takes a while."""
    Finalize(None, _tidy, (Path(path),), exitpriority=0)


def _tidy(path):
    time.sleep(1.5)
    path.touch()
