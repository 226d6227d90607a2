"""Trials and wheel of an IBL session."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.recording import Columns, Series
from nhdata.sources import SourceError
from nhdata.sources._columns import add_columns
from nhdata.sources.alf import Collection

TRIAL_COLUMNS = (
    "choice",
    "contrastLeft",
    "contrastRight",
    "feedbackType",
    "feedback_times",
    "firstMovement_times",
    "goCue_times",
    "goCueTrigger_times",
    "probabilityLeft",
    "quiescencePeriod",
    "response_times",
    "rewardVolume",
    "stimOff_times",
    "stimOn_times",
)
RESAMPLE_HZ = 1000.0
LOWPASS_HZ = 20.0
LOWPASS_ORDER = 8


def read_intervals(alf: Collection) -> dict[str, Columns]:
    """``trials`` and ``wheel_moves``, as far as the session has them.

    Trials come from the table, and from a file for each column where the table lacks it or there is none.
    A trial or movement whose start or stop is NaN is left out.
    """
    tables = {}
    if "trials.table.pqt" in alf or "trials.intervals.npy" in alf:
        tables["trials"] = _read_trials(alf)
    if "wheelMoves.intervals.npy" in alf:
        spans = alf.read("wheelMoves.intervals.npy", n_columns=2)
        amplitude = alf.find("wheelMoves.peakAmplitude.npy", len(spans))
        own = {} if amplitude is None else {"peakAmplitude": amplitude}
        tables["wheel_moves"] = _finite_spans(spans[:, 0], spans[:, 1], own)
    return tables


def _read_trials(alf: Collection) -> Columns:
    table = dict(alf.read_table("trials.table.pqt")) if "trials.table.pqt" in alf else {}
    if "intervals_0" in table and "intervals_1" in table:
        start_s, stop_s = table.pop("intervals_0"), table.pop("intervals_1")
    else:
        start_s, stop_s = alf.read("trials.intervals.npy", n_columns=2).T
    for name in TRIAL_COLUMNS:
        if name not in table and (values := alf.find(f"trials.{name}.npy", len(start_s))) is not None:
            table[name] = values
    return _finite_spans(start_s, stop_s, table)


def _finite_spans(start_s: NDArray[Any], stop_s: NDArray[Any], own: Columns) -> Columns:
    keep = np.isfinite(start_s) & np.isfinite(stop_s)
    columns: dict[str, NDArray[Any]] = {
        "start_s": start_s[keep].astype(np.float64),
        "stop_s": stop_s[keep].astype(np.float64),
    }
    add_columns(columns, ((name, values[keep]) for name, values in own.items()), {})
    return columns


def read_wheel(alf: Collection) -> dict[str, Series]:
    """``wheel_position`` (rad) as recorded and ``wheel_velocity`` (rad/s), or nothing if there is no wheel.

    Raises
    ------
    SourceError
        If times and positions differ in length, or the times are not finite and in order.
    """
    if "wheel.timestamps.npy" not in alf or "wheel.position.npy" not in alf:
        return {}
    time_s = alf.read("wheel.timestamps.npy").astype(np.float64)
    position = alf.find("wheel.position.npy", len(time_s))
    assert position is not None
    if not len(time_s):
        return {}
    if not np.isfinite(time_s).all() or (np.diff(time_s) < 0).any():
        path = alf.path("wheel.timestamps.npy")
        raise SourceError(path, "times are not finite and in order", "download the wheel again, or remove it")
    series = {"wheel_position": Series(time_s, position, "rad")}
    velocity_s, velocity = wheel_velocity(time_s, position)
    if len(velocity):
        series["wheel_velocity"] = Series(velocity_s, velocity, "rad/s")
    return series


def wheel_velocity(
    time_s: NDArray[np.float64], position: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wheel velocity as IBL defines it.

    Position is interpolated linearly at 1000 Hz, low-passed both ways (Butterworth, order 8, 20 Hz) and
    differenced, with a leading 0 (``brainbox.behavior.wheel``: `interpolate_position`, `velocity_filtered`).

    Parameters
    ----------
    time_s, position : (n,) float64
        Seconds, in order; position in any unit.

    Returns
    -------
    time_s, velocity : (m,) float64
        Empty where the recording is too short for the filter.
    """
    from scipy.signal import butter, sosfiltfilt

    empty = np.empty(0)
    if len(time_s) < 2 or not np.isfinite(position).all():
        return empty, empty
    even_s = np.arange(time_s[0], time_s[-1], 1 / RESAMPLE_HZ)
    even_s = even_s[even_s <= time_s[-1]]
    filter_sections = butter(LOWPASS_ORDER, LOWPASS_HZ, "lowpass", output="sos", fs=RESAMPLE_HZ)
    if len(even_s) <= 3 * (2 * len(filter_sections) + 1):
        return empty, empty
    smooth = sosfiltfilt(filter_sections, np.interp(even_s, time_s, position))
    return even_s, np.diff(smooth, prepend=smooth[0]) * RESAMPLE_HZ
