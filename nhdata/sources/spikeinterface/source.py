"""SpikeInterface: saved Sortings and SortingAnalyzers, read without importing spikeinterface."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.recording import Provenance, Recording, Spikes
from nhdata.sources import SessionRef, SourceError, SourceOptions
from nhdata.sources._columns import EVERY_UNIT, REGIONS, add_columns, known_names, text_column
from nhdata.sources._files import describe_files, existing, safe_id
from nhdata.sources._identity import probe_name, recording_name
from nhdata.sources._ratings import rate
from nhdata.sources.spikeinterface.layout import Layout, SpikeVector, find_layouts, open_layout

AGAIN = "save the sorting again with SpikeInterface"
RENAMED = {
    "firing_rate": "firing_rate_hz",
    "KSLabel": "ks_label",
    "quality": "source_quality",
    "group": "source_group",
    "depth": "source_depth",
    "main_channel_id": "main_channel",
}
METRICS = (("quality_metrics", "metrics"), ("template_metrics", "metrics"))


class SpikeInterfaceSource:
    """Folders or Zarr hierarchies in which SpikeInterface saved a Sorting or a SortingAnalyzer, at any depth.

    Each segment is one `Recording`, as segments have no common clock. Columns of units are the sorting's properties and
    the analyzer's quality and template metrics. The rating is the first of ``quality`` (curation), ``bc_unitType`` or
    ``bombcell_label`` (Bombcell), ``unitrefine_label``, ``classifier_label`` and ``KSLabel`` that rates any unit.
    Without one every unit is kept as ``unrated``. The peak channel is the property ``main_channel_id``, or that of the
    average template; the depth is the y coordinate of the unit location, or of the peak channel.

    The session's id is the name of the folder and the start of the SHA-256 of its spikes.
    """

    name = "spikeinterface"
    takes = ("no_filter",)

    def __init__(self, options: SourceOptions) -> None:
        self._keep_all = options.no_filter

    def iter_sessions(self, paths: Sequence[Path]) -> Iterator[SessionRef]:
        seen: set[Path] = set()
        for path in existing(paths):
            roots = list(find_layouts(path)) if path.is_dir() else []
            if not roots:
                raise SourceError(
                    path, "no SpikeInterface sorting in this folder or below", "name a saved folder or Zarr"
                )
            for root in roots:
                if root not in seen:
                    seen.add(root)
                    yield from _refs(root)

    def load(self, ref: SessionRef) -> Recording:
        layout = open_layout(ref.path)
        rate_hz, ids, n_segments = _info(layout)
        spikes = _checked_spikes(layout, len(ids), n_segments)
        number = _segment_of(ref, n_segments)
        inside = spikes.segment == number
        sample, unit = spikes.sample[inside], spikes.unit[inside]
        if not len(sample):
            raise SourceError(ref.path, f"empty recording, no spikes in segment {number}", AGAIN)

        notes: list[str] = []
        own = [*_properties(layout, len(ids), notes), *_metrics(layout, ids, notes)]
        rating, unused = rate(own, len(ids))
        kept = np.ones(len(ids), bool) if self._keep_all else rating.good
        row_of = np.cumsum(kept) - 1
        cluster_id, is_number = _cluster_ids(ids)
        channels = _Channels(layout, own, len(ids), notes)
        units: dict[str, NDArray[Any]] = {
            "cluster_id": cluster_id,
            "probe": text_column([probe_name(layout.root)] * len(ids)),
            "region": _region(own, channels, len(ids)),
            "quality": rating.words,
            **channels.columns,
        }
        if not is_number:
            own.append(("source_id", text_column(map(str, ids))))
            notes.append("unit ids are not whole numbers: cluster_id is the row, and column source_id has the id")
        notes += [*unused, *add_columns(units, own, RENAMED)]
        if self._keep_all:
            units["good"] = rating.good
        n_samples = layout.document("recording_attributes").get("num_samples") or []
        stop = max(int(sample[-1]) + 1, n_samples[number] if number < len(n_samples) else 0)
        rule = f"{rating.column} is good" if rating.column else "every unit, as no column rates them"
        return Recording(
            source=self.name,
            session_id=_session_id(layout.root, spikes, number, n_segments),
            spikes=Spikes(sample[kept[unit]], row_of[unit][kept[unit]].astype(np.int32), rate_hz),
            units={name: values[kept] for name, values in units.items()},
            stop_s=stop / rate_hz,
            provenance=Provenance(
                files=describe_files(layout.files(), layout.root),
                original_ids={"folder": layout.root.name, "segment": str(number)},
                rule=EVERY_UNIT if self._keep_all else rule,
                dropped=dict(Counter(f"rated '{word}'" for word in rating.words[~kept])),
                notes=tuple(notes),
            ),
        )


def _refs(root: Path) -> Iterator[SessionRef]:
    try:
        layout = open_layout(root)
        _, ids, n_segments = _info(layout)
        spikes = _checked_spikes(layout, len(ids), n_segments)
    except SourceError:
        yield SessionRef(root, None)  # load says what is wrong
        return
    for number in range(n_segments):
        fingerprint = _fingerprint(spikes, number, n_segments)
        yield SessionRef(root, _session_id(root, spikes, number, n_segments), fingerprint=fingerprint)


def _info(layout: Layout) -> tuple[float, list[Any], int]:
    """Samples per second, unit ids and number of segments. Raises SourceError if they are missing or make no sense."""
    info = layout.info()
    rate_hz, ids, n_segments = (info.get(name) for name in ("sampling_frequency", "unit_ids", "num_segments"))
    if isinstance(rate_hz, bool) or not isinstance(rate_hz, int | float) or not 0 < rate_hz < math.inf:
        raise SourceError(layout.root, f"sampling_frequency is {rate_hz!r}, not a positive number", AGAIN)
    if not isinstance(ids, list) or not ids or len(set(map(str, ids))) != len(ids):
        raise SourceError(layout.root, "unit_ids is not a list of different ids", AGAIN)
    if isinstance(n_segments, bool) or not isinstance(n_segments, int) or n_segments < 1:
        raise SourceError(layout.root, f"num_segments is {n_segments!r}, not a positive number", AGAIN)
    return float(rate_hz), ids, n_segments


def _checked_spikes(layout: Layout, n_units: int, n_segments: int) -> SpikeVector:
    """All spikes. Raises SourceError if they refer to a unit or segment that is not there, or are out of order."""
    spikes = layout.spikes()
    sample, unit, segment = spikes
    if not len(sample) == len(unit) == len(segment):
        problem = f"{len(sample)} samples of spikes but {len(unit)} units and {len(segment)} segments"
        raise SourceError(layout.root, problem, AGAIN)
    for name, values, n in (("unit", unit, n_units), ("segment", segment, n_segments)):
        wrong = (values < 0) | (values >= n)
        if wrong.any():
            i = int(wrong.argmax())
            raise SourceError(layout.root, f"spike {i} is of {name} {values[i]}, but there are {n} {name}s", AGAIN)
    if len(sample) and sample.min() < 0:
        i = int(sample.argmin())
        raise SourceError(layout.root, f"spike {i} is at sample {sample[i]}, before the start of the recording", AGAIN)
    order = np.lexsort((sample, segment))
    return SpikeVector(sample[order], unit[order], segment[order])


def _session_id(root: Path, spikes: SpikeVector, segment: int, n_segments: int) -> str:
    name = recording_name(root.with_name(root.name.removesuffix(".zarr")))
    return f"{safe_id(name, 80)}-{_fingerprint(spikes, segment, n_segments)}"


def _fingerprint(spikes: SpikeVector, segment: int, n_segments: int) -> str:
    """The start of the SHA-256 of all spikes, and the segment if there are several."""
    digest = hashlib.sha256()
    for values in spikes:
        digest.update(values.astype("<i8").tobytes())
    return digest.hexdigest()[:8] + (f"-segment{segment}" if n_segments > 1 else "")


def _segment_of(ref: SessionRef, n_segments: int) -> int:
    number = (ref.session_id or "").rpartition("-segment")[2]
    return int(number) if n_segments > 1 and number.isdigit() else 0


def _cluster_ids(ids: list[Any]) -> tuple[NDArray[np.int64], bool]:
    """The unit ids as whole numbers, and whether they are; else the row of each unit."""
    if all(isinstance(unit_id, int) or (isinstance(unit_id, str) and unit_id.isdecimal()) for unit_id in ids):
        numbers = [int(unit_id) for unit_id in ids]
        if len(set(numbers)) == len(numbers) and max(map(abs, numbers)) < 2**63:
            return np.array(numbers, np.int64), True
    return np.arange(len(ids)), False


def _optional(notes: list[str], name: str, read: Callable[[], Any]) -> Any:
    """The result of `read`, or None with a note if it cannot be read."""
    try:
        return read()
    except SourceError as error:
        notes.append(f"{name} left out: {error.problem}")
        return None


def _properties(layout: Layout, n_units: int, notes: list[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    for name in layout.property_names():
        values = _optional(notes, f"property {name}", lambda name=name: layout.property(name))  # type: ignore[misc]
        if values is None:
            continue
        if values.ndim != 1 or len(values) != n_units:
            notes.append(f"property {name} left out: shape {values.shape}, not one value a unit")
            continue
        yield name, values.astype(object) if values.dtype.kind == "U" else values


def _metrics(layout: Layout, ids: list[Any], notes: list[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Columns of the analyzer's metrics, in the order of the units; NaN or empty text where a unit has no row."""
    for extension, name in METRICS:
        table = _optional(notes, extension, lambda e=extension, n=name: layout.table(e, n))  # type: ignore[misc]
        if table is None:
            continue
        rows = {unit_id: row for row, unit_id in enumerate(table[0])}
        if len(rows) != len(table[0]):
            notes.append(f"{extension} left out: a unit has several rows")
            continue
        order = np.array([rows.get(str(unit_id), len(rows)) for unit_id in ids], np.intp)
        for column, values in table[1].items():
            if values.ndim != 1 or len(values) != len(rows) or values.dtype.kind not in "biufOU":
                notes.append(f"{extension} {column} left out: not one value a unit")
                continue
            if values.dtype.kind in "OU":
                yield column, np.append(values.astype(object), "")[order]
            else:
                complete = values.dtype.kind in "biu" and bool((order < len(rows)).all())
                yield column, values[order] if complete else np.append(values.astype(np.float64), np.nan)[order]


def _region(own: list[tuple[str, NDArray[Any]]], channels: _Channels, n_units: int) -> NDArray[Any]:
    named = {name.lower(): values for name, values in own if values.dtype == object}
    of_units = next((named[name] for name in REGIONS if name in named), None)
    return known_names(channels.region if of_units is None else of_units, n_units)


class _Channels:
    """Where the units are, by the analyzer's templates, unit locations and probe.

    Attributes
    ----------
    columns : dict of (n_units,) arrays
        ``peak_channel``, ``depth_um``, ``x_um``, ``y_um``, as far as they are known.
    region : (n_units,) array or None
        By the peak channel.
    """

    def __init__(self, layout: Layout, own: list[tuple[str, NDArray[Any]]], n_units: int, notes: list[str]) -> None:
        self.columns: dict[str, NDArray[Any]] = {}
        self.region: NDArray[Any] | None = None
        attributes = _optional(notes, "recording_attributes", lambda: layout.document("recording_attributes")) or {}
        channel_ids = attributes.get("channel_ids") or []
        positions = _optional(notes, "probegroup", lambda: _positions(layout, len(channel_ids)))
        peak = _main_channels(own, [str(name) for name in channel_ids])
        if peak is None:
            peak = _optional(notes, "templates", lambda: _peaks(layout, n_units, len(channel_ids)))
        if peak is not None:
            names = text_column(str(channel_ids[k]) for k in peak)
            numbers = all(name.isdecimal() for name in names)
            self.columns["peak_channel"] = np.array([int(name) for name in names]) if numbers else names
            if positions is not None:
                self.columns |= {"x_um": positions[peak, 0], "y_um": positions[peak, 1]}
            self._by_channel(attributes.get("properties") or {}, peak)
        located = _optional(notes, "unit_locations", lambda: layout.array("unit_locations", "unit_locations"))
        if located is not None and located.ndim == 2 and located.shape[0] == n_units and located.shape[1] >= 2:
            self.columns |= {"x_um": np.asarray(located[:, 0], float), "y_um": np.asarray(located[:, 1], float)}
        if "y_um" in self.columns:
            self.columns["depth_um"] = self.columns["y_um"]

    def _by_channel(self, properties: dict[str, Any], peak: NDArray[np.int64]) -> None:
        for name in REGIONS:
            values = properties.get(name)
            if isinstance(values, list) and len(values) > int(peak.max()) and all(isinstance(v, str) for v in values):
                self.region = text_column(values[k] for k in peak)
                break


def _main_channels(own: list[tuple[str, NDArray[Any]]], channel_ids: list[str]) -> NDArray[np.int64] | None:
    """Index of the channel that the property ``main_channel_id`` names; None if it does not name one for every unit."""
    index = {name: k for k, name in enumerate(channel_ids)}
    names: list[Any] = next((values.tolist() for name, values in own if name == "main_channel_id"), [])
    found = [index.get(str(name)) for name in names]
    return None if not found or None in found else np.array(found, np.int64)


def _peaks(layout: Layout, n_units: int, n_channels: int) -> NDArray[np.int64] | None:
    """Channel with the largest average template of each unit, by the sign of peaks in the analyzer's settings.

    Analyzers from before SpikeInterface 0.105 have no sign there: either sign counts, as SpikeInterface reads them.
    """
    average = layout.array("templates", "average")
    if average is None:
        return None
    if average.ndim != 3 or average.shape[0] != n_units or average.shape[2] != n_channels:
        problem = f"templates of shape {average.shape} for {n_units} units and {n_channels} channels"
        raise SourceError(layout.root, problem, AGAIN)
    sign = str(layout.document("settings").get("peak_sign", "both"))
    amplitude = {"neg": lambda a: -a, "pos": lambda a: a}.get(sign, np.abs)(average).max(axis=1)
    return np.asarray(amplitude.argmax(axis=1), np.int64)


def _positions(layout: Layout, n_channels: int) -> NDArray[np.float64] | None:
    """(n_channels, 2) x and y of each channel in µm; None if the probe is not known."""
    probes = layout.document("probegroup").get("probes")
    if not probes:
        return None
    places: dict[int, tuple[float, float]] = {}
    try:
        for probe in probes:
            scale = {"um": 1.0, "mm": 1e3, "m": 1e6}[probe.get("si_units", "um")]
            contacts = np.asarray(probe["contact_positions"], float) * scale
            wiring = probe.get("device_channel_indices") or range(len(contacts))
            places |= {int(k): (xy[0], xy[1]) for k, xy in zip(wiring, contacts, strict=True) if int(k) >= 0}
        return np.array([places[k] for k in range(n_channels)])
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise SourceError(layout.root, f"probegroup does not fit {n_channels} channels ({error!r})", AGAIN) from None
