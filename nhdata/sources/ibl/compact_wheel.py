"""The wheel out of the behaviour half of IBL's compact Brain-Wide-Map archive.

``bwm_behavior/<version>/sessions/<eid>.zip`` holds ``meta.json`` and blosc buffers. Of its many signals the wheel is
read: the raw position on an even grid of 100 Hz, rounded to 0.001 rad. The encodings are those of the format
``ibl_ai_agent_behavior_session_shard_v2`` as a published reader decodes them; not verified on the archive itself.
Licks are not in it; pose and motion energy are, but are not read.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.recording import Series, SourceFile
from nhdata.sources import SourceError
from nhdata.sources._files import AGAIN
from nhdata.sources.ibl.archive import Archive, open_archive
from nhdata.sources.ibl.behaviour import wheel_velocity
from nhdata.sources.ibl.blosc import decode_blosc

FORMAT = "ibl_ai_agent_behavior_session_shard_v2"
MAX_ENTRY_BYTES = 1 << 28
MAX_SAMPLES = 10_000_000


def read_compact_wheel(spikes: Path, eid: str) -> tuple[dict[str, Series], tuple[SourceFile, ...]]:
    """``wheel_position`` (rad) and ``wheel_velocity`` (rad/s), as far as there is an archive of behaviour.

    Parameters
    ----------
    spikes : Path
        The archive or folder with the spikes; the one with the behaviour lies beside it.
    eid : str

    Returns
    -------
    series : dict of str to Series
    files : tuple of SourceFile
        The file that was read, if any.

    Raises
    ------
    SourceError
        If it is damaged.
    """
    found = _find(spikes, eid)
    if found is None:
        return {}, ()
    archive, name = found
    content, where = archive.read(name), archive.where(name)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as zipped:
            meta_name = next((entry for entry in zipped.namelist() if Path(entry).name == "meta.json"), "meta.json")
            meta = json.loads(_entry(where, zipped, meta_name))
            arrays = meta["arrays"]
            if meta["format"] != FORMAT or not {"wheel.timestamps", "wheel.position"} <= arrays.keys():
                return {}, ()
            time_s = _times(where, zipped, arrays["wheel.timestamps"]["encoding"])
            position = _scaled(where, zipped, arrays["wheel.position"]["encoding"])
    except (zipfile.BadZipFile, NotImplementedError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(where, f"not a readable session of behaviour ({type(error).__name__})", AGAIN) from error
    if len(time_s) != len(position) or not np.isfinite(time_s).all() or (np.diff(time_s) < 0).any():
        raise SourceError(where, "its wheel's times are not those of the positions, or not in order", AGAIN)
    file = SourceFile(name, len(content), hashlib.sha256(content).hexdigest())
    if not len(time_s):
        return {}, (file,)
    velocity_s, velocity = wheel_velocity(time_s, position)
    series = {"wheel_position": Series(time_s, position, "rad")}
    return series | ({"wheel_velocity": Series(velocity_s, velocity, "rad/s")} if len(velocity) else {}), (file,)


def _find(spikes: Path, eid: str) -> tuple[Archive, str] | None:
    """The newest archive of behaviour beside the spikes that has the session."""
    around = [spikes.parent] if spikes.is_file() else [spikes.parent.parent, spikes.parent]
    places = [place for folder in around for place in folder.glob("bwm_behavior*.tar")]
    places += [place for folder in around for place in folder.glob("bwm_behavior/*") if (place / "sessions").is_dir()]
    for place in sorted(places, key=lambda place: place.name, reverse=True):
        archive = open_archive(place)
        for name in archive.places:
            if name.endswith(f"sessions/{eid}.zip"):
                return archive, name
    return None


def _entry(where: str, zipped: zipfile.ZipFile, name: Any) -> bytes:
    if zipped.getinfo(name).file_size > MAX_ENTRY_BYTES:
        raise SourceError(where, f"its entry '{str(name)[:60]}' is too large", AGAIN)
    return zipped.read(name)


def _times(where: str, zipped: zipfile.ZipFile, encoding: dict[str, Any]) -> NDArray[np.float64]:
    start_s = float(encoding["start"])
    if encoding["kind"] == "timestamp_fixed_rate":
        n = int(encoding["count"])
        if not 0 <= n <= MAX_SAMPLES:
            raise SourceError(where, f"{n} samples of the wheel are not possible", AGAIN)
        return start_s + np.arange(n) / float(encoding["rate_hz"])
    if encoding["kind"] == "timestamp_delta_ticks":  # ticks since the start, whatever the name says
        content = _entry(where, zipped, encoding["ticks_entry"])
        ticks = decode_blosc(where, content, encoding["ticks_spec"])
        return start_s + ticks * float(encoding["tick_s"])
    raise SourceError(where, f"unknown encoding '{encoding['kind']}' of times", "use release 2.0.0 of bwm_behavior")


def _scaled(where: str, zipped: zipfile.ZipFile, encoding: dict[str, Any]) -> NDArray[np.float64]:
    """Whole numbers times their precision; the smallest one stands for NaN."""
    if encoding["kind"] != "scaled_numeric":
        raise SourceError(where, f"unknown encoding '{encoding['kind']}'", "use release 2.0.0 of bwm_behavior")
    values = decode_blosc(where, _entry(where, zipped, encoding["entry"]), encoding["payload_spec"])
    scaled = values * float(encoding["precision"])
    if values.dtype.kind == "i":
        scaled[values == np.iinfo(values.dtype).min] = np.nan
    return scaled
