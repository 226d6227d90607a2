"""How many threads to work with."""

from __future__ import annotations

import os


def free_threads() -> int:
    """Processors that nobody uses now, at least one: two busy threads on one free core are slower than one."""
    total = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, total - round(os.getloadavg()[0]))
