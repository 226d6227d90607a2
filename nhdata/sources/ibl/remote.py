"""IBL sessions over the network: find them, and download what the reader needs of one."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from nhcatalog.errors import UserError
from nhdata.sources import SourceError
from nhdata.sources._http import Http, NotFound
from nhdata.sources.ibl.alf import dataset_name, newest_versions, probe_folders, revision_of
from nhdata.sources.ibl.alyx import Alyx, one_settings
from nhdata.sources.ibl.bucket import Bucket
from nhdata.sources.ibl.download import RemoteFile, download
from nhdata.sources.ibl.list import Listed, SessionList

ALYX_URL = "https://openalyx.internationalbrainlab.org"
S3_URL = "https://ibl-brain-wide-map-public.s3.amazonaws.com"
RECORD = "nhdata_download.json"
REFUSED = "check the login: a token in NH_ALYX_TOKEN, or run ONE's own set-up"
LOGIN = "register at openalyx.internationalbrainlab.org and put the token in NH_ALYX_TOKEN, or log in once with ONE"

PROBE_FILES = frozenset(
    {
        "spikes.times.npy",
        "spikes.clusters.npy",
        *(f"clusters.{name}.npy" for name in ("channels", "depths", "amps", "peakToTrough")),
        "clusters.metrics.pqt",
        "clusters.metrics.csv",
        "clusters.uuids.csv",
        *(f"channels.{name}.npy" for name in ("localCoordinates", "mlapdv", "brainLocationIds_ccf_2017")),
    }
)
BEHAVIOUR_OBJECTS = frozenset({"trials", "wheel", "wheelMoves", "licks"})
CAMERA_FILES = frozenset(
    f"{camera}Camera.{name}.npy" for camera in ("left", "right", "body") for name in ("times", "ROIMotionEnergy")
)


@dataclass(frozen=True, slots=True)
class Network:
    """Where sessions come from.

    Attributes
    ----------
    alyx_url, s3_url : str
        Database and bucket; by default ``$NH_ALYX_URL`` and ``$NH_IBL_S3_URL``, else those of ONE's settings and
        of the public release.
    http : Http
    """

    alyx_url: str = field(
        default_factory=lambda: (os.environ.get("NH_ALYX_URL") or one_settings().url or ALYX_URL).rstrip("/")
    )
    s3_url: str = field(default_factory=lambda: os.environ.get("NH_IBL_S3_URL", S3_URL).rstrip("/"))
    http: Http = field(default_factory=lambda: Http(on_refusal=REFUSED))

    @property
    def alyx(self) -> Alyx:
        return Alyx(self.alyx_url, self.http)

    @property
    def bucket(self) -> Bucket:
        return Bucket(self.s3_url, self.http)


def find_sessions(network: Network, listed: SessionList | None, filters: Sequence[str]) -> Iterator[Listed]:
    """Sessions to download: those of a list, else those of a search, else, without a login, all of the bucket.

    A list that says where its sessions lie needs no login. What the bucket itself tells has no eid, which then is
    an empty text. Sessions without spike sorting are passed over, but for listed ones; a listed eid that the
    database does not know is given without a name.

    Raises
    ------
    UserError
        If what was asked for needs a login, or the network fails.
    """
    if listed is not None:
        for one in listed.sessions:
            if one.name is None and not network.alyx.token:
                problem = f"{listed.path} has eids only, and where {one.eid} lies is known to logged-in users only"
                raise UserError(problem, f"{LOGIN}; or name a table that has lab, subject, date and session_number")
            try:
                yield one if one.name else network.alyx.session(one.eid)
            except NotFound:
                yield one
    elif network.alyx.token:
        yield from (one for one in network.alyx.search(filters) if one.name and network.bucket.has_spikes(one.name))
    elif filters:
        raise UserError("a search needs a login", LOGIN)
    else:
        yield from (Listed("", name) for name in network.bucket.sessions_with_spikes())


def choose_files(
    files: Collection[PurePosixPath], revision: str | None, probes: Collection[str]
) -> dict[PurePosixPath, PurePosixPath]:
    """Of a session's files, those that the reader would read.

    Parameters
    ----------
    files : collection of paths
        Relative to the session's folder ``alf``.
    revision : str or None
        Of the spike sorting; behaviour is always the newest.
    probes : collection of str
        Empty for all.

    Returns
    -------
    dict of path to path
        The place on disk, without UUID, by the file's own path.
    """
    folders: dict[PurePosixPath, list[PurePosixPath]] = {}
    for file in files:
        folders.setdefault(file.parent.parent if revision_of(file) else file.parent, []).append(file)
    chosen: list[PurePosixPath] = []
    for probe, folder in probe_folders(files, revision).items():
        if not probes or probe in probes:
            newest = newest_versions(folders[folder], revision)
            chosen += (file for name, file in newest.items() if name in PROBE_FILES)
    for folder, inside in folders.items():
        if folder == PurePosixPath(".") or (len(folder.parts) == 1 and folder.name.startswith("task_")):
            newest = newest_versions(inside)
            chosen += (file for name, file in newest.items() if _is_behaviour(name))
    return {file: file.with_name(_local_name(file)) for file in chosen}


def _is_behaviour(name: str) -> bool:
    known = name.partition(".")[0] in BEHAVIOUR_OBJECTS and name.endswith((".npy", "trials.table.pqt"))
    return known or name in CAMERA_FILES


def _local_name(file: PurePosixPath) -> str:
    namespace = "_ibl_" if file.name.startswith("_ibl_") else ""
    return namespace + dataset_name(file)


def fetch_session(network: Network, folder: Path, one: Listed, revision: str | None) -> None:
    """Download what the reader needs of a session, and note in `RECORD` what that is.

    Whole files that are there are kept, an interrupted download goes on.

    Raises
    ------
    SourceError
        If the server has no spike sorting of the session.
    NetworkError
        If a file does not arrive.
    """
    assert one.name is not None
    files = network.bucket.session_files(one.name)
    chosen = choose_files(files, revision, one.insertions)
    if not any(dataset_name(file) == "spikes.times.npy" for file in chosen):
        probes = f" of {', '.join(one.insertions)}" if one.insertions else ""
        problem = f"{network.s3_url} has no spikes.times{probes} of this session"
        raise SourceError(folder, problem, "leave it out, or check the list")
    checksums = network.alyx.checksums(one.eid) if one.eid and network.alyx.token else {}
    wanted = {}
    for file, local in chosen.items():
        uuid = file.stem.rpartition(".")[2]
        wanted[local] = RemoteFile(files[file].url, files[file].size, checksums.get(uuid, files[file].md5))
    _write_record(folder, one, {local.as_posix(): file.size for local, file in wanted.items()})
    for local, remote in wanted.items():
        download(network.http, remote, folder / "alf" / local)


def _write_record(folder: Path, one: Listed, sizes: dict[str, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    before = read_record(folder)
    record = {"eid": one.eid or before.get("eid", ""), "files": before.get("files", {}) | sizes}
    part = folder / f"{RECORD}.part"
    part.write_text(json.dumps(record, indent=1))
    os.replace(part, folder / RECORD)


def read_record(folder: Path) -> dict[str, Any]:
    """What `fetch_session` noted in a session's folder: ``eid`` and the sizes of ``files``; empty without a note."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    sound = isinstance(record, dict) and isinstance(record.get("eid"), str) and isinstance(record.get("files"), dict)
    return record if sound else {}


def check_whole(folder: Path) -> None:
    """Raise SourceError if a download of this session was interrupted."""
    files: dict[str, int] = read_record(folder).get("files", {})
    missing = [name for name in files if not (folder / "alf" / name).is_file()]
    if missing:
        problem = f"its download was interrupted: {len(missing)} of {len(files)} files are missing, e.g. {missing[0]}"
        raise SourceError(folder, problem, "run the download again with --remote; it goes on where it stopped")
