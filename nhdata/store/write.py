"""Write one session as a Zarr group into a folder of this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from nhdata.features.reference import FEATURE_NAMES, VERSION, WINDOW_S, reference_features
from nhdata.features.window import good_window
from nhdata.observed import observed_spans
from nhdata.recording import INVALID, Recording
from nhdata.store.columns import compressors, write_array, write_table
from nhdata.store.encode import Encoded
from nhdata.store.layout import (
    CHUNK_SPIKES,
    NO_TICK,
    NO_UNIT,
    block_offsets,
    shard_spikes,
    tick_at,
)
from nhdata.store.observed_features import observed_values
from nhdata.store.staging import StagingStore
from nhdata.store.ticks import Clock


def write_session(folder: Path, encoded: Encoded) -> None:
    """Write a session as a Zarr group at `folder`."""
    recording, clock, tick, unit = encoded.recording, encoded.clock, encoded.tick, encoded.unit
    session = zarr.create_group(StagingStore(folder), zarr_format=3, attributes=encoded.attributes)
    _write_spikes(session.create_group("spikes"), tick, unit, clock)
    counts = np.bincount(unit, minlength=recording.n_units).astype(np.int64)
    write_table(session.create_group("units"), {**recording.units, "n_spikes": counts}, "unit")
    _write_features(session.create_group("features"), tick, unit, recording, clock)
    intervals = session.create_group("intervals")
    for name, columns in recording.intervals.items():
        write_table(intervals.create_group(name), columns, "interval")
    series = session.create_group("series")
    for name, one in recording.series.items():
        group = series.create_group(name, attributes={"unit": one.unit})
        write_array(group, "time_s", one.time_s, ("time",))
        write_array(group, "value", one.value, ("time", "component")[: one.value.ndim])


def _write_spikes(group: zarr.Group, tick: NDArray[np.uint32], unit: NDArray[np.uint16], clock: Clock) -> None:
    plan = (
        ("tick", tick, NO_TICK, compressors()),
        ("unit", unit, NO_UNIT, compressors("bitshuffle")),
    )
    for name, values, fill, codecs in plan:
        group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=(CHUNK_SPIKES,),
            shards=(shard_spikes(values.size),),
            compressors=codecs,
            fill_value=fill,
            dimension_names=("spike",),
            config={"write_empty_chunks": True},
        )[...] = values
    write_array(group, "block", block_offsets(tick, clock.tick_hz, clock.duration_s), ("block",))


def _write_features(
    group: zarr.Group, tick: NDArray[np.uint32], unit: NDArray[np.uint16], recording: Recording, clock: Clock
) -> None:
    """The reference features of the first minute of good recording, or of the whole of a shorter session."""
    invalid = recording.intervals.get(INVALID, {"start_s": np.empty(0), "stop_s": np.empty(0)})
    t_stop_s = clock.t_start_s + clock.duration_s
    window_s = good_window(clock.t_start_s, t_stop_s, WINDOW_S, invalid["start_s"], invalid["stop_s"])
    start, stop = (tick_at(t, clock.t_start_s, clock.tick_hz) for t in window_s)
    values = observed_values(
        tick,
        unit,
        reference_features,
        n_units=recording.n_units,
        tick_hz=clock.tick_hz,
        t_start_s=clock.t_start_s,
        pieces=[(start, stop)],
        observed=observed_spans(recording.intervals),
    )
    reference = group.create_group(
        "reference",
        attributes={
            "feature_names": list(FEATURE_NAMES),
            "version": VERSION,
            "window_start_s": window_s[0],
            "window_stop_s": window_s[1],
        },
    )
    write_array(reference, "value", values, ("unit", "feature"))
