"""Which ticks of a session a window in seconds means. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.store.layout import tick_at


@dataclass(frozen=True, slots=True)
class Span:
    """A session's whole time: ``[t_start_s, t_stop_s)`` on its own clock, and its ticks per second."""

    session_id: str
    t_start_s: float
    t_stop_s: float
    tick_hz: float

    def ticks(self, start_s: float, stop_s: float) -> tuple[int, int]:
        """The half-open window in ticks.

        Raises
        ------
        UserError
            If it is empty or not within the session.
        """
        if not self.t_start_s <= start_s < stop_s <= self.t_stop_s + 1 / self.tick_hz:
            raise UserError(
                f"the window [{start_s}, {stop_s}) s is not within session {self.session_id}",
                f"stay within [{self.t_start_s}, {self.t_stop_s}) s",
            )
        start, stop = (tick_at(t, self.t_start_s, self.tick_hz) for t in (start_s, stop_s))
        if start == stop:
            raise UserError(
                f"the window [{start_s}, {stop_s}) s of session {self.session_id} holds no tick of its clock",
                f"one lasts {1 / self.tick_hz:.3g} s",
            )
        return start, stop

    def inside(self, name: str, table: dict[str, NDArray[Any]], start_s: float, stop_s: float) -> list[tuple[int, int]]:
        """The parts of a table's spans that lie in a window, in ticks; spans that lack an end are left out.

        Raises
        ------
        UserError
            If no span lies in the window.
        """
        window = self.ticks(start_s, stop_s)
        ends = (np.asarray(table[column], np.float64) for column in ("start_s", "stop_s"))
        pieces = [
            (
                max(tick_at(a, self.t_start_s, self.tick_hz), window[0]),
                min(tick_at(b, self.t_start_s, self.tick_hz), window[1]),
            )
            for a, b in zip(*(e.tolist() for e in ends), strict=True)
            if np.isfinite(a) and np.isfinite(b)
        ]
        pieces = [(a, b) for a, b in pieces if a < b]
        if not pieces:
            raise UserError(
                f"no span of {name!r} lies in [{start_s}, {stop_s}) s of session {self.session_id}",
                "name another table, or a wider window",
            )
        return pieces
