"""The small text files of a Phy folder: ``params.py`` and the tables of clusters."""

from __future__ import annotations

import ast
import csv
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.sources import SourceError
from nhdata.sources._columns import text_column
from nhdata.sources._files import one_line

GIVE_RATE = "give it, e.g. --sample-rate 30000"
SLOWEST_HZ = 1000.0  # below it a rate is one in kHz: a spike lasts about a millisecond


def read_sample_rate(folder: Path, given_hz: float | None) -> float:
    """Samples per second from ``params.py``, else as the user gave it.

    ``params.py`` is a program; only plain values assigned in it are read, nothing is run.

    Raises
    ------
    SourceError
        If neither says it, both do and differ, or it is not a number of Hz at which spikes are seen.
    """
    path = folder / "params.py"
    written = _assigned(path, "sample_rate") if path.is_file() else None
    if written is None:
        if given_hz is None:
            what = "has no plain sample_rate" if path.is_file() else "no such file, so the sample rate is not known"
            raise SourceError(path, what, GIVE_RATE)
        written = given_hz
    if isinstance(written, bool) or not isinstance(written, int | float) or not 0 < written < math.inf:
        raise SourceError(path, f"sample rate is {written!r}, not a positive number", "correct it, in Hz")
    if written < SLOWEST_HZ:
        problem = f"sample rate is {written:g} Hz, too low for spikes"
        raise SourceError(path, problem, f"give it in Hz; {written:g} kHz is {1000 * written:.10g}")
    if given_hz is not None and given_hz != written:
        problem = f"says sample_rate = {written:g} Hz, but {given_hz:g} Hz was given"
        raise SourceError(path, problem, "correct the file or leave --sample-rate out")
    return float(written)


def _assigned(path: Path, name: str) -> Any:
    """Literal value assigned to `name` at the top level of a Python file, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # backslashes in Windows paths
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SourceError(
            path, f"not readable ({one_line(error)})", f"correct or remove it; then {GIVE_RATE}"
        ) from error
    value = None
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in statement.targets
        ):
            try:
                value = ast.literal_eval(statement.value)
            except (ValueError, TypeError, RecursionError, MemoryError):
                value = None
    return value


def read_cluster_table(path: Path) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
    """A table with a row per cluster, as Phy and Kilosort write it: of tabs, or of commas where its head has no tab.

    Returns
    -------
    ids : (n,) int64
        From the column ``cluster_id`` or ``id``; where one is there twice, its last row counts, as in Phy.
    columns : dict of (n,) arrays
        The other columns: float64 where every cell is a number or empty, else text.

    Raises
    ------
    SourceError
        If there is no such column or an id is not a whole number.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = file.readlines()
    delimiter = "\t" if "\t" in "".join(lines[:1]) else ","
    header, *rows = list(csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)) or [[]]
    key = next((header.index(name) for name in ("cluster_id", "id") if name in header), None)
    if key is None:
        raise SourceError(path, "has no column 'cluster_id' or 'id'", "save it again in Phy")
    by_id = {}
    for line, row in enumerate(rows, start=2):
        if not row:
            continue
        try:
            if abs(int(row[key])) >= 2**63:
                raise ValueError
            by_id[int(row[key])] = row + [""] * (len(header) - len(row))
        except (ValueError, IndexError):
            problem = f"line {line} does not name a cluster by a whole number of int64"
            raise SourceError(path, problem, "save the table again in Phy") from None
    columns = {name: _numbers_or_text([row[i] for row in by_id.values()]) for i, name in enumerate(header) if i != key}
    return np.array(list(by_id), np.int64), columns


def _numbers_or_text(cells: list[str]) -> NDArray[Any]:
    try:
        return np.array([float(cell) if cell.strip() else np.nan for cell in cells])
    except ValueError:
        return text_column(cells)
