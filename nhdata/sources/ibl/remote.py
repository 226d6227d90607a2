"""IBL sessions over the network: find them, and download what the reader needs of one."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from nhcatalog.errors import UserError
from nhdata.sources import SourceError
from nhdata.sources._http import Http, NotFound, expect_answers, has_answered
from nhdata.sources.ibl.alf import dataset_name, newest_versions, probe_folders, revision_of
from nhdata.sources.ibl.alyx import Alyx, Dataset, OddRecord, one_settings
from nhdata.sources.ibl.bucket import Bucket
from nhdata.sources.ibl.download import RemoteFile, download
from nhdata.sources.ibl.list import Listed, SessionList

ALYX_URL = "https://openalyx.internationalbrainlab.org"
S3_URL = "https://ibl-brain-wide-map-public.s3.amazonaws.com"
RECORD = "nhdata_download.json"
REFUSED = "check the login: a token in NH_ALYX_TOKEN, or run ONE's own set-up"
REFUSED_BY_BUCKET = "the bucket does not allow reading without a login: check NH_IBL_S3_URL"
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
    http: Http = field(default_factory=Http)

    @property
    def alyx(self) -> Alyx:
        return Alyx(self.alyx_url, replace(self.http, on_refusal=REFUSED))

    @property
    def bucket(self) -> Bucket:
        return Bucket(self.s3_url, replace(self.http, on_refusal=REFUSED_BY_BUCKET))


@dataclass(frozen=True, slots=True)
class Request:
    """All that a process with another environment and no login needs to download a session.

    Attributes
    ----------
    s3_url : str
        Address of the bucket.
    one : Listed
    datasets : mapping of str to Dataset, or None
        What the database says about the session's files, by UUID; None where there is no login or no eid.
    answered : bool
        Whether the bucket has answered the process that made the request.
    """

    s3_url: str
    one: Listed
    datasets: Mapping[str, Dataset] | None
    answered: bool


def make_request(network: Network, one: Listed) -> Request:
    """Look up all that needs the login: where the session lies, and its files.

    A session that the database does not know, or whose record names no folder, gets the error as ``one.error``.
    The bucket is asked once in this process, so that workers know that it answers and wait out an outage.

    Raises
    ------
    NetworkError
        If the database or the bucket does not answer or refuses.
    """
    datasets = None
    if one.error is None and one.eid and network.alyx.token:
        try:
            one, datasets = network.alyx.session(one)
        except (NotFound, OddRecord) as error:
            one = replace(one, error=error)
    if one.error is None and one.name is not None and not has_answered(network.s3_url):
        network.bucket.has_spikes(one.name)  # one error here if it cannot be reached, not one for each session
    return Request(network.s3_url, one, datasets, has_answered(network.s3_url))


def find_sessions(network: Network, listed: SessionList | None, filters: Sequence[str]) -> Iterator[Listed]:
    """Sessions to download: those of a list, else those of a search, else, without a login, all of the bucket.

    A list that says where its sessions lie needs no login. What the bucket itself tells has no eid, which then is
    an empty text. Sessions without spike sorting are passed over, but for listed ones. A record of a search that
    names no session folder is given with an error. Where a list has eids only, `make_request` looks up the rest.

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
            yield one
    elif network.alyx.token:
        for one in network.alyx.search(filters):
            if one.error or one.name is None or network.bucket.has_spikes(one.name):
                yield one
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


def without_other_revisions(
    files: Collection[PurePosixPath], datasets: Mapping[str, Dataset], revision: str | None
) -> list[PurePosixPath]:
    """Leave out withdrawn files, and revisions beside the one that the database marks as the default.

    A file is withdrawn if the database knows files of the session but not this one. The spike sorting keeps all
    revisions where `revision` is given.
    """
    listed = [file for file in files if not datasets or _uuid(file) in datasets]
    defaults: dict[tuple[PurePosixPath, str], PurePosixPath] = {}
    for file in listed:
        if datasets and datasets[_uuid(file)].default:
            defaults[_dataset_key(file)] = file

    def is_kept(file: PurePosixPath) -> bool:
        folder, _ = _dataset_key(file)
        is_behaviour = folder == PurePosixPath(".") or folder.name.startswith("task_")
        return (revision is not None and not is_behaviour) or defaults.get(_dataset_key(file), file) == file

    return [file for file in listed if is_kept(file)]


def _uuid(file: PurePosixPath) -> str:
    return file.stem.rpartition(".")[2]


def _dataset_key(file: PurePosixPath) -> tuple[PurePosixPath, str]:
    return file.parent.parent if revision_of(file) else file.parent, dataset_name(file)


def fetch_session(network: Network, folder: Path, request: Request, revision: str | None) -> None:
    """Download what the reader needs of a session, and note in `RECORD` what that is.

    Whole files that are there are kept, an interrupted download goes on.

    Raises
    ------
    SourceError
        If the server has no spike sorting of the session.
    NetworkError
        If a file does not arrive.
    """
    one = request.one
    assert one.name is not None
    if request.answered:
        expect_answers(request.s3_url)
    network = replace(network, s3_url=request.s3_url)
    files = network.bucket.session_files(one.name)
    datasets = request.datasets or {}
    chosen = choose_files(without_other_revisions(files, datasets, revision), revision, one.insertions)
    if not any(dataset_name(file) == "spikes.times.npy" for file in chosen):
        probes = f" of {', '.join(one.insertions)}" if one.insertions else ""
        problem = f"{network.s3_url} has no spikes.times{probes} of this session"
        raise SourceError(folder, problem, "leave it out, or check the list")
    wanted = {
        local: replace(files[file], digest=datasets.get(_uuid(file), Dataset()).digest)
        for file, local in chosen.items()
    }
    _write_record(folder, one, {local.as_posix(): file.size for local, file in wanted.items()}, _notes(wanted.values()))
    for local, remote in wanted.items():
        download(network.bucket.http, remote, folder / "alf" / local)


def _notes(files: Collection[RemoteFile]) -> list[str]:
    """Say how many files were not verified against the database."""
    by_etag = sum(file.digest is None and file.md5 is not None for file in files)
    by_size = sum(file.digest is None and file.md5 is None for file in files)
    notes = [f"{by_etag} files not verified against the database: the bucket's ETag was checked"] if by_etag else []
    return notes + ([f"{by_size} files not verified by a checksum: the size was checked"] if by_size else [])


def _write_record(folder: Path, one: Listed, sizes: dict[str, int], notes: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    before = read_record(folder)
    record = {"eid": one.eid or before.get("eid", ""), "files": before.get("files", {}) | sizes, "notes": notes}
    part = folder / f"{RECORD}.part"
    try:
        part.write_text(json.dumps(record, indent=1))
        os.replace(part, folder / RECORD)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_record(folder: Path) -> dict[str, Any]:
    """Read the note of `fetch_session`: ``eid``, the sizes of ``files`` and ``notes``; empty where there is none."""
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
