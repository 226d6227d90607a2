"""Trials, wheel, licks and the cameras' motion energy of an IBL session."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.recording import Columns, Series
from nhdata.sources import SourceError
from nhdata.sources._columns import add_columns
from nhdata.sources.ibl.alf import Collection

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
CAMERAS = ("left", "right", "body")
RESAMPLE_HZ = 1000.0
LONGEST_WHEEL_S = 12 * 3600.0
"""Time stamps that span more are damaged; resampled, they would fill any memory."""
LOWPASS_HZ = 20.0
LOWPASS_ORDER = 8


@dataclass(slots=True)
class Behaviour:
    """What an animal did.

    Attributes
    ----------
    intervals, series
        As in `nhdata.recording.Recording`.
    notes
        As in `nhdata.recording.Provenance`.
    files : set of Path
        The files that were read.
    """

    intervals: dict[str, Columns] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: set[Path] = field(default_factory=set)

    @property
    def ends_s(self) -> list[float]:
        """When each table and signal ends, seconds."""
        tables = [float(table["stop_s"].max()) for table in self.intervals.values() if len(table["stop_s"])]
        return tables + [float(signal.time_s[-1]) for signal in self.series.values()]


def read_behaviour(alf: Path) -> Behaviour:
    """Behaviour of a session, as far as it has any, each data set in its newest revision.

    It lies in the folder ``alf``, or, where a session has tasks, in ``alf/task_00`` and so on. What ``alf``
    lacks is taken from the tasks: the first one's under its plain name (``trials``), a later one's under a
    name of its own (``trials_task_01``).

    Raises
    ------
    SourceError
        If a file is damaged, or files that belong together differ in length.
    """
    behaviour = Behaviour()
    _add(behaviour, alf, set())
    own = {*behaviour.intervals, *behaviour.series}
    for folder in sorted(alf.glob("task_*")):
        _add(behaviour, folder, own)
    return behaviour


def _add(behaviour: Behaviour, folder: Path, own: set[str]) -> None:
    """Add what a folder has, but for the names in `own`; a name that is taken gets the folder's name behind it."""
    collection = Collection.open(folder)
    intervals, notes = read_intervals(collection)
    series, left_out = read_motion_energy(collection)
    series |= read_wheel(collection)
    taken = {*behaviour.intervals, *behaviour.series}
    names = {
        name: f"{name}_{folder.name}" if name in taken else name for name in (*intervals, *series) if name not in own
    }
    behaviour.intervals |= {names[name]: table for name, table in intervals.items() if name in names}
    behaviour.series |= {names[name]: signal for name, signal in series.items() if name in names}
    behaviour.notes += notes + left_out
    behaviour.files |= collection.used


def read_intervals(alf: Collection) -> tuple[dict[str, Columns], list[str]]:
    """``trials``, ``wheel_moves`` and ``licks``, as far as the folder has them.

    Trials come from the table, and from a file for each column where the table lacks it or there is none.
    A trial or movement whose start or stop is NaN is left out. A lick is a moment: it stops when it starts.

    Returns
    -------
    tables : dict of str to Columns
    notes : list of str
        Rows and columns that are left out, and columns that are renamed.
    """
    tables: dict[str, Columns] = {}
    n_rows: dict[str, int] = {}
    notes: list[str] = []
    if "trials.table.pqt" in alf or "trials.intervals.npy" in alf:
        tables["trials"], n_rows["trials"] = _read_trials(alf, notes)
    if "wheelMoves.intervals.npy" in alf:
        spans = alf.read("wheelMoves.intervals.npy", n_columns=2)
        amplitude = alf.find("wheelMoves.peakAmplitude.npy", len(spans))
        own = {} if amplitude is None else {"peakAmplitude": amplitude}
        tables["wheel_moves"], n_rows["wheel_moves"] = (
            finite_spans("wheel_moves", spans[:, 0], spans[:, 1], own, notes),
            len(spans),
        )
    if "licks.times.npy" in alf:
        licks_s = np.sort(alf.read("licks.times.npy", kinds="f"))
        tables["licks"], n_rows["licks"] = finite_spans("licks", licks_s, licks_s, {}, notes), len(licks_s)
    gone = {name: n - len(tables[name]["start_s"]) for name, n in n_rows.items()}
    notes += [f"{n} of {n_rows[name]} rows of {name} left out: no start or no stop" for name, n in gone.items() if n]
    return tables, notes


def _read_trials(alf: Collection, notes: list[str]) -> tuple[Columns, int]:
    table = dict(alf.read_table("trials.table.pqt")) if "trials.table.pqt" in alf else {}
    if "intervals_0" in table and "intervals_1" in table:
        start_s, stop_s = table.pop("intervals_0"), table.pop("intervals_1")
    else:
        start_s, stop_s = alf.read("trials.intervals.npy", n_columns=2).T
    for name in TRIAL_COLUMNS:
        if name not in table and (values := alf.find(f"trials.{name}.npy", len(start_s))) is not None:
            table[name] = values
    return finite_spans("trials", start_s, stop_s, table, notes), len(start_s)


def finite_spans(name: str, start_s: NDArray[Any], stop_s: NDArray[Any], own: Columns, notes: list[str]) -> Columns:
    """A table of time spans with columns of its own, without the rows whose start or stop is not finite.

    `notes` gets a note of each column that is renamed or left out.
    """
    keep = np.isfinite(start_s) & np.isfinite(stop_s)
    columns: dict[str, NDArray[Any]] = {
        "start_s": start_s[keep].astype(np.float64),
        "stop_s": stop_s[keep].astype(np.float64),
    }
    added = add_columns(columns, ((key, values[keep]) for key, values in own.items()), {}, ())
    notes += [f"{name}: {note}" for note in added]
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


def read_motion_energy(alf: Collection) -> tuple[dict[str, Series], list[str]]:
    """``motion_energy_left``, ``_right`` and ``_body``: mean change of the pixels from frame to frame.

    A video may lack its first frames; then its last frames have the last times, as in IBL's own loader
    (``brainbox.io.one.SessionLoader``). A camera whose times are too few or out of order is left out.

    Returns
    -------
    series : dict of str to Series
    notes : list of str
        What was left out, and why.
    """
    series, notes = {}, []
    for camera in CAMERAS:
        names = f"{camera}Camera.times.npy", f"{camera}Camera.ROIMotionEnergy.npy"
        if not all(name in alf for name in names):
            continue
        time_s = alf.read(names[0], kinds="f").astype(np.float64)
        energy = alf.read(names[1], kinds="f")
        if not len(energy):
            continue
        if len(time_s) < len(energy):
            notes.append(f"motion energy of the {camera} camera left out: {len(energy)} frames, {len(time_s)} times")
            continue
        time_s = time_s[len(time_s) - len(energy) :]
        if not np.isfinite(time_s).all() or (np.diff(time_s) < 0).any():
            notes.append(f"motion energy of the {camera} camera left out: its times are not in order")
            continue
        series[f"motion_energy_{camera}"] = Series(time_s, energy, "a.u.")
    return series, notes


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
        Empty where the recording is too short for the filter, or longer than `LONGEST_WHEEL_S`.
    """
    from scipy.signal import butter, sosfiltfilt

    empty = np.empty(0)
    if len(time_s) < 2 or not np.isfinite(position).all() or not time_s[-1] - time_s[0] <= LONGEST_WHEEL_S:
        return empty, empty
    even_s = np.arange(time_s[0], time_s[-1], 1 / RESAMPLE_HZ)
    even_s = even_s[even_s <= time_s[-1]]
    filter_sections = butter(LOWPASS_ORDER, LOWPASS_HZ, "lowpass", output="sos", fs=RESAMPLE_HZ)
    if len(even_s) <= 3 * (2 * len(filter_sections) + 1):
        return empty, empty
    smooth = sosfiltfilt(filter_sections, np.interp(even_s, time_s, position))
    return even_s, np.diff(smooth, prepend=smooth[0]) * RESAMPLE_HZ
