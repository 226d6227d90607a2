"""One place for the compiler's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile `function` on first use, cache the machine code on disk, and release the GIL while it runs.

    `nhdata.features.warm_up` makes that first use at install. The cache of a kernel knows of changes in its own file
    only: after a change to a kernel that others call, remove ``nhdata/features/__pycache__``.
    """
    return cast(F, numba.njit(nogil=True, cache=True)(function))
