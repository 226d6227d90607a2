"""Continuous signals (wheel velocity, running speed, position) resampled to the bins of a horizon."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.jit import kernel
from nhdata.loading.selection import SelectedSession
from nhdata.store.session import Session

MAX_GAP_S = 1.0
EDGE_S = 1e-9
EDGE_EPS = 2.0**-51  # two to four units in the last place of a time
FloatOrArray = TypeVar("FloatOrArray", float, NDArray[np.float64])


@kernel
def edge_s(time_s: FloatOrArray) -> FloatOrArray:
    """Rounding of times: a nanosecond, or what float64 cannot resolve on a clock that counts from 1970.

    A sample less than this before the end of a step or bin counts as after it: rounding must not let the future in.
    """
    rounding: FloatOrArray = np.maximum(EDGE_S, EDGE_EPS * np.abs(time_s))
    return rounding


class Signal(NamedTuple):
    """Samples of one series: sorted times in seconds on the session's clock, and (n, K) values without NaN."""

    time_s: NDArray[np.float64]
    value: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        return self.time_s.nbytes + self.value.nbytes


class Sized(Protocol):
    """What says how much memory it takes."""

    @property
    def nbytes(self) -> int: ...


S = TypeVar("S", bound=Sized)


class Recent(Generic[S]):
    """Named signals of sessions, read when first asked for; the least recently used sessions are forgotten.

    Parameters
    ----------
    read : callable
        Reads all signals of a session, by its number.
    budget_bytes : int
        To keep, but always the session in use.
    """

    def __init__(self, read: Callable[[int], dict[str, S]], budget_bytes: int) -> None:
        self._read, self._budget = read, budget_bytes
        self._held: OrderedDict[int, dict[str, S]] = OrderedDict()

    def __getitem__(self, number: int) -> dict[str, S]:
        if number not in self._held:
            self._held[number] = self._read(number)
            while len(self._held) > 1 and self._nbytes() > self._budget:
                self._held.popitem(last=False)
        self._held.move_to_end(number)
        return self._held[number]

    def _nbytes(self) -> int:
        return sum(signal.nbytes for signals in self._held.values() for signal in signals.values())


class SeriesReader:
    """The series of sessions, read when first asked for; the least recently used sessions are forgotten.

    Parameters
    ----------
    sessions : sequence of SelectedSession
    names : tuple of str
    budget_bytes : int
        Samples to keep, but always those of the session in use.

    Attributes
    ----------
    n_components : dict of str to int
        Columns of each series; 0 where its values are single numbers.

    Raises
    ------
    UserError
        If no session has a series of that name, or their numbers of columns differ.
    """

    def __init__(self, sessions: tuple[SelectedSession, ...], names: tuple[str, ...], budget_bytes: int) -> None:
        self._sessions, self._names = sessions, names
        self._recent = Recent(self._read, budget_bytes)
        self.n_components: dict[str, int] = {}
        known: set[str] = set()
        for session in sessions if names else ():
            shapes = Session(session.path).series_shapes()
            known |= set(shapes)
            for name in set(names) & set(shapes):
                n = shapes[name][1] if len(shapes[name]) > 1 else 0
                if self.n_components.setdefault(name, n) != n:
                    raise UserError(
                        f"series {name!r} has {n} columns in session {session.session_id}, elsewhere "
                        f"{self.n_components[name]}",
                        "select sessions of one kind",
                    )
        for name in names:
            if name not in self.n_components:
                raise UserError(
                    f"no selected session has a series {name!r}", f"choose one of {', '.join(sorted(known))}"
                )

    def signal(self, number: int, name: str) -> Signal:
        """One series of session `number`; empty where it has none."""
        return self._recent[number][name]

    def _read(self, number: int) -> dict[str, Signal]:
        stored = Session(self._sessions[number].path).series(*self._names)
        return {n: _clean(*stored[n][:2]) if n in stored else _empty(self.n_components[n]) for n in self._names}


def _clean(time_s: NDArray[np.float64], value: NDArray[np.generic]) -> Signal:
    values = np.asarray(value, np.float32)
    values = values if values.ndim > 1 else values[:, None]
    good = np.isfinite(time_s) & np.isfinite(values).all(1)
    order = np.argsort(time_s[good], kind="stable")
    return Signal(time_s[good][order], np.ascontiguousarray(values[good][order]))


def _empty(n_components: int) -> Signal:
    return Signal(np.empty(0), np.empty((0, max(n_components, 1)), np.float32))


@kernel
def resample(
    time_s: NDArray[np.float64],
    value: NDArray[np.float32],
    start_s: float,
    bin_s: float,
    max_gap_s: float,
    out: NDArray[np.float32],
    known: NDArray[np.bool_],
) -> None:
    """Mean of the samples in each half-open bin; in bins without any, the line between the samples about its middle.

    Parameters
    ----------
    time_s, value : (n,), (n, K)
    start_s : float
        Start of the first bin.
    max_gap_s : float
        Samples that are further apart than this are not joined by a line.
    out, known : (T, K), (T,)
        Written in place; where nothing is known the value is 0.
    """
    i = np.searchsorted(time_s, start_s - edge_s(start_s))
    for k in range(len(out)):
        stop_s = start_s + (k + 1) * bin_s
        stop_s -= edge_s(stop_s)
        first = i
        out[k] = 0
        while i < len(time_s) and time_s[i] < stop_s:
            out[k] += value[i]
            i += 1
        known[k] = i > first
        if i > first:
            out[k] /= i - first
        elif 0 < i < len(time_s) and time_s[i] - time_s[i - 1] <= max_gap_s:
            weight = (start_s + (k + 0.5) * bin_s - time_s[i - 1]) / (time_s[i] - time_s[i - 1])
            out[k] = (1 - weight) * value[i - 1] + weight * value[i]
            known[k] = True
