"""IBL's compact Brain-Wide-Map archive: good units of all 459 sessions in about 6 GB.

`IblCompactSource` reads ``bwm_ephys-<version>.tar`` of ``ibl-brain-wide-map-public/resources/ibl-agent-data`` or a
folder it was unpacked to. The layout, below ``bwm_ephys/<version>/``::

    metadata/units.parquet      one row per good unit: pid, cluster_id, atlas_id, depths (µm), firing_rate, label, …
    metadata/trials.parquet     one row per trial: eid, intervals_0, intervals_1, stimOn_times, …
    spikes/<pid>/meta.json      eid, probe_name, subject, lab, date; dtype and shape of each array
    spikes/<pid>/spike_times_delta_ticks.blosc    (n_spikes,) uint16 or uint32: ticks since the spike before
    spikes/<pid>/spike_clusters.blosc             (n_spikes,) int32: index into cluster_ids
    spikes/<pid>/cluster_ids.blosc                (n_units,) int32
    spikes/<pid>/cluster_spike_counts.blosc       (n_units,) int32

The first spike is at ``time_origin_ticks`` + the first delta; a tick is ``time_quantization_us`` (100 µs). Metrics
beyond those in ``units.parquet``, and rated-bad units, are not in the archive.

The layout was taken from the archive's own builder and two published readers of release 1.2.1
(github.com/int-brain-lab/ibl-ai-agent, ``datasets/bwm_ephys.py`` and ``docs/bwm/ephys.md``); the archive itself was
not at hand. Not verified on it: the units of x, y, z in ``units.parquet`` (taken as m, as in IBL's cluster tables).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.recording import Columns, Provenance, Recording, Spikes
from nhdata.sources import SessionRef, SourceError, SourceOptions
from nhdata.sources._columns import UNKNOWN, add_columns, stack_columns, text_column
from nhdata.sources._dates import read_iso_date
from nhdata.sources._files import AGAIN, existing
from nhdata.sources.ibl.alf_session import is_eid
from nhdata.sources.ibl.archive import open_archive
from nhdata.sources.ibl.behaviour import finite_spans
from nhdata.sources.ibl.compact_shard import Shard, find_shards, read_rows, read_spikes
from nhdata.sources.ibl.compact_wheel import read_compact_wheel
from nhdata.sources.ibl.list import read_list
from nhdata.sources.ibl.regions import MAPPINGS, region_columns

RULE = "label >= 1 and in the brain, as chosen for the archive"
IDS = frozenset({"pid", "eid", "cluster_id", "subject", "date", "session_number", "lab", "probe_name", "spike_count"})
REGION_IDS = frozenset({"acronym", "beryl_id", "beryl_acronym", "cosmos_id", "cosmos_acronym"})
RENAMED = {"depths": "depth_um", "firing_rate": "firing_rate_hz", "channels": "peak_channel"}
RENAMED |= {"lateral_um": "x_um", "axial_um": "y_um"}
METRES = {"x": "ml_um", "y": "ap_um", "z": "dv_um"}


class IblCompactSource:
    """Sessions of the compact archive; a path is the tar archive, a folder it was unpacked to, or one above these.

    Probes of one session (eid) become one `Recording` whose clock is the archive's ticks. The wheel is read from
    the archive ``bwm_behavior-<version>.tar`` where it lies beside, or was unpacked beside (`read_compact_wheel`).
    ``SourceOptions.eids`` chooses sessions.
    """

    name = "ibl-compact"
    takes = ("eids",)

    def __init__(self, options: SourceOptions) -> None:
        self.options = options

    def iter_sessions(self, paths: Sequence[Path]) -> Iterator[SessionRef]:
        listed = {one.eid for one in read_list(self.options.eids).sessions} if self.options.eids else None
        for path in existing(paths):
            places = _releases(path)
            if not places:
                problem = "no tar archive and no folder with spikes/<pid>/meta.json of the compact archive"
                raise SourceError(path, problem, "name bwm_ephys-<version>.tar or the folder it was unpacked to")
            for place in places:
                eids = sorted({shard.text("eid") for shard in find_shards(open_archive(place))})
                yield from (SessionRef(place, eid) for eid in eids if listed is None or eid in listed)

    def load(self, ref: SessionRef) -> Recording:
        archive = open_archive(ref.path)
        shards = sorted(
            (shard for shard in find_shards(archive) if shard.text("eid") == ref.session_id),
            key=lambda shard: shard.text("probe_name"),
        )
        if not shards or ref.session_id is None or not is_eid(ref.session_id):
            raise SourceError(ref.path, f"has no session {ref.session_id}", AGAIN)
        first, tick_us = shards[0], {shard.number("time_quantization_us") for shard in shards}
        tick = tick_us.pop()
        if tick_us or tick < 1 or 1_000_000 % tick:
            raise SourceError(first.where, "the probes' ticks differ, or are no part of a second", AGAIN)
        tick_hz = 1_000_000 / tick
        trains = [read_spikes(shard, tick_hz) for shard in shards]
        notes: list[str] = []
        units = [_units(shard, train.ids, notes) for shard, train in zip(shards, trains, strict=True)]
        first_rows = np.cumsum([0, *(len(train.ids) for train in trains)])
        rows = [train.row + np.int32(start) for train, start in zip(trains, first_rows, strict=False)]
        ticks = np.concatenate([train.ticks for train in trains])
        if not len(ticks):
            raise SourceError(first.where, "empty recording, no probe has spikes", AGAIN)

        trials = _trials(first, ref.session_id, notes)
        series, wheel_file = read_compact_wheel(ref.path, ref.session_id)
        ends_s = [ticks.max() / tick_hz, *(table["stop_s"].max() for table in trials.values() if len(table["stop_s"]))]
        ends_s += [signal.time_s[-1] for signal in series.values()]
        files = {name: file for shard in shards for name, file in shard.used.items()}
        date, date_notes = read_iso_date(first.text("date"), "date in meta.json")
        return Recording(
            source=self.name,
            session_id=ref.session_id,
            spikes=Spikes(ticks, np.concatenate(rows), tick_hz),
            units=stack_columns(units),
            stop_s=float(max(ends_s)),
            provenance=Provenance(
                files=(*(files[name] for name in sorted(files)), *wheel_file),
                original_ids={"eid": ref.session_id} | {shard.text("probe_name"): shard.pid for shard in shards},
                rule=RULE,
                dropped={},
                notes=(
                    *dict.fromkeys(notes),
                    *date_notes,
                    *(
                        f"{shard.text('probe_name')}: {train.n_early} spikes before 0 s of the session's clock left out"
                        for shard, train in zip(shards, trains, strict=True)
                        if train.n_early
                    ),
                ),
            ),
            intervals=trials,
            series=series,
            subject=first.text("subject"),
            lab=first.text("lab"),
            date=date,
        )


def _releases(path: Path) -> list[Path]:
    """Tar archives and folders with a folder ``spikes`` at, or up to two folders under, a path."""
    if path.is_file():
        return [path]
    unpacked = [found.parent for pattern in ("spikes", "*/spikes", "*/*/spikes") for found in path.glob(pattern)]
    return sorted(unpacked) + sorted(found for found in path.glob("bwm_ephys*.tar"))


def _units(shard: Shard, ids: NDArray[np.int64], notes: list[str]) -> dict[str, NDArray[Any]]:
    """The good units' table of one probe, as far as ``units.parquet`` has it."""
    units: dict[str, NDArray[Any]] = {
        "cluster_id": ids,
        "probe": text_column([shard.text("probe_name")] * len(ids)),
        "quality": text_column(["good"] * len(ids)),
    }
    table = read_rows(shard, "metadata/units.parquet", "pid", shard.pid)
    rows = {int(cluster): row for row, cluster in enumerate(table.pop("cluster_id", []))}
    if not table:
        return units | {column: text_column([UNKNOWN] * len(ids)) for column in MAPPINGS}
    if strangers := set(ids.tolist()) - rows.keys():
        problem = f"unit {min(strangers)} of the spikes has no row in metadata/units.parquet"
        raise SourceError(shard.where, problem, "take spikes and tables of one release")
    order = np.array([rows[cluster] for cluster in ids.tolist()], np.intp)
    own = {name: values[order] for name, values in table.items() if name not in IDS | REGION_IDS}
    regions = own.pop("atlas_id", np.full(len(ids), np.nan)).astype(np.float64)
    metres = {new: own.pop(old).astype(np.float64) * 1e6 for old, new in METRES.items() if old in own}
    notes += add_columns(units, region_columns(regions).items(), {})
    notes += add_columns(units, own.items(), RENAMED)
    notes += add_columns(units, metres.items(), {})
    return units


def _trials(shard: Shard, eid: str, notes: list[str]) -> dict[str, Columns]:
    table = read_rows(shard, "metadata/trials.parquet", "eid", eid)
    if "intervals_0" not in table or "intervals_1" not in table:
        return {}
    own = {name: values for name, values in table.items() if name not in IDS}
    return {"trials": finite_spans("trials", own.pop("intervals_0"), own.pop("intervals_1"), own, notes)}
