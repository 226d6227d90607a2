"""Text that NumPy saved as objects, read without unpickling."""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from nhdata.sources import SourceError
from nhdata.sources._files import READ_HEADER

MAX_BYTES = 1 << 26

_MARK = object()


def read_text_npy(path: Path) -> NDArray[Any]:
    """Read a one-dimensional ``.npy`` file of Python strings (``dtype=object``), which NumPy writes as a pickle.

    Nothing is unpickled: the instructions of the pickle are walked, and only a list of strings is accepted.

    Returns
    -------
    (n,) object array of str

    Raises
    ------
    SourceError
        If the file holds anything but one list of strings (None is read as an empty string).
    """
    remedy = "save the column as plain text or numbers: values.astype(str)"
    try:
        with path.open("rb") as file:
            shape, _, dtype = READ_HEADER[npy_format.read_magic(file)](file)
            data = file.read(MAX_BYTES + 1)
        if not dtype.hasobject or len(shape) != 1 or len(data) > MAX_BYTES:
            raise ValueError(f"{dtype} of shape {shape}")
        texts = _strings(data, shape[0])
    except Exception as error:  # a hostile header or pickle raises nearly anything
        raise SourceError(path, "holds Python objects that are not a list of texts", remedy) from error
    return np.array([*texts, None], dtype=object)[:-1]


def _strings(pickle: bytes, n: int) -> list[str]:
    """The last list of a pickle, if it has `n` items and all are strings or None."""
    memo: dict[int, Any] = {}
    stack: list[Any] = []
    found: list[list[Any]] = []
    argument: Any
    for opcode, argument, _ in pickletools.genops(pickle):
        match opcode.name:
            case "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8" | "UNICODE":
                stack.append(argument)
            case "NONE":
                stack.append("")
            case "MEMOIZE":
                memo[len(memo)] = stack[-1] if stack else None
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[argument] = stack[-1] if stack else None
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(memo[argument])
            case "MARK":
                stack.append(_MARK)
            case "APPENDS" | "LIST":
                start = len(stack) - 1 - stack[::-1].index(_MARK)
                found.append(stack[start + 1 :])
                del stack[start:]
            case "APPEND":
                found.append([stack.pop()])
            case _:
                stack.append(None)  # whatever describes the array: never an item of the list of texts
    texts = [text for part in found for text in part]
    if len(texts) != n or not all(isinstance(text, str) for text in texts):
        raise ValueError("not a list of strings")
    return texts
