"""IBL over the network, against a stand-in for Alyx and the public bucket on this machine."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import faults
import numpy as np
import pytest
from click.testing import CliRunner

from nhcatalog.errors import UserError
from nhcli.data import cli
from nhdata.ingest import IngestReport, ingest
from nhdata.recording import Recording
from nhdata.sources import SessionRef, SourceError, SourceOptions
from nhdata.sources import _http as ibl_http
from nhdata.sources._http import Http, NetworkError, PassingTrouble
from nhdata.sources.ibl import download as ibl_download
from nhdata.sources.ibl.alyx import OneSettings
from nhdata.sources.ibl.download import RemoteFile
from nhdata.sources.ibl.list import Listed, session_name
from nhdata.sources.ibl.remote import RECORD, Network, Request, fetch_session
from nhdata.sources.ibl.source import IblSource

from .ibl_server import TOKEN, Handler, StandIn

EID, OTHER = "6713a4a7-faed-4df2-acab-ee4e63326f8d", "56956777-dca5-468c-87cb-78150432cc57"
PID = "56f2a378-78d2-4132-b3c8-8c1ba82be598"
NAME = "alab/Subjects/AB_001/2023-04-05/002"
SPIKES = "probe00/pykilosort/spikes.times"
TIMEOUT_S = 0.3


@pytest.fixture
def server() -> Iterator[StandIn]:
    stand_in = StandIn()
    thread = threading.Thread(target=stand_in.serve_forever, args=(0.01,))
    thread.start()
    yield stand_in
    stand_in.stop.set()
    stand_in.shutdown()
    stand_in.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of ONE and no token on this machine."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("NH_ALYX_TOKEN", "NH_ALYX_URL", "NH_IBL_S3_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bucket(server: StandIn, alf_session: Path) -> StandIn:
    """The session of `alf_session` in the bucket, beside files nobody asked for."""
    rng = np.random.default_rng(3)
    np.save(alf_session / "alf" / "licks.times.npy", np.arange(30.0))
    np.save(alf_session / "alf" / "_ibl_leftCamera.times.npy", np.arange(3000) / 60)
    np.save(alf_session / "alf" / "leftCamera.ROIMotionEnergy.npy", rng.random(3000, np.float32))
    for file in sorted(path for path in alf_session.rglob("*") if path.is_file()):
        put(server, f"{NAME}/{file.relative_to(alf_session).as_posix()}", file.read_bytes())
    for name in ("raw_ephys_data/probe00/raw.ap.cbin", "alf/probe00/spikes.times.npy", "alf/_ibl_leftCamera.dlc.pqt"):
        put(server, f"{NAME}/{name}", b"not asked for")
    put(server, f"{NAME}/alf/probe00/pykilosort/spikes.samples.npy", b"not asked for")
    put(server, "alab/Subjects/AB_000/2023-04-04/001/alf/_ibl_wheel.position.npy", b"no spikes")
    return server


def put(server: StandIn, name: str, content: bytes) -> None:
    stem, _, extension = name.rpartition(".")
    key = f"data/{stem}.{uuid.uuid5(uuid.NAMESPACE_URL, name)}.{extension}"
    server.objects[key] = content


def register(server: StandIn, eid: str, **changes: object) -> dict:
    related = [
        {
            "id": key.split(".")[-2],
            "name": Path(key).name,
            "dataset_type": Path(key).stem,
            "data_url": f"http://elsewhere.invalid/{key}",
            "url": f"http://elsewhere.invalid/datasets/{key.split('.')[-2]}",
            "file_size": len(content),
            "hash": hashlib.md5(content).hexdigest(),
            "version": "3.0.0",
            "collection": Path(key).parent.as_posix(),
            "revision": None,
            "default_dataset": True,
            "default_revision": "True",
            "qc": "NOT_SET",
        }
        for key, content in server.objects.items()
    ]
    record = {
        "id": eid,
        "url": f"{server.url}/alyx/sessions/{eid}",
        "subject": "AB_001",
        "lab": "alab",
        "start_time": "2023-04-05T12:00:00.123456",
        "end_time": None,
        "number": 2,
        "projects": ["ibl_neuropixel_brainwide_01"],
        "task_protocol": "ephys",
        "json": None,
    }
    server.sessions.append(record | {"data_dataset_session_related": related} | changes)
    return server.sessions[-1]


def network(server: StandIn, **changes: object) -> Network:
    http = Http(timeout_s=TIMEOUT_S, attempts=3, backoff_s=0.01, patience_s=0)
    return Network(**{"alyx_url": f"{server.url}/alyx", "s3_url": f"{server.url}/s3", "http": http} | changes)


def freeze(folder: Path, *probes: str) -> Path:
    rows = [f"{PID},{EID},{probe},2,2023-04-05,AB_001,alab" for probe in probes or ("probe00", "probe01")]
    path = folder / "freeze.csv"
    path.write_text("\n".join(["pid,eid,probe_name,session_number,date,subject,lab", *rows]))
    return path


def source(server: StandIn, **options: object) -> IblSource:
    return IblSource(SourceOptions(remote=True, **options), network(server))  # type: ignore[arg-type]


def download(server: StandIn, to: Path, **options: object) -> Recording:
    one = source(server, **options)
    (ref,) = one.iter_sessions([to])
    return one.load(ref)


def same(left: Recording, right: Recording) -> None:
    np.testing.assert_array_equal(left.spikes.time, right.spikes.time)
    np.testing.assert_array_equal(left.spikes.unit, right.spikes.unit)
    for ours, theirs in ((left.units, right.units), *((left.intervals[k], right.intervals[k]) for k in left.intervals)):
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name])
    assert left.series.keys() == right.series.keys()
    for name, series in left.series.items():
        np.testing.assert_array_equal(series.value, right.series[name].value)


def read_local(path: Path) -> Recording:
    local = IblSource(SourceOptions())
    (ref,) = local.iter_sessions([path])
    return local.load(ref)


def test_a_list_needs_no_login_and_brings_what_the_reader_reads(
    bucket: StandIn, alf_session: Path, tmp_path: Path
) -> None:
    recording = download(bucket, tmp_path / "cache2", eids=freeze(tmp_path))
    expected = read_local(alf_session)
    same(recording, expected)
    assert set(recording.series) == {"wheel_position", "wheel_velocity", "motion_energy_left"}
    assert recording.session_id == EID
    assert recording.provenance.original_ids["probe01"] == PID
    assert {file.name for file in recording.provenance.files} == {file.name for file in expected.provenance.files}
    there = {path.name for path in (tmp_path / "cache2").rglob("*") if path.is_file()}
    wanted = {Path(file.name).name for file in expected.provenance.files}
    assert there == wanted | {RECORD}
    assert bucket.count("/alyx/") == 0
    assert not any("Authorization" in headers for _, headers in bucket.seen)
    again = read_local(tmp_path / "cache2")  # without the list: the eid was noted
    assert again.session_id == EID


def test_one_insertion_of_two(bucket: StandIn, tmp_path: Path) -> None:
    recording = download(bucket, tmp_path / "cache2", eids=freeze(tmp_path, "probe01"))
    assert set(recording.units["probe"]) == {"probe01"}
    assert not list((tmp_path / "cache2").rglob("probe00"))


def test_revision(bucket: StandIn, alf_session: Path, tmp_path: Path) -> None:
    for probe, shift_s, revision in (
        ("probe00/pykilosort", 1.0, "2024-05-06"),
        ("probe00/pykilosort", 9.0, "2025-01-01"),
    ):
        file = alf_session / "alf" / probe / "spikes.times.npy"
        later = tmp_path / "later.npy"
        np.save(later, np.load(file) + shift_s)
        put(bucket, f"{NAME}/alf/{probe}/#{revision}#/spikes.times.npy", later.read_bytes())
    listed = freeze(tmp_path, "probe00")
    old = download(bucket, tmp_path / "cache2", eids=listed, revision="2024-05-06")
    new = download(bucket, tmp_path / "cache2", eids=listed)
    assert (old.provenance.revision, new.provenance.revision) == ("2024-05-06", "2025-01-01")
    np.testing.assert_allclose(new.spikes.time - old.spikes.time, 8.0)


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        *((SPIKES, kind) for kind in ("hang", "503", "429", "cut", "damage")),
        *(("list-type", kind) for kind in ("hang", "500", "cut")),
    ],
)
def test_trouble_that_passes(bucket: StandIn, alf_session: Path, tmp_path: Path, kind: str, where: str) -> None:
    bucket.faults = [(where, kind)] * 2
    recording = download(bucket, tmp_path / "cache2", eids=freeze(tmp_path))
    assert bucket.faults == []
    same(recording, read_local(alf_session))
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("hang", f"said nothing for {TIMEOUT_S} s"),
        ("503", "answered 503 Service Unavailable"),
        ("cut", "of an answer"),
        ("damage", "arrived damaged: its MD5 differs"),
    ],
)
def test_trouble_that_stays_is_one_line_and_a_later_run_goes_on(
    bucket: StandIn, alf_session: Path, tmp_path: Path, kind: str, problem: str
) -> None:
    bucket.faults = [(SPIKES, kind)] * 3
    with pytest.raises(NetworkError) as caught:
        download(bucket, tmp_path / "cache2", eids=freeze(tmp_path))
    message = str(caught.value)
    assert f"/s3/data/{NAME}/alf/{SPIKES}." in message
    assert problem in message
    assert "(3 attempts)" in message
    assert "\n" not in message
    assert not list((tmp_path / "cache2").rglob("spikes.times.npy"))
    with pytest.raises(SourceError, match=r"its download was interrupted: \d+ of \d+ files are missing.*--remote"):
        read_local(tmp_path / "cache2")

    bucket.seen.clear()
    same(download(bucket, tmp_path / "cache2", eids=freeze(tmp_path)), read_local(alf_session))
    fetched = Counter(path for path, _ in bucket.seen if "list-type" not in path)
    assert max(fetched.values()) == 1
    bucket.seen.clear()
    download(bucket, tmp_path / "cache2", eids=freeze(tmp_path))
    assert bucket.count("/s3/data") == 0  # nothing is fetched twice


def test_goes_on_from_the_byte_where_it_broke_off(bucket: StandIn, tmp_path: Path) -> None:
    key = next(key for key in bucket.objects if SPIKES in key)
    bucket.objects[key] = bucket.objects[key] + bytes(400_000)  # too long for one chunk; no longer a sound array
    bucket.faults = [(SPIKES, "cut"), (SPIKES, "cut")]
    with pytest.raises(SourceError, match="truncated or damaged"):
        download(bucket, tmp_path / "cache2", eids=freeze(tmp_path))
    starts = [int(headers.get("Range", "bytes=0-")[6:-1]) for path, headers in bucket.seen if SPIKES in path]
    assert starts[0] == 0
    assert 0 < starts[1] < starts[2] < len(bucket.objects[key])
    (there,) = (tmp_path / "cache2").rglob("probe00/*/spikes.times.npy")
    assert there.read_bytes() == bucket.objects[key]


@pytest.mark.parametrize("multipart", [True, False])
def test_a_file_that_differs_is_replaced(bucket: StandIn, alf_session: Path, tmp_path: Path, multipart: bool) -> None:
    bucket.multipart = multipart
    shutil.copytree(alf_session.parents[4], tmp_path / "cache2")
    target = tmp_path / "cache2" / NAME / "alf" / "probe00" / "pykilosort" / "spikes.times.npy"
    content = target.read_bytes()
    target.write_bytes(content[:-8] if multipart else content[:-8] + bytes(8))
    same(download(bucket, tmp_path / "cache2", eids=freeze(tmp_path)), read_local(alf_session))
    assert bucket.count("/s3/data") == 1
    assert target.read_bytes() == content


def test_checksums_of_the_database_for_files_uploaded_in_parts(
    bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NH_ALYX_TOKEN", TOKEN)
    bucket.multipart = True
    record = register(bucket, EID)
    bucket.faults = [(SPIKES, "damage")]
    download(bucket, tmp_path / "cache2", eids=freeze(tmp_path))
    assert bucket.count(SPIKES) == 2
    for related in record["data_dataset_session_related"]:
        related["hash"] = "0" * 32
    with pytest.raises(NetworkError, match="MD5 differs"):
        download(bucket, tmp_path / "cache3", eids=freeze(tmp_path))


def test_search_is_paged_simple_and_by_token(
    bucket: StandIn,
    alf_session: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("NH_ALYX_TOKEN", TOKEN)
    register(bucket, OTHER, subject="AB_000", start_time="2023-04-04T09:00:00", number=1)  # has no spikes
    register(bucket, EID)
    bucket.faults = [("/alyx/sessions", "503"), ("/alyx/sessions", "hang")]
    recording = download(bucket, tmp_path / "cache2", search=("tag=Brainwidemap", "lab=alab"))
    same(recording, read_local(alf_session))
    assert recording.session_id == EID
    queries = [parse_qs(urlsplit(path).query) for path, _ in bucket.seen if path.startswith("/alyx/sessions?")]
    assert {query["offset"][0] for query in queries} == {"0", "1"}
    assert all(set(query) == {"tag", "lab", "limit", "offset"} for query in queries)
    assert all("django" not in query for query in queries)
    assert all(("Authorization" in headers) == ("/alyx/" in path) for path, headers in bucket.seen)
    list(source(bucket).iter_sessions([tmp_path]))
    assert bucket.count("project=ibl_neuropixel_brainwide_01&task_protocol=ephys&") == 2
    assert not any(TOKEN in path for path, _ in bucket.seen)
    assert TOKEN not in caplog.text


def test_a_search_wants_a_login_and_a_filter_it_knows(
    bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"a search needs a login: .*NH_ALYX_TOKEN"):
        list(source(bucket, search=("subject=AB_001",)).iter_sessions([tmp_path]))
    monkeypatch.setenv("NH_ALYX_TOKEN", TOKEN)
    for bad in ("django=subject__x,1", "subject", "subject="):
        with pytest.raises(UserError, match=f"cannot search for '{bad}': write KEY=VALUE"):
            list(source(bucket, search=(bad,)).iter_sessions([tmp_path]))
    with pytest.raises(UserError, match="a search without --remote"):
        IblSource(SourceOptions(search=("subject=x",)), network(bucket)).iter_sessions([tmp_path])
    assert bucket.seen == []


def test_a_wrong_token_is_refused_without_showing_it(
    bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NH_ALYX_TOKEN", "wr0ng")
    with pytest.raises(NetworkError, match="answered 403 Forbidden: check the login") as caught:
        list(source(bucket).iter_sessions([tmp_path]))
    assert "wr0ng" not in str(caught.value) + repr(caught.value)
    assert bucket.count("/alyx/") == 1  # a refusal does not pass


def one_set_up(home: Path, url: str, cache: Path) -> None:
    """What ``ONE.setup`` and a login leave in the home folder."""
    folder = home / ".one"
    folder.mkdir(parents=True)
    (folder / ".caches").write_text(json.dumps({"CLIENT_MAP": {"there": str(cache)}, "DEFAULT": "there"}))
    own = {"ALYX_URL": url, "ALYX_LOGIN": "me", "TOKEN": {"me": {"token": TOKEN}, "you": {"token": "another"}}}
    (folder / ".there").write_text(json.dumps(own))


def test_the_login_of_one_is_used_at_its_own_address_only(bucket: StandIn, tmp_path: Path) -> None:
    one_set_up(tmp_path / "home", f"{bucket.url}/alyx/", tmp_path / "cache2")
    register(bucket, EID)
    assert Network(s3_url=f"{bucket.url}/s3").alyx_url == f"{bucket.url}/alyx"
    one = source(bucket)
    (ref,) = one.iter_sessions([])
    assert ref == SessionRef(tmp_path / "cache2" / NAME, EID, remote=True)
    assert network(bucket, alyx_url=bucket.url).alyx.token is None
    assert TOKEN not in repr(OneSettings(token=TOKEN))


def test_a_token_travels_encrypted_or_not_at_all(
    bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NH_ALYX_TOKEN", TOKEN)
    far = network(bucket, alyx_url="http://alyx.invalid")
    with pytest.raises(UserError, match="must not be sent unencrypted"):
        list(IblSource(SourceOptions(remote=True), far).iter_sessions([tmp_path]))


def test_bare_eids_are_looked_up_and_an_unknown_one_fails_alone(
    bucket: StandIn, alf_session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "eids.txt"
    listed.write_text(f"{OTHER}\n{EID}\n")
    one = source(bucket, eids=listed)
    with pytest.raises(UserError, match=f"has eids only, and where {OTHER} lies is known to logged-in users"):
        list(one.iter_sessions([tmp_path / "cache2"]))
    monkeypatch.setenv("NH_ALYX_TOKEN", TOKEN)
    register(bucket, EID)
    unknown, known = one.iter_sessions([tmp_path / "cache2"])
    assert (unknown.session_id, known.session_id) == (OTHER, EID)
    assert bucket.seen == []
    unknown, known = one.prepare(unknown), one.prepare(known)
    assert known.path == tmp_path / "cache2" / NAME
    with pytest.raises(NetworkError, match=f"/alyx/sessions/{OTHER}: answered 404"):
        one.load(unknown)
    same(one.load(known), read_local(alf_session))


def test_a_listed_session_without_spikes_says_so(bucket: StandIn, tmp_path: Path) -> None:
    listed = freeze(tmp_path)
    listed.write_text(listed.read_text().replace("AB_001", "AB_009"))
    with pytest.raises(SourceError, match=r"has no spikes.times of probe00, probe01 of this session"):
        download(bucket, tmp_path / "cache2", eids=listed)


def test_the_public_release_without_list_or_login(bucket: StandIn, alf_session: Path, tmp_path: Path) -> None:
    put(bucket, "zlab/Subjects/Z/2023-04-05/001/alf/probe00/spikes.times.npy", b"not asked for")
    recording = download(bucket, tmp_path / "cache2", limit=1)
    same(recording, read_local(alf_session))
    assert recording.session_id == read_local(alf_session).session_id  # its eid is not known
    assert bucket.count("zlab") == 0


@pytest.mark.parametrize("name", ["../spikes.times.npy", "../task_00/../licks.times.npy", "./_ibl_wheel.position.npy"])
def test_names_that_lead_elsewhere_are_not_followed(bucket: StandIn, tmp_path: Path, name: str) -> None:
    bucket.objects[f"data/{NAME}/alf/{name}"] = b"x"
    bucket.objects[f"data/{NAME}/alf//spikes.clusters.npy"] = b"x"
    recording = download(bucket, tmp_path / "cache2", eids=freeze(tmp_path))
    record = json.loads((tmp_path / "cache2" / NAME / RECORD).read_text())
    assert record["files"].keys() == {file.name.removeprefix("alf/") for file in recording.provenance.files}


def test_a_list_without_end_is_no_list(bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "<a><IsTruncated>true</IsTruncated><NextContinuationToken>7</NextContinuationToken></a>"
    monkeypatch.setattr(Handler, "listing", lambda self, query: page.encode())
    with pytest.raises(NetworkError, match="something else than a list of 'data/'"):
        list(source(bucket).iter_sessions([tmp_path]))
    assert len(bucket.seen) == 2


def test_an_endless_answer_is_cut_off(bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ibl_http, "MAX_ANSWER_BYTES", 10)
    with pytest.raises(NetworkError, match="answers with more than"):
        list(source(bucket).iter_sessions([tmp_path]))


def test_attempts_that_bring_much_do_not_count(server: StandIn, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(8 << 20)
    server.objects["big"] = content
    file = RemoteFile(f"{server.url}/s3/big", len(content), hashlib.md5(content).hexdigest())
    server.faults = [("big", "cut")] * 4  # half of the rest each time: 4, 2, 1 and 1/2 MiB
    assert ibl_download.download(network(server).http, file, tmp_path / "a" / "big")
    assert (tmp_path / "a" / "big").read_bytes() == content
    assert not ibl_download.download(network(server).http, file, tmp_path / "a" / "big")


def test_waits_grow_and_heed_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(ibl_http.time, "sleep", waits.append)
    troubles = iter([0.0, 0.0, 7.0, 1e9, 0.0])

    def attempt() -> None:
        raise PassingTrouble("busy", next(troubles))

    with pytest.raises(NetworkError, match=r"http://x: busy \(5 attempts\)"):
        Http(attempts=5, backoff_s=0.5, patience_s=0).patiently("http://x", attempt)
    assert waits == [0.5, 1.0, 7.0, ibl_http.MAX_WAIT_S]


@pytest.mark.parametrize("where", ["list-type", "/alyx/sessions"])
def test_answers_that_are_something_else(
    bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("NH_ALYX_TOKEN", TOKEN)
    register(bucket, EID)
    bucket.faults = [(where, "nonsense")]
    with pytest.raises(NetworkError, match="answers something else than a "):
        list(source(bucket).iter_sessions([tmp_path]))


@pytest.mark.parametrize("change", [{"lab": "../.."}, {"number": None}, {"id": "1/../../"}, {"start_time": "now"}])
def test_an_odd_record_of_a_search_fails_alone(
    bucket: StandIn, alf_session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict
) -> None:
    monkeypatch.setenv("NH_ALYX_TOKEN", TOKEN)
    register(bucket, OTHER, **change)
    register(bucket, EID)
    one = source(bucket)
    odd, sound = one.iter_sessions([tmp_path / "cache2"])
    assert (odd.session_id, sound.session_id) == (None, EID)
    assert str(change.get("id", OTHER)) in one.prepare(odd).reason
    assert one.prepare(sound).reason == ""
    assert odd.path.parent == tmp_path / "cache2"
    with pytest.raises(NetworkError, match=r"names no session folder|is not a UUID of version 4") as caught:
        one.load(odd)
    assert str(change.get("id", OTHER)) in str(caught.value)
    same(one.load(sound), read_local(alf_session))


def set_hashes(record: dict, content: dict[str, bytes], make: Callable[[bytes], str]) -> None:
    by_uuid = {key.split(".")[-2]: value for key, value in content.items()}
    for related in record["data_dataset_session_related"]:
        related["hash"] = make(by_uuid[related["id"]])


@pytest.mark.parametrize(
    ("make", "verified"),
    [
        (lambda content: hashlib.md5(content).hexdigest().upper(), True),
        (lambda content: hashlib.sha1(content).hexdigest(), True),
        (lambda content: "crc:12", False),
        (lambda content: None, False),
    ],
)
def test_hashes_of_the_database_are_of_several_kinds(
    bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[bytes], str], verified: bool
) -> None:
    monkeypatch.setenv("NH_ALYX_TOKEN", TOKEN)
    set_hashes(register(bucket, EID), bucket.objects, make)
    bucket.faults = [(SPIKES, "damage")]
    recording = download(bucket, tmp_path / "cache2", eids=freeze(tmp_path))
    assert bucket.count(SPIKES) == 2
    assert any("not verified against the database" in note for note in recording.provenance.notes) == (not verified)


@pytest.mark.parametrize("digits", [32, 40])
def test_a_disagreement_of_database_and_bucket_is_no_fault_of_the_network(
    bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: int
) -> None:
    monkeypatch.setenv("NH_ALYX_TOKEN", TOKEN)
    set_hashes(register(bucket, EID), bucket.objects, lambda content: "0" * digits)
    kind = "MD5" if digits == 32 else "SHA-1"
    with pytest.raises(NetworkError, match=f"the database has another {kind} .* than the file in the bucket"):
        download(bucket, tmp_path / "cache2", eids=freeze(tmp_path))
    assert bucket.count("/s3/data") == 1
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("token", ["t0k\nX-Evil: 1", "t0k en", "t0k\u00e9n", "t0k\u2013n"])
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_token_that_is_none_is_never_shown(
    bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str, debug: list[str]
) -> None:
    monkeypatch.setenv("NH_ALYX_TOKEN", token)
    monkeypatch.setenv("NH_ALYX_URL", f"{bucket.url}/alyx")
    words = ["ingest", "--source", "ibl", "--remote", str(tmp_path / "c"), "--store", str(tmp_path / "d.zarr"), *debug]
    monkeypatch.setattr(sys, "argv", ["nhdata", *words])
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1
    assert "NH_ALYX_TOKEN is not a token" in result.output + str(result.exception)
    assert "t0k" not in result.output + repr(result.exception)
    assert bucket.seen == []


def test_white_space_around_a_token_is_left_out(
    bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NH_ALYX_TOKEN", f" {TOKEN}\r\n")
    register(bucket, EID)
    assert [ref.session_id for ref in source(bucket).iter_sessions([tmp_path])] == [EID]


def test_a_header_that_http_refuses_is_one_line_without_the_token(server: StandIn) -> None:
    with pytest.raises(NetworkError, match="no valid request") as caught:
        network(server).http.read(f"{server.url}/alyx/sessions", token="t0k\n")
    assert "t0k" not in str(caught.value)


def test_a_refusal_of_the_bucket_names_the_bucket(bucket: StandIn, tmp_path: Path) -> None:
    bucket.faults = [("list-type", "403")]
    with pytest.raises(NetworkError, match="does not allow reading without a login: check NH_IBL_S3_URL"):
        download(bucket, tmp_path / "cache2", eids=freeze(tmp_path))


def test_an_outage_is_waited_for_once_the_server_has_answered(
    bucket: StandIn, alf_session: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.faults = [(SPIKES, "drop")] * 9
    http = Http(timeout_s=TIMEOUT_S, attempts=2, backoff_s=0.0001, patience_s=60)
    one = IblSource(SourceOptions(remote=True, eids=freeze(tmp_path)), network(bucket, http=http))
    (ref,) = one.iter_sessions([tmp_path / "cache2"])
    same(one.load(ref), read_local(alf_session))
    assert bucket.faults == []
    assert caplog.text.count("trying again for 60 s") == 1


def test_a_server_that_never_answered_is_given_up_soon(tmp_path: Path) -> None:
    nowhere = Http(attempts=5, backoff_s=0.001)
    with pytest.raises(NetworkError, match=r"cannot be reached \(2 attempts\)"):
        nowhere.read("http://127.0.0.1:9/")


@pytest.mark.parametrize("yes_no", [("True", "False"), (True, False)], ids=["text", "boolean"])
def test_the_default_revision_of_the_database_and_no_withdrawn_files(
    bucket: StandIn, alf_session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, yes_no: tuple[object, object]
) -> None:
    times = alf_session / "alf" / "probe00" / "pykilosort" / "spikes.times.npy"
    later = tmp_path / "later.npy"
    np.save(later, np.load(times) + 1.0)
    put(bucket, f"{NAME}/alf/probe00/pykilosort/#2025-01-01#/spikes.times.npy", later.read_bytes())
    monkeypatch.setenv("NH_ALYX_TOKEN", TOKEN)
    record = register(bucket, EID)
    related = record["data_dataset_session_related"]
    for one in related:
        one["default_revision"] = yes_no["#2025" in one["collection"]]
    bucket.withdrawn = {one["id"] for one in related if one["name"].startswith("licks.times")}
    recording = download(bucket, tmp_path / "cache2", eids=freeze(tmp_path))
    np.testing.assert_array_equal(recording.spikes.time, read_local(alf_session).spikes.time)
    assert "licks" not in recording.intervals
    asked = download(bucket, tmp_path / "cache3", eids=freeze(tmp_path, "probe00"), revision="2025-01-01")
    assert asked.provenance.revision == "2025-01-01"
    monkeypatch.delenv("NH_ALYX_TOKEN")
    assert "licks" in download(bucket, tmp_path / "cache4", eids=freeze(tmp_path)).intervals


def test_another_process_uses_the_addresses_and_checksums_of_the_client(
    bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NH_ALYX_TOKEN", TOKEN)
    set_hashes(register(bucket, EID), bucket.objects, lambda content: "0" * 32)
    one = source(bucket, eids=freeze(tmp_path))
    (ref,) = map(one.prepare, one.iter_sessions([tmp_path / "cache2"]))
    sent = pickle.dumps((SourceOptions(remote=True, eids=tmp_path / "not-here.csv"), ref))
    assert TOKEN.encode() not in sent
    load = (
        "import pickle, sys\n"
        "from nhdata.sources.ibl.source import IblSource\n"
        "options, ref = pickle.load(sys.stdin.buffer)\n"
        "try: IblSource(options).load(ref)\n"
        "except Exception as error: print(error)\n"
    )
    elsewhere = {"NH_ALYX_URL": "http://127.0.0.1:9", "NH_IBL_S3_URL": "http://127.0.0.1:9"}
    environment = {key: value for key, value in os.environ.items() if key != "NH_ALYX_TOKEN"} | elsewhere
    worker = subprocess.run([sys.executable, "-c", load], input=sent, env=environment, capture_output=True, check=True)
    assert f"{bucket.url}/s3/" in worker.stdout.decode()
    assert "the database has another MD5" in worker.stdout.decode()


def test_exceptions_at_any_file_operation_of_a_download(bucket: StandIn, tmp_path: Path) -> None:
    kept = (SPIKES, "probe00/pykilosort/spikes.clusters", "licks.times")
    bucket.objects = {key: value for key, value in bucket.objects.items() if any(name in key for name in kept)}
    request = Request(f"{bucket.url}/s3", Listed(EID, session_name("alab", "AB_001", "2023-04-05", "2")), None, False)

    def fetch(folder: Path) -> None:
        fetch_session(network(bucket), folder, request, None)

    def files(folder: Path) -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    with faults.record(tmp_path) as operations:
        fetch(tmp_path / "whole")
    whole = files(tmp_path / "whole")
    for number, fault in enumerate(faults.sample(operations, lambda operation: operation.kind)):
        for error in faults.ERRORS:
            folder = tmp_path / f"{number}{error.__name__}"
            with faults.inject(fault._replace(error=error), tmp_path) as state, suppress(error):
                fetch(folder)
            assert state.fired
            there = files(folder) if folder.exists() else {}
            assert all(whole[name] == content for name, content in there.items() if not name.endswith(".part"))
            fetch(folder)
            assert files(folder) == whole
            shutil.rmtree(folder)


def test_without_a_path_ones_cache_is_read_first(bucket: StandIn, alf_session: Path, tmp_path: Path) -> None:
    one_set_up(tmp_path / "home", "http://127.0.0.1:9", alf_session.parents[4])
    (ref,) = IblSource(SourceOptions(), network(bucket)).iter_sessions([])
    assert ref == SessionRef(alf_session, read_local(alf_session).session_id)
    assert bucket.seen == []


def test_without_a_path_or_cache_the_public_release(bucket: StandIn, alf_session: Path, tmp_path: Path) -> None:
    one = IblSource(SourceOptions(limit=1), network(bucket))
    (ref,) = one.iter_sessions([])
    assert ref.remote
    assert ref.path.is_relative_to(tmp_path / "home" / "Downloads" / "ONE")
    same(one.load(ref), read_local(alf_session))
    with pytest.raises(UserError, match=r"no path given .*: name a PATH with sessions, or --limit N or --eids FILE"):
        list(IblSource(SourceOptions(), network(bucket)).iter_sessions([]))


def test_offline_says_how_to_get_either(tmp_path: Path, server: StandIn) -> None:
    nobody = network(server, s3_url="http://127.0.0.1:9")
    with pytest.raises(UserError) as caught:
        list(IblSource(SourceOptions(limit=1), nobody).iter_sessions([]))
    assert "cannot be reached" in str(caught.value)
    assert "go online for the public release" in caught.value.remedy
    assert "name a PATH" in caught.value.remedy
    assert "\n" not in str(caught.value)


def test_the_command(bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NH_IBL_S3_URL", f"{bucket.url}/s3/")
    words = ["ingest", "--source", "ibl", "--remote", "--eids", str(freeze(tmp_path)), str(tmp_path / "cache2")]
    words += ["--store", str(tmp_path / "d.zarr"), "--min-good-units", "1", "--json"]
    first = CliRunner().invoke(cli, words)
    assert first.exit_code == 0, first.stderr
    (one,) = json.loads(first.stdout)["ingested"]
    assert (one["session_id"], one["n_units"]) == (EID, 7)
    bucket.seen.clear()
    second = CliRunner().invoke(cli, words)
    assert json.loads(second.stdout)["skipped"][0]["reason"] == "already in the store"
    assert bucket.seen == []


def test_the_database_is_asked_only_about_sessions_to_ingest(
    bucket: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NH_IBL_S3_URL", f"{bucket.url}/s3")
    monkeypatch.setenv("NH_ALYX_URL", f"{bucket.url}/alyx")
    monkeypatch.setenv("NH_ALYX_TOKEN", TOKEN)
    register(bucket, EID)
    register(bucket, OTHER, number=None)
    listed = tmp_path / "eids.txt"
    listed.write_text(f"{OTHER}\n{EID}\n")
    options = SourceOptions(remote=True, eids=listed)

    def run(existing: str) -> IngestReport:
        bucket.seen.clear()
        cache = [tmp_path / "cache2"]
        return ingest(tmp_path / "d.zarr", "ibl", cache, options=options, existing=existing, min_good_units=1)  # type: ignore[arg-type]

    first = run("skip")
    (odd,) = first.skipped
    assert ([one.session_id for one in first.ingested], first.failed) == ([EID], [])
    assert f"sessions/{OTHER}: the record names no session folder" in odd.reason
    assert "number None" in odd.reason
    assert not odd.in_store
    assert [one.in_store for one in run("skip").skipped] == [False, True]
    assert [path for path, _ in bucket.seen] == [f"/alyx/sessions/{OTHER}"]
    run("refresh")
    assert bucket.count(f"/alyx/sessions/{EID}") == 1


def test_workers_know_that_the_bucket_answered_the_client(bucket: StandIn, tmp_path: Path) -> None:
    one = source(bucket, eids=freeze(tmp_path))
    (ref,) = one.iter_sessions([tmp_path / "cache2"])
    assert bucket.seen == []
    request = one.prepare(ref).request
    assert isinstance(request, Request)
    assert request.answered
    n_seen = len(bucket.seen)
    one.prepare(ref)
    assert len(bucket.seen) == n_seen


def test_a_bucket_that_cannot_be_reached_is_one_error_for_all_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NH_IBL_S3_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(ibl_http.time, "sleep", lambda seconds: None)
    listed = freeze(tmp_path)
    listed.write_text(f"{listed.read_text()}\n{PID},{OTHER},probe00,1,2023-04-04,AB_000,alab")
    options = SourceOptions(remote=True, eids=listed)
    with pytest.raises(NetworkError, match=r"cannot be reached \(2 attempts\)"):
        ingest(tmp_path / "d.zarr", "ibl", [tmp_path / "cache2"], options=options)
