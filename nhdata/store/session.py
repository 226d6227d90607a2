"""One session of a store: what is stored, and what is computed from its spikes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.observed import OBSERVED, observed_spans
from nhdata.store.stored import StoredSession

if TYPE_CHECKING:
    import xarray as xr

    from nhdata.features.trains import Trains

COUNTS_CHUNK_S = 60.0


class Session(StoredSession):
    """One recording session: spikes, units, intervals, series and features.

    Obtained from ``nhdata.open(path).session(session_id)``. Nothing is read before it is asked for, and
    nothing is ever written. Times are seconds on the recording's own clock, windows are half-open.

    Attributes
    ----------
    path : Path or Url
        The session's Zarr group.
    session_id, source : str
    t_start_s, duration_s : float
        The session spans ``[t_start_s, t_start_s + duration_s)``.
    tick_hz : float
        Ticks per second: every spike time is ``t_start_s + tick / tick_hz``.
    n_units, n_spikes : int
    """

    def trains(
        self, start_s: float | None = None, stop_s: float | None = None, *, intervals: str | None = None
    ) -> Trains:
        """Spike trains of all units, for every function in `nhdata.features`.

        Parameters
        ----------
        start_s, stop_s : float, optional
            The half-open window; by default the whole session.
        intervals : str, optional
            Only the spans of this table, e.g. ``"trials"``, as far as they lie in the window. Spans that overlap or
            touch become one, those without a start or an end are left out, and nothing is measured across a gap.

        Raises
        ------
        UserError
            If the window is empty or not within the session, there is no such table, or no span of it in the window.
        """
        from nhdata.features.trains import spike_trains

        pieces = self._pieces(start_s, stop_s, intervals)
        tick, unit = self.ticks(min(a for a, _ in pieces), max(b for _, b in pieces))
        return spike_trains(tick, unit, n_units=self.n_units, tick_hz=self.tick_hz, pieces=pieces)

    def over_observed(
        self,
        compute: Callable[[Trains], NDArray[np.float64]],
        start_s: float | None = None,
        stop_s: float | None = None,
        *,
        intervals: str | None = None,
    ) -> NDArray[np.float64]:
        """Features of all units, each over the part of a window in which it was observed.

        Parameters
        ----------
        compute : callable
            Features (n_units, n_features) of trains.
        start_s, stop_s, intervals
            As in `trains`.

        Returns
        -------
        (n_units, n_features) float64
            NaN for a unit that was not observed at all in the window.
        """
        from nhdata.store.observed_features import observed_values

        pieces = self._pieces(start_s, stop_s, intervals)
        tick, unit = self.ticks(min(a for a, _ in pieces), max(b for _, b in pieces))
        return observed_values(
            tick,
            unit,
            compute,
            n_units=self.n_units,
            tick_hz=self.tick_hz,
            t_start_s=self.t_start_s,
            pieces=pieces,
            observed=self.observed(),
        )

    def observed(self) -> dict[int, NDArray[np.float64]]:
        """Time in which each unit was observed that was observed for part of the session only.

        Returns
        -------
        dict of int to (K, 2) float64
            Half-open intervals in s by row of the unit; units that are missing were observed throughout.
        """
        names = self._names("intervals")
        return observed_spans({OBSERVED: self._table(f"intervals/{OBSERVED}")}) if OBSERVED in names else {}

    def _pieces(self, start_s: float | None, stop_s: float | None, intervals: str | None) -> list[tuple[int, int]]:
        window = self._window(start_s, stop_s)
        if intervals is None:
            return [self.span.ticks(*window)]
        return self.span.inside(intervals, self.interval_table(intervals), *window)

    def _window(self, start_s: float | None, stop_s: float | None) -> tuple[float, float]:
        return self.t_start_s if start_s is None else start_s, self.t_stop_s if stop_s is None else stop_s

    def features(
        self, start_s: float | None = None, stop_s: float | None = None, *, intervals: str | None = None
    ) -> xr.DataArray:
        """The 33 reference features: the stored ones, or those of a window or of a table's spans, as in `trains`.

        Returns
        -------
        xarray.DataArray
            (unit, feature) float64, NaN where undefined; see `nhdata.features.reference`. Its attributes say the
            window, the intervals if any, and the version of the definition. A unit that was observed for part of the
            window has the features of that part, one that was not observed at all NaN.

        Raises
        ------
        UserError
            As `trains`.
        """
        import xarray as xr

        from nhdata.features.reference import FEATURE_NAMES, VERSION, reference_features

        attrs: dict[str, Any] = {"session_id": self.session_id}
        if start_s is None and stop_s is None and intervals is None:
            values, stored = self.reference_features(), self.feature_attrs
            attrs |= {key: stored[key] for key in ("window_start_s", "window_stop_s", "version")}
        else:
            values = self.over_observed(reference_features, start_s, stop_s, intervals=intervals)
            attrs["window_start_s"], attrs["window_stop_s"] = self._window(start_s, stop_s)
            attrs["version"] = VERSION
            if intervals is not None:
                attrs["intervals"] = intervals
        return xr.DataArray(
            values,
            dims=("unit", "feature"),
            coords={"unit": np.arange(self.n_units), "feature": list(FEATURE_NAMES)},
            name="reference_features",
            attrs=attrs,
        )

    def n_bins(self, bin_s: float) -> int:
        """Whole bins of the session, counted from its start.

        Raises
        ------
        UserError
            If `bin_s` is not a width, or longer than the session.
        """
        from nhdata.features.bins import bin_ticks

        numerator, denominator = bin_ticks(bin_s, self.tick_hz)
        n_bins = int((self.duration_s * self.tick_hz + 1e-3) * denominator // numerator)
        if n_bins == 0:
            raise UserError(
                f"bin_s={bin_s} is longer than session {self.session_id} ({self.duration_s:.3f} s)",
                "use a shorter bin",
            )
        return n_bins

    def counts(self, bin_s: float) -> xr.DataArray:
        """Spike counts of every unit in bins of `bin_s`, lazily: nothing is read before it is computed.

        Returns
        -------
        xarray.DataArray
            (time, unit) uint16 on dask, one chunk a minute. ``time`` is the start of each half-open bin,
            seconds on the session's clock; a last bin cut off by the session's end is left out.

        Raises
        ------
        UserError
            If `bin_s` is not positive or longer than the session; on computing, if a count passes 65,535.
        """
        import dask.array as da
        import xarray as xr

        from nhdata.features.bins import bin_ticks

        n_bins = self.n_bins(bin_s)
        per_chunk = max(1, round(COUNTS_CHUNK_S / bin_s))
        chunks = tuple(min(per_chunk, n_bins - k) for k in range(0, n_bins, per_chunk))
        values = da.map_blocks(  # type: ignore[no-untyped-call]
            _count_chunk,
            session=self,
            bin_s=bin_s,
            width=bin_ticks(bin_s, self.tick_hz),
            chunks=(chunks, (self.n_units,)),
            dtype=np.uint16,
            meta=np.empty((0, 0), np.uint16),
        )
        return xr.DataArray(
            values,
            dims=("time", "unit"),
            coords={"time": self.t_start_s + np.arange(n_bins) * bin_s, "unit": np.arange(self.n_units)},
            name="counts",
            attrs={"session_id": self.session_id, "bin_s": bin_s, "units": "spikes per bin"},
        )


def _count_chunk(session: Session, bin_s: float, width: tuple[int, int], block_info: Any = None) -> NDArray[np.uint16]:
    """Counts of one chunk of bins."""
    from nhdata.features.bins import binned_counts

    first, stop = block_info[None]["array-location"][0]
    start_tick, stop_tick = (-(-k * width[0] // width[1]) for k in (first, stop))
    tick, unit = session.ticks(start_tick, stop_tick)
    return binned_counts(
        tick,
        unit,
        n_units=session.n_units,
        first_bin=first,
        n_bins=stop - first,
        bin_s=bin_s,
        tick_hz=session.tick_hz,
    )
