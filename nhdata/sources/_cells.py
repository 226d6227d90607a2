"""Columns of text tables (CSV, TSV): numbers where every cell is a number, else text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|Inf|INF)|nan|NaN|NAN")
_TRUTH = {"True": True, "False": False, "true": True, "false": False, "TRUE": True, "FALSE": False}


def parse_column(cells: Sequence[str]) -> NDArray[Any]:
    """Parse the cells of one column.

    Parameters
    ----------
    cells : sequence of str

    Returns
    -------
    (n,) float64, bool or object array
        float64 if every cell is a number in plain notation or empty (NaN) and at least one is finite; bool if every
        cell is ``True`` or ``False``; else the cells as text, without surrounding blanks. ``1_4`` is text, although
        Python reads it as 14; a column of nothing but ``nan`` or ``inf`` is text too, as these may be words.

    Examples
    --------
    >>> parse_column(["1", "", "2.5e3"])
    array([1.0e+00,     nan, 2.5e+03])
    >>> parse_column(["1_4", "2"]).tolist()
    ['1_4', '2']
    """
    stripped = [cell.strip() for cell in cells]
    written = [cell for cell in stripped if cell]
    if written and all(cell in _TRUTH for cell in stripped):
        return np.array([_TRUTH[cell] for cell in stripped])
    if all(_NUMBER.fullmatch(cell) for cell in written):
        values = np.array([float(cell) if cell else np.nan for cell in stripped])
        if not written or np.isfinite(values).any():
            return values
    return np.array([*stripped, None], dtype=object)[:-1]
