"""What is computed from a session's spikes: trains, features, counts.

`nhdata.store.session.Session` has these as methods, and says what they give. A file of its own, so that a session is
opened without Numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.bins import bin_ticks, binned_counts
from nhdata.features.reference import FEATURE_NAMES, VERSION, reference_features
from nhdata.features.trains import Trains, spike_trains
from nhdata.store.session import Session

COUNTS_CHUNK_S = 60.0


def trains(session: Session, start_s: float | None, stop_s: float | None, intervals: str | None) -> Trains:
    """Spike trains of all units in a window, or in the spans of a table within it."""
    window = _window(session, start_s, stop_s)
    if intervals is None:
        pieces = [session.span.ticks(*window)]
    else:
        pieces = session.span.inside(intervals, session.interval_table(intervals), *window)
    tick, unit = session.ticks(min(a for a, _ in pieces), max(b for _, b in pieces))
    return spike_trains(tick, unit, n_units=session.n_units, tick_hz=session.tick_hz, pieces=pieces)


def features(session: Session, start_s: float | None, stop_s: float | None, intervals: str | None) -> xr.DataArray:
    """The reference features: the stored ones where no window is given."""
    attrs: dict[str, Any] = {"session_id": session.session_id}
    if start_s is None and stop_s is None and intervals is None:
        values, stored = session.reference_features(), session.feature_attrs
        attrs |= {key: stored[key] for key in ("window_start_s", "window_stop_s", "version")}
    else:
        values = reference_features(trains(session, start_s, stop_s, intervals))
        attrs["window_start_s"], attrs["window_stop_s"] = _window(session, start_s, stop_s)
        attrs["version"] = VERSION
        if intervals is not None:
            attrs["intervals"] = intervals
    return xr.DataArray(
        values,
        dims=("unit", "feature"),
        coords={"unit": np.arange(session.n_units), "feature": list(FEATURE_NAMES)},
        name="reference_features",
        attrs=attrs,
    )


def n_bins(session: Session, bin_s: float) -> int:
    """Whole bins of the session."""
    numerator, denominator = bin_ticks(bin_s, session.tick_hz)
    n = int((session.duration_s * session.tick_hz + 1e-3) * denominator // numerator)
    if n == 0:
        raise UserError(
            f"bin_s={bin_s} is longer than session {session.session_id} ({session.duration_s:.3f} s)",
            "use a shorter bin",
        )
    return n


def counts(session: Session, bin_s: float) -> xr.DataArray:
    """Spike counts in bins, lazily."""
    import dask.array as da

    n = n_bins(session, bin_s)
    per_chunk = max(1, round(COUNTS_CHUNK_S / bin_s))
    chunks = tuple(min(per_chunk, n - k) for k in range(0, n, per_chunk))
    values = da.map_blocks(  # type: ignore[no-untyped-call]
        _count_chunk,
        session=session,
        bin_s=bin_s,
        width=bin_ticks(bin_s, session.tick_hz),
        chunks=(chunks, (session.n_units,)),
        dtype=np.uint16,
        meta=np.empty((0, 0), np.uint16),
    )
    return xr.DataArray(
        values,
        dims=("time", "unit"),
        coords={"time": session.t_start_s + np.arange(n) * bin_s, "unit": np.arange(session.n_units)},
        name="counts",
        attrs={"session_id": session.session_id, "bin_s": bin_s, "units": "spikes per bin"},
    )


def _window(session: Session, start_s: float | None, stop_s: float | None) -> tuple[float, float]:
    return session.t_start_s if start_s is None else start_s, session.t_stop_s if stop_s is None else stop_s


def _count_chunk(session: Session, bin_s: float, width: tuple[int, int], block_info: Any = None) -> NDArray[np.uint16]:
    """Counts of one chunk of bins."""
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
