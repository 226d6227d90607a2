"""One place for the compiler's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile `function` on first use, cache the machine code on disk, and release the GIL while it runs."""
    return cast(F, numba.njit(nogil=True, cache=True)(function))
