"""Blosc buffers of plain numbers, whose size is checked before anything is allocated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.sources import SourceError
from nhdata.sources._files import AGAIN

HEADER_BYTES = 16
MAX_BYTES = 1 << 30


def decode_blosc(where: str, content: bytes, spec: Any, *, kinds: str = "iu") -> NDArray[Any]:
    """Decompress a one-dimensional array.

    The buffer's own header (c-blosc ``README_CHUNK_FORMAT``: bytes 4–8 the decompressed, 12–16 the compressed size)
    must agree with `spec` and with the buffer.

    Parameters
    ----------
    where : str
        The file, for messages.
    content : bytes
    spec : mapping
        ``dtype`` and ``shape``, as in the file's description.
    kinds : str
        Kinds of dtype that are accepted, as in ``numpy.dtype.kind``.

    Returns
    -------
    (n,) array, read-only

    Raises
    ------
    SourceError
        If they disagree, the array would be larger than `MAX_BYTES`, or the buffer is damaged.
    """
    from numcodecs import blosc

    dtype, n = _dtype_and_length(where, spec, kinds)
    n_bytes = n * dtype.itemsize
    sizes = np.frombuffer(content[4:HEADER_BYTES], "<u4") if len(content) >= HEADER_BYTES else np.zeros(3)
    if n == 0:
        return np.empty(0, dtype)
    if n_bytes > MAX_BYTES or sizes[0] != n_bytes or sizes[2] != len(content):
        problem = f"a buffer of {len(content)} bytes does not hold {n} values of {dtype}"
        raise SourceError(where, problem, AGAIN)
    try:
        return np.frombuffer(blosc.decompress(content), dtype)
    except (RuntimeError, ValueError) as error:
        raise SourceError(where, f"damaged ({error})", AGAIN) from error


def _dtype_and_length(where: str, spec: Any, kinds: str) -> tuple[np.dtype[Any], int]:
    dtype, shape = (spec.get("dtype"), spec.get("shape")) if isinstance(spec, Mapping) else (None, None)
    sound = isinstance(dtype, str) and re.fullmatch(rf"[<|][{kinds}][1248]", dtype)
    if not sound or not isinstance(shape, list) or len(shape) != 1 or not isinstance(shape[0], int) or shape[0] < 0:
        problem = f"is described as {str(dtype)[:20]} of shape {str(shape)[:40]}, not as a plain column"
        raise SourceError(where, problem, AGAIN)
    return np.dtype(str(dtype)), shape[0]
