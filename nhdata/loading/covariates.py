"""Covariates of the history: what an animal did or was shown, step by step, as far as it was known by then.

A covariate is named as

``wheel_velocity``
    A series: the mean of its samples in each step; in steps without any, the last sample before.
``trials@stim_on_s``
    Events, at the times of a column of an interval table.
``trials.contrast@stim_on_s``
    A column of such a table, known from the time of another column on (from ``start_s`` where none is named).
    A choice is not known at the onset of its trial: name the time at which it was made.

Events and columns hold until their row stops or the next begins, and have four components: the value (1 for events),
and the same fading since it came to be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.jit import kernel
from nhdata.loading.selection import SelectedSession
from nhdata.loading.series import MAX_GAP_S, Recent, SeriesReader, edge_s
from nhdata.store.columns import sentinel
from nhdata.store.session import Session

FADE_S = (0.1, 0.4, 1.6)
"""Time constants with which the further components of an event fade."""

Covariates = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]
"""Values (B, S, K) and masks (B, S) by name."""


@dataclass(frozen=True)
class ColumnName:
    """A column of an interval table, and the column of the times from which on it is known.

    Examples
    --------
    >>> ColumnName.parse("trials@stim_on_s")
    ColumnName(table='trials', column='', known='stim_on_s')
    >>> ColumnName.parse("movie.frame")
    ColumnName(table='movie', column='frame', known='start_s')
    """

    table: str
    column: str
    known: str

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """None for the name of a series."""
        place, at, known = name.partition("@")
        table, _, column = place.partition(".")
        return cls(table, column, known or "start_s") if at or column else None


class Events(NamedTuple):
    """Values of a column: (n,) times at which each comes to be known, ascending, and until when it holds."""

    time_s: NDArray[np.float64]
    value: NDArray[np.float32]
    until_s: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        return self.time_s.nbytes + self.value.nbytes + self.until_s.nbytes


class CovariateReader:
    """Covariates of the sessions of a selection, read when first asked for.

    Parameters
    ----------
    sessions : sequence of SelectedSession
    names : tuple of str
    history_s : float
    n_steps : int
        Equal steps of each history.
    budget_bytes : int
        Samples to keep, but always those of the session in use.

    Attributes
    ----------
    n_components : dict of str to int

    Raises
    ------
    UserError
        If no session has one of them, or it is not numbers.
    """

    def __init__(
        self,
        sessions: tuple[SelectedSession, ...],
        names: tuple[str, ...],
        *,
        history_s: float,
        n_steps: int,
        budget_bytes: int,
    ) -> None:
        if names and n_steps < 1:
            raise UserError(f"covariate_steps={n_steps}", "use at least 1")
        self._sessions, self._history_s, self.n_steps = sessions, history_s, n_steps
        parsed = {name: ColumnName.parse(name) for name in names}
        self._columns = {name: column for name, column in parsed.items() if column is not None}
        self._series = SeriesReader(sessions, tuple(n for n in names if n not in self._columns), budget_bytes)
        self._events = Recent(self._read_events, budget_bytes)
        self._check_columns()
        n_series = {name: max(n, 1) for name, n in self._series.n_components.items()}
        self.n_components = {name: n_series.get(name, 1 + len(FADE_S)) for name in names}

    def cut(self, session: NDArray[np.int64], t_s: NDArray[np.float64]) -> Covariates:
        """Covariates of windows.

        Parameters
        ----------
        session : (B,) int64
            Number of the session of each.
        t_s : (B,) float64
            End of each history, seconds on its session's clock. Nothing at or after it is looked at.
        """
        step_s = self._history_s / self.n_steps
        before_s = np.arange(self.n_steps - 1, -1, -1) * step_s  # from the end of each step to that of the history
        values, masks = {}, {}
        for name, n_components in self.n_components.items():
            value = np.zeros((len(session), self.n_steps, n_components), np.float32)
            mask = np.zeros((len(session), self.n_steps), np.bool_)
            for number in np.unique(session).tolist():
                rows = session == number
                stop_s = (t_s[rows, None] - before_s).ravel()
                here, known = np.zeros((stop_s.size, n_components), np.float32), np.zeros(stop_s.size, np.bool_)
                if name in self._columns:
                    _in_force(self._events[number][name], stop_s, here, known)
                else:
                    hold(*self._series.signal(number, name), stop_s - edge_s(stop_s), step_s, MAX_GAP_S, here, known)
                value[rows], mask[rows] = here.reshape(-1, self.n_steps, n_components), known.reshape(-1, self.n_steps)
            values[name], masks[name] = torch.from_numpy(value), torch.from_numpy(mask)
        return values, masks

    def _read_events(self, number: int) -> dict[str, Events]:
        tables = Session(self._sessions[number].path).intervals()
        return {name: _events(tables.get(column.table, {}), name, column) for name, column in self._columns.items()}

    def _check_columns(self) -> None:
        """Raise if no session has a column, or it is not numbers."""
        absent, known = dict(self._columns), set()
        for session in self._sessions if absent else ():
            tables = Session(session.path).intervals()
            known |= {f"{t}.{c}" for t, columns in tables.items() for c in columns}
            absent = {n: c for n, c in absent.items() if not _has(tables.get(c.table, {}), c)}
            if not absent:
                return
        for name in absent:
            raise UserError(f"no selected session has a covariate {name!r}", f"columns: {', '.join(sorted(known))}")


def n_components(sessions: tuple[SelectedSession, ...], names: tuple[str, ...]) -> dict[str, int]:
    """Components of each covariate; raises as `CovariateReader` does."""
    return CovariateReader(sessions, names, history_s=1.0, n_steps=1, budget_bytes=0).n_components


def present(sessions: Sequence[SelectedSession], names: Sequence[str]) -> tuple[str, ...]:
    """The covariates, out of `names`, that at least one of some sessions has."""
    parsed = {name: ColumnName.parse(name) for name in names}
    found: set[str] = set()
    for session in sessions:
        if len(found) == len(parsed):
            break
        opened = Session(session.path)
        series, tables = opened.series_shapes(), opened.intervals() if any(parsed.values()) else {}
        for name, column in parsed.items():
            if name in series if column is None else _has(tables.get(column.table, {}), column):
                found.add(name)
    return tuple(name for name in names if name in found)


def _has(columns: dict[str, NDArray[np.generic]], name: ColumnName) -> bool:
    return name.known in columns and (not name.column or name.column in columns)


def _events(columns: dict[str, NDArray[np.generic]], name: str, column: ColumnName) -> Events:
    """Rows of a table in order of the time they are known from; rows without a time or a value are left out."""
    if not _has(columns, column):
        return Events(np.empty(0), np.empty(0, np.float32), np.empty(0))
    time_s = _numbers(columns[column.known], f"{column.table}.{column.known}")
    value = np.ones(len(time_s)) if not column.column else _numbers(columns[column.column], name)
    stop_s = _numbers(columns["stop_s"], f"{column.table}.stop_s") if "stop_s" in columns else time_s
    good = np.isfinite(time_s) & np.isfinite(value)
    order = np.flatnonzero(good)[np.argsort(time_s[good], kind="stable")]
    time_s, value, stop_s = time_s[order], value[order], stop_s[order]
    until_s = np.append(time_s[1:], np.inf)
    until_s = np.where(stop_s > time_s, np.minimum(until_s, stop_s), until_s)
    return Events(time_s, value.astype(np.float32), until_s)


def _numbers(values: NDArray[np.generic], name: str) -> NDArray[np.float64]:
    """A column as float64, NaN where it is missing."""
    if values.dtype.kind not in "biuf":
        raise UserError(f"covariate {name!r} is not numbers", "name a column of numbers or truth values")
    missing = values == sentinel(values.dtype) if values.dtype.kind in "iu" else np.zeros(len(values), np.bool_)
    return np.where(missing, np.nan, values.astype(np.float64))


def _in_force(events: Events, stop_s: NDArray[np.float64], out: NDArray[np.float32], known: NDArray[np.bool_]) -> None:
    """The value that holds at the end of each step, and the same fading, where there is one."""
    if not len(events.time_s):
        return
    before_s = stop_s - edge_s(stop_s)
    row = np.searchsorted(events.time_s, before_s) - 1
    known[:] = (row >= 0) & (events.until_s[row] >= before_s)
    since_s = (stop_s - events.time_s[row])[known, None]
    fading = np.exp(-since_s / np.array([np.inf, *FADE_S]))
    out[known] = events.value[row[known], None] * fading


@kernel
def hold(
    time_s: NDArray[np.float64],
    value: NDArray[np.float32],
    stop_s: NDArray[np.float64],
    step_s: float,
    max_gap_s: float,
    out: NDArray[np.float32],
    known: NDArray[np.bool_],
) -> None:
    """Mean of the samples in each half-open step; in steps without any, the last sample before.

    Parameters
    ----------
    time_s, value : (n,), (n, K)
    stop_s : (R,) float64
        End of each step.
    step_s, max_gap_s : float
        Length of a step; a sample older than the second, at the end of the step, is known no more.
    out, known : (R, K), (R,)
        Written in place; where nothing is known the value is 0.
    """
    for r in range(len(stop_s)):
        first, last = np.searchsorted(time_s, stop_s[r] - step_s), np.searchsorted(time_s, stop_s[r])
        out[r] = 0
        known[r] = last > first or (last > 0 and stop_s[r] - time_s[last - 1] <= max_gap_s)
        if last > first:
            for i in range(first, last):
                out[r] += value[i]
            out[r] /= last - first
        elif known[r]:
            out[r] = value[last - 1]
