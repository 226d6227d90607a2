"""A session as a brainset: one HDF5 file that torch_brain (POYO) and temporaldata open."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nhdata.export.temporaldata import (
    free_name,
    second_marks,
    write_attributes,
    write_columns,
    write_interval,
    write_signal,
    write_spans,
)
from nhdata.recording import Columns
from nhdata.store.rows import unit_names
from nhdata.store.session import Session

BLOCK_SPIKES = 1 << 22
NEAR_S = 10.0


def write_brainset(session: Session, path: Path) -> None:
    """Write a session to `path`, which appears whole or not at all; a file that is there is replaced.

    All times are the session's own, float64 exactly as `Session.spikes` gives them, and ``absolute_start`` is 0.
    ``units/id`` is ``session/probe/cluster``, as in the catalog, unless the session came from a brainset: then
    the ids it had. torch_brain's `Dataset` wants the file named as the session: ``<session_id>.h5``.

    Parameters
    ----------
    session : Session
    path : Path
        In a folder that exists.

    Raises
    ------
    UserError
        If the times of a series span more than 1e7 s.
    OSError
        If the disk is full or not to be written.
    """
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with h5py.File(part, "x") as file:
            _write(file, session)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write(file: h5py.File, session: Session) -> None:
    within_s = (session.t_start_s, session.t_stop_s)
    write_attributes(file, "Data", absolute_start=0.0)
    _write_names(file, session)
    _write_spikes(file.create_group("spikes"), session)
    _write_units(file.create_group("units"), session)
    intervals = session.intervals()
    own_domain = intervals.pop("domain", None) if session.source == "brainset" else None
    domain_s = (own_domain["start_s"], own_domain["stop_s"]) if own_domain else np.array(within_s)[:, None]
    write_interval(file.create_group("domain"), *domain_s)
    for name, table in intervals.items():
        write_spans(file.create_group(free_name(name, file)), table, instants(table), within_s)
    for name, (time_s, value, unit) in session.series().items():
        write_signal(file.create_group(free_name(name, file)), time_s, value, unit, within_s)


def _write_names(file: h5py.File, session: Session) -> None:
    """Groups ``brainset``, ``subject``, ``session`` and ``device``, with the attributes that torch_brain asks for."""
    attrs, provenance = session.attrs, session.attrs["provenance"]
    brainset = provenance["original_ids"].get("brainset") if session.source == "brainset" else None
    names: dict[str, dict[str, str | None]] = {
        "brainset": {
            "id": brainset or session.source,
            "origin_version": provenance.get("revision") or "unknown",
            "derived_version": attrs["software"],
            "source": session.source,
            "description": f"units of session {session.session_id} that are good: {provenance['rule']}",
        },
        "subject": {"id": attrs["subject"] or "unknown"},
        "session": {"id": session.session_id, "recording_date": attrs["date"], "lab": attrs["lab"]},
        "device": {"id": provenance["original_ids"].get("device") or session.session_id},
    }
    for name, values in names.items():
        write_attributes(file.create_group(name), "Data", absolute_start=0.0, **values)


def _write_spikes(group: h5py.Group, session: Session) -> None:
    """Times and rows of units, a block at a time."""
    times = group.create_dataset("timestamps", (session.n_spikes,), np.float64)
    units = group.create_dataset("unit_index", (session.n_spikes,), np.int64)
    marks_s = second_marks(session.t_start_s, session.t_stop_s)
    before = np.zeros(marks_s.size, np.int64)
    for start in range(0, session.n_spikes, BLOCK_SPIKES):
        stop = min(start + BLOCK_SPIKES, session.n_spikes)
        tick, unit = session.read(start, stop)
        times_s = session.t_start_s + tick / session.tick_hz
        times[start:stop], units[start:stop] = times_s, unit
        before += np.searchsorted(times_s, marks_s)
    group["timestamp_indices_1s"] = before
    write_interval(group.create_group("domain"), *np.array([[session.t_start_s], [session.t_stop_s]]))
    write_attributes(group, "IrregularTimeSeries")
    write_columns(group, {})
    group.attrs["timekeys"] = np.array(["timestamps"], "S")


def _write_units(group: h5py.Group, session: Session) -> None:
    units = session.units()
    ids: NDArray[Any] = np.array(unit_names(session.session_id, units), object)
    own = units.pop("id", None)
    if session.source == "brainset" and own is not None and own.dtype == object and len(set(own)) == len(own):
        ids = own
    write_attributes(group, "ArrayDict")
    write_columns(group, {"id": ids, "good": np.ones(session.n_units, bool), **units})


def instants(table: Columns) -> list[str]:
    """Columns that hold instants, which temporaldata shifts when it slices, and not durations.

    A table of ours does not say which are. They are those named ``…_time`` or ``…_times`` of which no value lies
    further than 10 s from its own span.
    """
    return [
        name
        for name, values in table.items()
        if name.lower().endswith(("_time", "_times"))
        and values.dtype.kind == "f"
        and not ((values < table["start_s"] - NEAR_S) | (values > table["stop_s"] + NEAR_S)).any()
    ]
