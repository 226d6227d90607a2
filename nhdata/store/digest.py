"""A hash of what a session says, independent of how it is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.recording import Recording
from nhdata.store.ticks import Clock


def _feed(digest: hashlib._Hash, label: str, values: NDArray[Any]) -> None:
    if values.dtype.kind in "OUS":
        data = "\0".join("" if v is None else str(v) for v in values).encode()
        digest.update(f"{label} text {values.shape} {len(data)}\n".encode())
        digest.update(data)
    else:
        values = np.ascontiguousarray(values)
        digest.update(f"{label} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.data if values.size else b"")


def _feed_table(digest: hashlib._Hash, label: str, columns: Mapping[str, NDArray[Any]]) -> None:
    for name in sorted(columns):
        _feed(digest, f"{label}/{name}", np.asarray(columns[name]))


def content_hash(recording: Recording, clock: Clock, tick: NDArray[np.uint32], unit: NDArray[np.uint16]) -> str:
    """SHA-256 over the identity, the clock, the spikes, the units, the intervals and the series of a session.

    Returns
    -------
    str
        64 hexadecimal digits; equal for equal content, whatever the chunks, codecs and library versions.
    """
    digest = hashlib.sha256()
    times = [float(t) for t in (clock.t_start_s, clock.duration_s, clock.tick_hz)]
    who = [recording.source, recording.session_id, recording.subject, recording.lab, recording.date]
    digest.update(f"{times} {[None if name is None else str(name) for name in who]}\n".encode())
    _feed(digest, "tick", tick)
    _feed(digest, "unit", unit)
    _feed_table(digest, "units", recording.units)
    for name in sorted(recording.intervals):
        _feed_table(digest, f"intervals/{name}", recording.intervals[name])
    for name in sorted(recording.series):
        digest.update(f"series/{name} {recording.series[name].unit!r}\n".encode())
        _feed(digest, f"series/{name}/time_s", recording.series[name].time_s)
        _feed(digest, f"series/{name}/value", recording.series[name].value)
    return digest.hexdigest()
