"""A recording session in memory: what a source reads and what ingest writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[Any]]

INVALID = "invalid_times"
"""The interval table of time that nobody recorded: reference features and the loader's windows keep clear of it.

A span without a start counts from the session's, one without an end to the session's.
"""


@dataclass(frozen=True, slots=True)
class Spikes:
    """All spikes of one session, in any order.

    Attributes
    ----------
    time : (n_spikes,) float64 or integer
        Seconds on the session's clock, or whole samples where `sample_rate_hz` is given.
    unit : (n_spikes,) integer
        Row of the unit in ``Recording.units``.
    sample_rate_hz : float or None
        Samples per second where the source counts samples; None where `time` is in seconds.
    """

    time: NDArray[Any]
    unit: NDArray[Any]
    sample_rate_hz: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """A continuous signal with its own clock, e.g. the wheel.

    Attributes
    ----------
    time_s : (n,) float64
        Strictly the source's own time stamps, seconds on the session's clock.
    value : (n,) or (n, k) floating
        The signal; NaN where it was not measured.
    unit : str
        Unit of `value`, e.g. ``"rad"`` or ``"cm/s"``.
    """

    time_s: NDArray[np.float64]
    value: NDArray[Any]
    unit: str


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file a recording was read from, so that a later run can tell whether it changed."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a recording came from and what was left out of it.

    Attributes
    ----------
    files : tuple of SourceFile
        Every file that was read; names relative to the recording's own folder.
    original_ids : mapping
        The source's own names, e.g. ``{"eid": ..., "identifier": ...}``.
    rule : str
        The source's rule for a good unit, in words, e.g. ``"label == 1"``.
    dropped : mapping
        Units left out, counted by the reason.
    revision : str or None
        Revision of the spike sorting where the source has revisions.
    notes : tuple of str
        What else was left out or changed on the way, in words.
    """

    files: tuple[SourceFile, ...]
    original_ids: Mapping[str, str]
    rule: str
    dropped: Mapping[str, int]
    revision: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording session, good units only.

    Attributes
    ----------
    source, session_id : str
        The session's identity; `session_id` is safe as a folder name.
    spikes : Spikes
        Spikes of the good units only.
    units : mapping of str to (n_units,) array
        One row per good unit, in the order of ``spikes.unit``. ``cluster_id`` (the source's own id of the
        unit) and ``probe`` are always there; ``region``, ``depth_um``, ``quality`` and the source's metrics
        where known; ``good`` where units that fail the source's rule were kept too. Text is an object or
        ``str`` array; numbers keep NaN for unknown.
    stop_s : float
        When the recording ended, at the latest known: never before the last spike.
    intervals : mapping of str to Columns
        Tables of time spans (``trials``, …), each with ``start_s`` and ``stop_s``.
    series : mapping of str to Series
        Continuous signals (``wheel_position``, …).
    subject, lab, date : str or None
        `date` as ISO 8601 ``YYYY-MM-DD``.
    provenance : Provenance
    """

    source: str
    session_id: str
    spikes: Spikes
    units: Columns
    stop_s: float
    provenance: Provenance
    intervals: Mapping[str, Columns] = field(default_factory=dict)
    series: Mapping[str, Series] = field(default_factory=dict)
    subject: str | None = None
    lab: str | None = None
    date: str | None = None

    @property
    def n_units(self) -> int:
        return len(self.units["cluster_id"])
