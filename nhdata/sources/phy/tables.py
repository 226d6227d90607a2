"""The small text files of a Phy folder: ``params.py`` and the tables of clusters."""

from __future__ import annotations

import ast
import csv
import math
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nhdata.sources import SourceError
from nhdata.sources._cells import parse_column

GIVE_RATE = "give it, e.g. --sample-rate 30000"
SLOWEST_HZ = 1000.0  # below it a rate is one in kHz: a spike lasts about a millisecond


def read_sample_rate(folder: Path, given_hz: float | None) -> tuple[float, str | None]:
    """Samples per second from ``params.py``, SpikeGLX's ``*.ap.meta`` beside it, or as the user gave it.

    ``params.py`` is a program; only plain values assigned in it are read, nothing is run. Where Python cannot parse it
    (Windows paths), the line ``sample_rate = …`` counts.

    Returns
    -------
    rate_hz : float
    note : str or None
        Where the rate comes from, unless it is written in ``params.py``.

    Raises
    ------
    SourceError
        If nothing says it, two of them differ, or it is not a number of Hz at which spikes are seen.
    """
    path = folder / "params.py"
    written = _assigned(path, "sample_rate") if path.is_file() else None
    note = None
    if written is None:
        meta = next((file for parent in (folder, folder.parent) for file in sorted(parent.glob("*.ap.meta"))), None)
        written = None if meta is None else _meta_rate(meta)
        if written is not None and meta is not None:
            path, note = meta, f"{written:g} samples per second from {meta.name}"
    if written is None:
        if given_hz is None:
            what = "has no plain sample_rate" if path.is_file() else "no such file, so the sample rate is not known"
            raise SourceError(path, what, GIVE_RATE)
        written, note = given_hz, f"{given_hz:g} samples per second by the user's word"
    if isinstance(written, bool) or not isinstance(written, int | float) or not 0 < written < math.inf:
        raise SourceError(path, f"sample rate is {written!r}, not a positive number", "correct it, in Hz")
    if written < SLOWEST_HZ:
        problem = f"sample rate is {written:g} Hz, too low for spikes"
        raise SourceError(path, problem, f"give it in Hz; {written:g} kHz is {1000 * written:.10g}")
    if given_hz is not None and given_hz != written:
        problem = f"says sample_rate = {written:g} Hz, but {given_hz:g} Hz was given"
        raise SourceError(path, problem, "correct the file or leave --sample-rate out")
    return float(written), note


def _meta_rate(path: Path) -> float | None:
    """``imSampRate`` of a file of SpikeGLX."""
    found = re.search(r"^imSampRate=([0-9.]+)\s*$", path.read_text(errors="replace"), re.MULTILINE)
    return None if found is None else float(found[1])


def _assigned(path: Path, name: str) -> Any:
    """Literal value assigned to `name` at the top level of a Python file, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # backslashes in Windows paths
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        text = path.read_text(errors="replace")
        lines = re.findall(rf"^{name}\s*=\s*([0-9.eE+-]+)\s*(?:#.*)?$", text, re.MULTILINE)
        try:
            return float(lines[-1]) if lines else None
        except ValueError:
            return None
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


def read_cluster_table(path: Path) -> ClusterTable:
    """A table with a row per cluster, as Phy and Kilosort write it: of tabs, or of commas where its head has no tab.

    The ids are in the column ``cluster_id`` or ``id``, in any mixture of capitals, or in a first column without a name,
    as pandas writes its index. Where an id is there twice, its last row counts, as in Phy.

    Raises
    ------
    SourceError
        If there is no such column.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = file.readlines()
    delimiter = "\t" if "\t" in "".join(lines[:1]) else ","
    header, *rows = list(csv.reader(lines, delimiter=delimiter)) or [[]]
    header = [name.strip() for name in header]
    lower = [name.lower() for name in header]
    key = next((lower.index(name) for name in ("cluster_id", "id") if name in lower), None)
    if key is None and header[:1] == [""] and len(header) > 1:
        key = 0
    if key is None:
        raise SourceError(
            path, "has no column 'cluster_id' or 'id'", "name the column of cluster ids so, or export the table again"
        )
    by_id, n_without = {}, 0
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        cluster = _whole_number(row[key]) if key < len(row) else None
        if cluster is None:
            n_without += 1
        else:
            by_id[cluster] = row + [""] * (len(header) - len(row))
    columns = {name: parse_column([row[i] for row in by_id.values()]) for i, name in enumerate(header) if i != key}
    return ClusterTable(np.array(list(by_id), np.int64), columns, n_without)


class ClusterTable(NamedTuple):
    """A table with a row per cluster.

    Attributes
    ----------
    ids : (n,) int64
    columns : dict of (n,) arrays
        As `nhdata.sources._cells.parse_column` gives them.
    n_without : int
        Rows left out, as they name no cluster by a whole number.
    """

    ids: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]
    n_without: int


def _whole_number(cell: str) -> int | None:
    """The number of a cell such as ``12`` or ``12.0``; None if it is none."""
    found = re.fullmatch(r"\s*([+-]?[0-9]{1,18})(\.0*)?\s*", cell)
    return None if found is None else int(found[1])
