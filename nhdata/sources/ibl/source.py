"""International Brain Laboratory: spike-sorted sessions in ALF folders, as ONE downloads them, or from the network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from nhcatalog.errors import UserError
from nhdata.recording import Provenance, Recording, Spikes
from nhdata.sources import SessionRef, SourceError, SourceOptions
from nhdata.sources._columns import stack_columns
from nhdata.sources._dates import read_iso_date
from nhdata.sources._files import AGAIN, describe_files
from nhdata.sources._http import NetworkError
from nhdata.sources.ibl.alf import probe_collections
from nhdata.sources.ibl.alf_session import SessionName, find_session_folders
from nhdata.sources.ibl.alyx import OddRecord, one_settings
from nhdata.sources.ibl.behaviour import read_behaviour
from nhdata.sources.ibl.list import Listed, SessionList, read_list
from nhdata.sources.ibl.probe import Probe, read_probe
from nhdata.sources.ibl.remote import (
    Network,
    Request,
    check_whole,
    fetch_session,
    find_sessions,
    make_request,
    read_record,
)


class IblSource:
    """Sessions under a ONE cache folder, a lab, a subject, a session or a folder inside one, or of the network.

    All probes of a session become one `Recording` on the session's clock. The spike sorting is taken from the
    collection ``iblsorter``, else ``pykilosort``, else the probe's own folder, each file in its newest
    revision, or of ``SourceOptions.revision``. Behaviour is always the newest.

    A session's id is IBL's own (eid) where ``SourceOptions.eids``, the note of a download, or ONE's table
    ``sessions.pqt`` in the cache folder tells it; else a UUID made from lab, subject, date and number, the
    same on every machine.

    A unit is good where ``clusters.metrics`` has label 1 (all three of IBL's tests passed), or, in tables
    without labels, bitwise_fail 0. Metrics belong to clusters by cluster_id. Clusters without a row there,
    as older files leave out those without spikes, are not good.

    With ``SourceOptions.remote`` sessions are found by `find_sessions` and each is downloaded when it is
    loaded, to the one path given or else ONE's cache folder. With neither, and no path, ONE's cache folder is
    read if it has sessions, else the public release.
    """

    name = "ibl"
    takes = ("revision", "drop_early", "remote", "eids", "search", "no_filter")

    def __init__(self, options: SourceOptions, network: Network | None = None) -> None:
        self.options = options
        self._network = network

    @cached_property
    def network(self) -> Network:
        """The servers; ONE's settings are read when they are first needed."""
        return self._network or Network()

    def iter_sessions(self, paths: Sequence[Path]) -> Iterator[SessionRef]:
        if self.options.remote:
            refs = self._remote(paths)
        elif self.options.search:
            raise UserError("a search without --remote", "add --remote, or leave --search out")
        else:
            refs = self._local(paths) if paths else self._without_path()
        return islice(refs, self.options.limit)

    def _local(self, paths: Sequence[Path]) -> Iterator[SessionRef]:
        listed = self._list()
        found = False
        for folder in find_session_folders(paths):
            try:
                name, eid, one = self._identity(folder)
            except SourceError:
                yield SessionRef(folder, None)
                continue
            if listed is None or one is not None:
                found = True
                yield SessionRef(folder, eid or name.derived_id())
        if listed is not None and not found:
            raise SourceError(paths[0], f"has no session of the list {listed.path}", "add --remote to download them")

    def _remote(self, paths: Sequence[Path]) -> Iterator[SessionRef]:
        if len(paths) > 1:
            raise UserError(f"{len(paths)} paths given for a download", "name one folder to download to")
        folder = paths[0].absolute() if paths else one_settings().cache or self._default_folder()
        for one in find_sessions(self.network, self._list(), self.options.search):
            if one.name is None:
                plain = re.sub(r"[^0-9A-Za-z-]", "_", one.eid)[:60] or "unnamed"
                yield SessionRef(folder / plain, None if one.error else one.eid, remote=True, request=one)
            else:
                eid = one.eid or one.name.derived_id()
                yield SessionRef(folder / one.name.path, eid, remote=True, request=one)

    def prepare(self, ref: SessionRef) -> SessionRef:
        """Look up what a process without a login needs to download the session."""
        listed = ref.request
        if not isinstance(listed, Listed):
            return ref
        request = make_request(self.network, listed)
        path = ref.path
        if listed.name is None and request.one.name is not None:
            path = ref.path.parent / request.one.name.path
        reason = str(request.one.error) if isinstance(request.one.error, OddRecord) else ""
        return replace(ref, path=path, request=request, reason=reason)

    @staticmethod
    def _default_folder() -> Path:
        """Where ONE would download to if it were not set up."""
        from one.params import CACHE_DIR_DEFAULT

        return Path(CACHE_DIR_DEFAULT) / "openalyx.internationalbrainlab.org"

    def _without_path(self) -> Iterator[SessionRef]:
        cache = one_settings().cache
        if cache is not None and cache.is_dir() and next(iter(_tolerant(cache)), None):
            yield from self._local([cache])
            return
        problem = "no path given for source ibl, and ONE has no cache folder with sessions here"
        if self.options.limit is None and self.options.eids is None:
            remedy = "name a PATH with sessions, or --limit N or --eids FILE to download that of the public release"
            raise UserError(problem, remedy)
        try:
            yield from self._remote([])
        except NetworkError as error:
            remedy = f"go online for the public release ({error.problem}), or name a PATH with sessions, or set up ONE"
            raise UserError(problem, remedy) from error

    def _list(self) -> SessionList | None:
        return read_list(self.options.eids) if self.options.eids else None

    def _identity(self, folder: Path) -> tuple[SessionName, str | None, Listed | None]:
        """Name and eid of a session on disk, and its entry in the list."""
        name = SessionName.of(folder)
        eid = read_record(folder).get("eid") or name.eid(folder)
        listed = self._list()
        one = listed.find(name, eid) if listed else None
        return name, one.eid if one else eid, one

    def load(self, ref: SessionRef) -> Recording:
        ref = self.prepare(ref)
        session = ref.path
        if isinstance(ref.request, Request):
            listed: Listed | None = ref.request.one
            if ref.request.one.error is not None:
                raise ref.request.one.error
            fetch_session(self.network, session, ref.request, self.options.revision)
            name = SessionName.of(session)
            eid = ref.request.one.eid or read_record(session).get("eid") or name.eid(session)
        else:
            name, eid, listed = self._identity(session)
        check_whole(session)
        insertions = listed.insertions if listed else {}
        folders = probe_collections(session, self.options.revision)
        probes = [
            read_probe(probe, folder, self.options)
            for probe, folder in folders.items()
            if not insertions or probe in insertions
        ]
        if all(probe.last_s is None for probe in probes):
            raise SourceError(session, "empty recording, no probe has spikes", AGAIN)
        behaviour = read_behaviour(session / "alf")
        ends_s = [probe.last_s for probe in probes if probe.last_s is not None] + behaviour.ends_s

        first_rows = np.cumsum([0, *(len(probe.units["cluster_id"]) for probe in probes)])
        rows = [probe.row + np.int32(first) for probe, first in zip(probes, first_rows, strict=False)]
        files = behaviour.files.union(*(probe.files for probe in probes))
        date, date_notes = read_iso_date(name.date, "the folder's date")
        return Recording(
            source=self.name,
            session_id=eid or name.derived_id(),
            spikes=Spikes(np.concatenate([probe.time_s for probe in probes]), np.concatenate(rows)),
            units=stack_columns([probe.units for probe in probes]),
            stop_s=float(max(ends_s)),
            provenance=Provenance(
                files=describe_files(files, session),
                original_ids={"session": str(name)} | ({"eid": eid} if eid else {}) | dict(insertions),
                rule=" or ".join(dict.fromkeys(probe.rule for probe in probes)),
                dropped=_sum(probes),
                revision=max((probe.revision for probe in probes if probe.revision), default=None),
                notes=(
                    *(note for probe in probes for note in probe.notes),
                    *behaviour.notes,
                    *date_notes,
                    *map(str, read_record(session).get("notes") or ()),
                ),
            ),
            intervals=behaviour.intervals,
            series=behaviour.series,
            subject=name.subject,
            lab=name.lab,
            date=date,
        )


def _tolerant(cache: Path) -> Iterator[Path]:
    """Session folders under a cache folder, none if there are none."""
    try:
        yield from find_session_folders([cache])
    except SourceError:
        return


def _sum(probes: Sequence[Probe]) -> dict[str, int]:
    return dict(sum((probe.dropped for probe in probes), Counter[str]()))
