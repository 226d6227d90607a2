"""NWB at an address, against a web server on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from nhcatalog.errors import UserError
from nhcli.data import cli
from nhdata.recording import Recording
from nhdata.sources import SourceError, SourceOptions, find_sessions
from nhdata.sources._http import Http
from nhdata.sources.nwb import http_file
from nhdata.sources.nwb.http_file import HttpFile
from nhdata.sources.nwb.source import NwbSource
from nhdata.sources.phy.source import PhySource

from .web import FileServer

HTTP = Http(timeout_s=0.3, attempts=3, backoff_s=0.01, patience_s=0)
SOURCE = NwbSource(SourceOptions(), HTTP)


@pytest.fixture
def server(nwb_file: Path) -> Iterator[FileServer]:
    one = FileServer(nwb_file.parent)
    yield one
    one.close()


def load_one(place: str | Path) -> Recording:
    (ref,) = find_sessions(SOURCE, [place])
    return SOURCE.load(ref)


def same(one: Recording, other: Recording) -> bool:
    np.testing.assert_array_equal(one.spikes.time, other.spikes.time)
    np.testing.assert_array_equal(one.spikes.unit, other.spikes.unit)
    for name, column in one.units.items():
        np.testing.assert_array_equal(column, other.units[name])
    return (one.session_id, one.stop_s, [*one.series], [*one.intervals]) == (
        other.session_id,
        other.stop_s,
        [*other.series],
        [*other.intervals],
    )


def test_a_remote_file_is_the_local_one_with_its_address_and_version(server: FileServer, nwb_file: Path) -> None:
    url = f"{server.url}/session.nwb"
    remote = load_one(url)
    assert same(remote, load_one(nwb_file))
    assert remote.provenance.original_ids == {"identifier": "Mouse 1/é", "url": url, "etag": '"one"'}
    assert remote.provenance.files == ()
    assert all(wanted.startswith("bytes=") for _, wanted in server.asked)


@pytest.mark.parametrize("block", [64, 4096])
@pytest.mark.parametrize("n_blocks", [2, 5])
def test_any_piece_of_a_file(server: FileServer, monkeypatch: pytest.MonkeyPatch, block: int, n_blocks: int) -> None:
    monkeypatch.setattr(http_file, "BLOCK", block)
    monkeypatch.setattr(http_file, "MAX_BLOCKS", n_blocks)
    whole = np.random.default_rng(0).integers(0, 256, 1000, np.uint8).tobytes()
    (server.folder / "bytes").write_bytes(whole)
    file = HttpFile(f"{server.url}/bytes", HTTP)
    rng = np.random.default_rng(1)
    for start, n in [(0, 1000), (0, 0), (999, 5), (1000, 1), (2000, 3), *rng.integers(0, 400, (30, 2)).tolist()]:
        file.seek(start)
        assert file.read(n) == whole[start : start + n]
        assert len(file._blocks) <= n_blocks
    assert file.seek(-10, 2) == 990
    assert file.read() == whole[-10:]


def test_neighbouring_blocks_are_asked_for_together_and_kept(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_file, "BLOCK", 100)
    (server.folder / "bytes").write_bytes(bytes(1000))
    file = HttpFile(f"{server.url}/bytes", HTTP)
    for _ in range(2):
        file.seek(0)
        file.read(1000)
    assert [wanted for _, wanted in server.asked] == ["bytes=0-99", "bytes=100-999"]


@pytest.mark.parametrize("kind", ["503", "cut", "hang", "stall"])
def test_trouble_that_passes(server: FileServer, nwb_file: Path, kind: str) -> None:
    (ref,) = SOURCE.iter_urls([f"{server.url}/session.nwb"])
    server.faults.append(("session.nwb", kind))
    assert same(SOURCE.load(ref), load_one(nwb_file))
    assert server.faults == []


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("404", "answered 404"),
        ("403", "answered 403 Forbidden: check that it is public"),
        ("*503", r"answered 503 .*\(3 attempts\)"),
        ("*hang", r"said nothing for 0\.3 s \(3 attempts\)"),
        ("*stall", r"said nothing for 0\.3 s \(3 attempts\)"),
        ("*cut", r"broke off in the middle of an answer \(3 attempts\)"),
        ("no ranges", "sends no parts of a file: download"),
        ("wrong range", "sends bytes"),
    ],
)
def test_trouble_that_stays_is_one_line(server: FileServer, kind: str, problem: str) -> None:
    (ref,) = SOURCE.iter_urls([f"{server.url}/session.nwb"])
    server.faults.append(("session.nwb", kind))
    with pytest.raises(UserError, match=f"{ref.url}: .*{problem}"):
        SOURCE.load(ref)


@pytest.mark.parametrize("kind", ["*404", "*cut", "changed"])
def test_trouble_in_the_middle_is_named_though_hdf5_hides_it(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(http_file, "BLOCK", 4096)
    file = HttpFile(f"{server.url}/session.nwb", HTTP)
    monkeypatch.setattr("nhdata.sources.nwb.file.HttpFile", lambda url, http: file)  # opened already
    (ref,) = [next(iter(find_sessions(SOURCE, [f"{server.url}/session.nwb"])))]
    file._blocks.clear()
    server.faults.append(("session.nwb", kind))
    problem = {"*404": "answered 404", "*cut": "broke off", "changed": "changed while it was read"}[kind]
    with pytest.raises(UserError, match=problem):
        SOURCE.load(ref)


def test_what_is_no_nwb_file_says_so(server: FileServer) -> None:
    (server.folder / "page.nwb").write_text("<html>" * 1000)
    with pytest.raises(SourceError, match=r"page\.nwb: not a whole NWB"):
        load_one(f"{server.url}/page.nwb")


def test_zarr_at_an_address_without_its_metadata_says_so(server: FileServer) -> None:
    folder = server.folder / "x.nwb.zarr"
    folder.mkdir()
    with pytest.raises(UserError, match=r"\.zmetadata: answered 404"):
        load_one(f"{server.url}/x.nwb.zarr")
    (folder / ".zmetadata").write_text(json.dumps({"metadata": 3}))
    with pytest.raises(SourceError, match="no consolidated metadata"):
        load_one(f"{server.url}/x.nwb.zarr/")


def test_only_sources_that_can_take_addresses(server: FileServer) -> None:
    with pytest.raises(UserError, match="source phy reads no addresses"):
        list(find_sessions(PhySource(SourceOptions()), [f"{server.url}/ks"]))


def test_paths_and_addresses_together_through_the_command(server: FileServer, tmp_path: Path) -> None:
    other = tmp_path / "other.nwb"
    other.write_bytes((server.folder / "session.nwb").read_bytes())
    with h5py.File(other, "a") as file:
        del file["identifier"]
        file["identifier"] = "other"
    places = (other, f"{server.url}/session.nwb", f"{server.url}/gone.nwb")
    args = ("ingest", "--source", "nwb", *places, "--min-good-units", 1, "--store", tmp_path / "d.zarr", "--json")
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    assert result.exit_code == 3
    value = json.loads(result.stdout)
    assert sorted(one["session_id"][:5] for one in value["ingested"]) == ["Mouse", "other"]
    (failed,) = value["failed"]
    assert failed["path"] == f"{server.url}/gone.nwb"
    assert "answered 404" in failed["error"]
