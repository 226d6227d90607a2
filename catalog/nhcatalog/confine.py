"""Make this process unable to write files or to take much memory, for good."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys

_BESIDE_DATA_MB = 1000
"""What Python, its libraries and threads take besides the data of a query."""

_PR_SET_NO_NEW_PRIVS = 38
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_GET_VERSION = 1
# linux/landlock.h: write a file, remove and make folders and files of every kind; then, by version, rename across
# folders and truncate.
_WRITES = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12))
_WRITES_BY_VERSION = {1: _WRITES, 2: _WRITES | 1 << 13, 3: _WRITES | 1 << 13 | 1 << 14}


def confine(memory_mb: int) -> bool:
    """Give up writing files and taking more than so much memory; to be called before any thread is started.

    Pipes that are open still work.

    Returns
    -------
    bool
        Whether the kernel has Landlock: else a file may still be made or emptied, though nothing written into one.
    """
    n_bytes = (memory_mb + _BESIDE_DATA_MB) * 2**20
    for limit, most in (
        (resource.RLIMIT_DATA, n_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (most, most))
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return _deny_writes(libc)


def _deny_writes(libc: ctypes.CDLL) -> bool:
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_GET_VERSION))
    if version < 1:
        return False
    handled = struct.pack("=Q", _WRITES_BY_VERSION[min(version, max(_WRITES_BY_VERSION))])
    rules = libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), ctypes.c_uint32(0))
    if rules < 0:
        return False
    try:
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            return False
        return bool(libc.syscall(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0)) == 0)
    finally:
        os.close(rules)
