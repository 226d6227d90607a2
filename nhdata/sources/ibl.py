"""International Brain Laboratory: spike-sorted sessions in ALF folders, as ONE downloads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nhdata.recording import Provenance, Recording, Spikes
from nhdata.sources import SessionRef, SourceError, SourceOptions
from nhdata.sources._columns import stack_columns
from nhdata.sources._files import AGAIN, describe_files
from nhdata.sources.alf import Collection, SessionName, find_session_folders, probe_collections
from nhdata.sources.ibl_behaviour import read_intervals, read_wheel
from nhdata.sources.ibl_probe import read_probe


class IblSource:
    """Sessions under a ONE cache folder, a lab, a subject, a session or a folder inside one.

    All probes of a session become one `Recording` on the session's clock. The spike sorting is taken from the
    collection ``iblsorter``, else ``pykilosort``, else the probe's own folder, each file in its newest
    revision. A session's id is IBL's own (eid) where ONE's table ``sessions.pqt`` lies in the cache folder;
    else a UUID made from lab, subject, date and number, the same on every machine.

    A unit is good where ``clusters.metrics`` has label 1 (all three of IBL's tests passed), or, in tables
    without labels, bitwise_fail 0. Metrics belong to clusters by cluster_id. Clusters without a row there,
    as older files leave out those without spikes, are not good.
    """

    name = "ibl"

    def __init__(self, options: SourceOptions) -> None:
        pass

    def iter_sessions(self, paths: Sequence[Path]) -> Iterator[SessionRef]:
        for folder in find_session_folders(paths):
            try:
                yield SessionRef(folder, self._session_id(folder))
            except SourceError:
                yield SessionRef(folder, None)

    @staticmethod
    def _session_id(folder: Path) -> str:
        name = SessionName.of(folder)
        return name.eid(folder) or name.derived_id()

    def load(self, ref: SessionRef) -> Recording:
        session = ref.path
        name = SessionName.of(session)
        eid = name.eid(session)
        probes = [read_probe(probe, folder) for probe, folder in probe_collections(session).items()]
        if all(probe.last_s is None for probe in probes):
            raise SourceError(session, "empty recording, no probe has spikes", AGAIN)

        alf = Collection.open(session / "alf")
        intervals = read_intervals(alf)
        series = read_wheel(alf)
        ends_s = [probe.last_s for probe in probes if probe.last_s is not None]
        ends_s += [table["stop_s"].max() for table in intervals.values() if len(table["stop_s"])]
        ends_s += [signal.time_s[-1] for signal in series.values()]

        first_rows = np.cumsum([0, *(len(probe.units["cluster_id"]) for probe in probes)])
        rows = [probe.row + np.int32(first) for probe, first in zip(probes, first_rows, strict=False)]
        dropped: Counter[str] = sum((probe.dropped for probe in probes), Counter())
        files = alf.used.union(*(probe.files for probe in probes))
        return Recording(
            source=self.name,
            session_id=eid or name.derived_id(),
            spikes=Spikes(np.concatenate([probe.time_s for probe in probes]), np.concatenate(rows)),
            units=stack_columns([probe.units for probe in probes]),
            stop_s=float(max(ends_s)),
            provenance=Provenance(
                files=describe_files(files, session),
                original_ids={"session": str(name)} | ({"eid": eid} if eid else {}),
                rule=" or ".join(dict.fromkeys(probe.rule for probe in probes)),
                dropped=dict(dropped),
                revision=max((probe.revision for probe in probes if probe.revision), default=None),
            ),
            intervals=intervals,
            series=series,
            subject=name.subject,
            lab=name.lab,
            date=name.date,
        )
