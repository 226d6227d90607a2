"""Memory for batches, used again once nobody holds the batch: new memory costs more than filling it."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_KEPT = 8
_ALIGNED = 64


class Buffers:
    """A few buffers that take turns. A batch that is kept keeps its memory, and another is made for the next."""

    def __init__(self) -> None:
        self._kept: list[tuple[NDArray[np.uint8], weakref.ref[NDArray[np.uint8]]]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._kept = []

    def tensors(self, *wanted: tuple[Sequence[int], torch.dtype]) -> list[torch.Tensor]:
        """Uninitialised tensors of these shapes and types, side by side in one storage.

        One storage moves to another process as one piece of shared memory.
        """
        sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in wanted]
        ends = np.cumsum([-(-size // _ALIGNED) * _ALIGNED for size in sizes]).tolist()
        whole = torch.from_numpy(self._take(max(ends[-1], _ALIGNED)))
        return [
            whole[end - -(-size // _ALIGNED) * _ALIGNED :][:size].view(dtype).view(*shape)
            for (shape, dtype), size, end in zip(wanted, sizes, ends, strict=True)
        ]

    def _take(self, nbytes: int) -> NDArray[np.uint8]:
        """`nbytes` that nobody else holds; free again when the view that is returned is gone."""
        for k, (buffer, user) in enumerate(self._kept):
            if user() is None and buffer.nbytes >= nbytes:
                del self._kept[k]
                break
        else:
            buffer = np.empty(nbytes + nbytes // 8, np.uint8)  # the next may be a little larger
        view = buffer[:nbytes]
        self._kept = [*self._kept, (buffer, weakref.ref(view))][-_KEPT:]
        return view
