"""A recording as it will be stored: safe names, an integer clock, sorted ticks, attributes. No I/O."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.recording import Provenance, Recording
from nhdata.store.columns import safe_names
from nhdata.store.digest import content_hash
from nhdata.store.layout import SCHEMA_VERSION, check_name
from nhdata.store.ticks import Clock, check_recording, session_clock, sorted_ticks


@dataclass(frozen=True, slots=True)
class Encoded:
    """A session ready to be written.

    Attributes
    ----------
    recording : Recording
        With names that are safe in a store.
    clock : Clock
    tick : (n_spikes,) uint32
    unit : (n_spikes,) uint16
    attributes : dict
        Of the session's group, as JSON gives them back; ``content_hash`` among them.
    """

    recording: Recording
    clock: Clock
    tick: NDArray[np.uint32]
    unit: NDArray[np.uint16]
    attributes: dict[str, Any]

    def same_as(self, stored: dict[str, Any]) -> bool:
        """Whether a stored session with these attributes says the same, whatever version of the software wrote it."""
        return {**stored, "software": ""} == {**self.attributes, "software": ""}


def encode(recording: Recording) -> Encoded:
    """Check a recording and put it into the form in which it is stored.

    Raises
    ------
    UserError
        If the recording breaks the promises of a source (see `check_recording`), or is too long.
    """
    check_recording(recording)
    recording = replace(
        recording,
        units=safe_names(recording.units),
        intervals={name: safe_names(columns) for name, columns in safe_names(recording.intervals).items()},
        series=safe_names(recording.series),
    )
    clock = session_clock(recording.spikes, recording.stop_s)
    tick, unit = sorted_ticks(recording.spikes, clock)
    attributes = {
        "nhdata_schema": SCHEMA_VERSION,
        "source": check_name("source", recording.source),
        "session_id": check_name("session_id", recording.session_id),
        "subject": recording.subject,
        "lab": recording.lab,
        "date": recording.date,
        "t_start_s": clock.t_start_s,
        "duration_s": clock.duration_s,
        "tick_hz": clock.tick_hz,
        "n_units": recording.n_units,
        "n_spikes": int(tick.size),
        "content_hash": content_hash(recording, clock, tick, unit),
        "software": f"neurohorizon {version('neurohorizon')}",
        "provenance": _provenance(recording.provenance),
    }
    return Encoded(recording, clock, tick, unit, json.loads(json.dumps(attributes)))


def _provenance(of: Provenance) -> dict[str, Any]:
    """As plain dicts; `asdict` would count the pairs of a Counter."""
    return asdict(replace(of, dropped=dict(of.dropped), original_ids=dict(of.original_ids)))
