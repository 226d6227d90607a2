"""Allen downloads: the worker beside stand-ins for AllenSDK and uv, and, where asked, AllenSDK itself."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import faults
import h5py
import numpy as np
import pytest
import requests
from click.testing import CliRunner

from nhcatalog.errors import UserError
from nhcli.data import cli
from nhdata.sources import open_source
from nhdata.sources.allen.download import WORKER, download

ALLENSDK = pytest.mark.skipif(
    shutil.which("uv") is None or os.environ.get("NH_TEST_ALLENSDK") != "1",
    reason="makes AllenSDK's environment (minutes): set NH_TEST_ALLENSDK=1 and install uv",
)

STAND_IN = '''
import pandas as pd
from pathlib import Path

class EcephysProjectWarehouseApi:
    """Answers like AllenSDK's, from files."""

    @classmethod
    def default(cls, asynchronous, host, timeout):
        return cls()

    def get_sessions(self):
        return pd.DataFrame({"has_nwb": [True, False, True, True]}, index=pd.Index([30, 10, 20, 40], name="id"))

    def get_probes(self):
        return pd.DataFrame({"name": ["probeA"]}, index=pd.Index([1], name="id"))

    get_channels = get_units = get_probes

    def get_session_data(self, session_id):
        print("AllenSDK prints this")
        data = (Path(__file__).parents[3] / "server" / str(session_id)).read_bytes()
        yield from (data[i : i + 1000] for i in range(0, len(data), 1000))
        if session_id == 40:
            raise ConnectionError("the line broke")
'''


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder with a package ``allensdk`` that serves sessions 20, 30 and, broken, 40."""
    package = tmp_path / "allensdk" / "brain_observatory" / "ecephys"
    package.mkdir(parents=True)
    (package / "ecephys_project_api.py").write_text(STAND_IN)
    (tmp_path / "server").mkdir()
    for session_id in ("20", "30", "40"):
        with h5py.File(tmp_path / "server" / session_id, "w") as file:
            file["units/id"] = np.arange(5000)
    return tmp_path


def run_worker(stand_in: Path, folder: Path, *limit: str) -> tuple[int, list[dict]]:
    command = [sys.executable, str(WORKER), str(folder), *limit]
    environment = os.environ | {"PYTHONPATH": str(stand_in)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_worker_fills_a_cache_folder(stand_in: Path) -> None:
    folder = stand_in / "cache"
    code, events = run_worker(stand_in, folder, "2")
    names = [folder / f"session_{i}" / f"session_{i}.nwb" for i in (20, 30)]
    assert (code, events) == (
        0,
        [{"event": "sessions", "n": 2}, *({"event": "session", "path": str(name)} for name in names)],
    )
    assert [name.read_bytes() for name in names] == [(stand_in / "server" / i).read_bytes() for i in ("20", "30")]
    tables = {f"{name}.csv" for name in ("sessions", "probes", "channels", "units")}
    assert set(files_of(folder)) == tables | {str(name.relative_to(folder)) for name in names}


def test_the_worker_leaves_alone_what_is_there(stand_in: Path) -> None:
    folder = stand_in / "cache"
    run_worker(stand_in, folder, "2")
    (folder / "session_20" / "session_20.nwb").write_text("damaged, but mine")
    (folder / "units.csv").write_text("damaged, but mine")
    before = files_of(folder)
    code, events = run_worker(stand_in, folder)
    assert code == 1
    assert events[-1] == {"event": "error", "message": "ConnectionError: the line broke"}
    assert files_of(folder) == before


def test_what_the_server_sends_must_be_a_whole_file(stand_in: Path) -> None:
    whole = (stand_in / "server" / "20").read_bytes()
    for body in (whole[: len(whole) // 2], b"<html>503</html>", b""):
        (stand_in / "server" / "20").write_bytes(body)
        code, events = run_worker(stand_in, stand_in / "cache", "1")
        assert (code, events[-1]["event"]) == (1, "error")
        assert not list((stand_in / "cache").rglob("*session_20.nwb*"))


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a program named uv on the path that does what a piece of shell says."""

    def make(shell: str) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "uv").write_text(f"#!/bin/sh\n{shell}\n")
        (tmp_path / "bin" / "uv").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    return make


def test_the_worker_is_run_by_uv(uv, tmp_path: Path) -> None:
    uv(
        'echo "$@" > called; echo noise; echo \'{"event": "sessions", "n": 1}\'; '
        f'echo \'{{"event": "session", "path": "{tmp_path}/a.nwb"}}\''.replace("called", str(tmp_path / "called"))
    )
    heard: list[dict] = []
    assert download(tmp_path / "cache", limit=3, on_event=heard.append) == [tmp_path / "a.nwb"]
    assert heard == [{"event": "sessions", "n": 1}, {"event": "session", "path": f"{tmp_path}/a.nwb"}]
    called = (tmp_path / "called").read_text().split()
    assert called == ["run", "--quiet", "--script", str(WORKER), str(tmp_path / "cache"), "3"]


@pytest.mark.parametrize(
    ("shell", "problem"),
    [
        ('echo \'{"event": "error", "message": "no route"}\'; exit 1', "failed (no route)"),
        ("printf 'note\\nerror: No solution\\n  found' >&2; exit 2", "(error: No solution found)"),
        ("exit 1", "(it said nothing)"),
    ],
)
def test_failures_are_one_line(uv, tmp_path: Path, shell: str, problem: str) -> None:
    uv(shell)
    with pytest.raises(UserError) as caught:
        download(tmp_path / "cache")
    assert caught.value.problem.endswith(problem)
    assert "\n" not in str(caught.value)
    assert "run the same command again" in caught.value.remedy


def test_without_uv_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"uv.* is not installed: install it"):
        download(tmp_path)


def test_the_worker_does_not_outlive_an_interrupt(uv, tmp_path: Path) -> None:
    uv(f'echo $$ > {tmp_path}/pid; echo \'{{"event": "sessions", "n": 1}}\'; exec sleep 60')

    def interrupt(event: dict) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(tmp_path / "cache", on_event=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.realdata
def test_the_command_ingests_what_it_downloaded(uv, realdata: Path, tmp_path: Path) -> None:
    path = realdata / "allen" / "session_715093703" / "session_715093703.nwb"
    uv(f'echo \'{{"event": "session", "path": "{path}"}}\'')
    store = str(tmp_path / "data.zarr")
    arguments = ["ingest", "--source", "allen", "--download", "--limit", "1", str(tmp_path), "--store", store]
    done = CliRunner().invoke(cli, arguments)
    assert (done.exit_code, done.stdout) == (
        0,
        "715093703  allen  38 of 119 units  242704 spikes  session_715093703.nwb\n",
    )


@pytest.mark.parametrize("arguments", [["--source", "nwb", "x"], ["--source", "allen", "x", "y"]])
def test_download_is_for_one_allen_folder(arguments: list[str]) -> None:
    done = CliRunner().invoke(cli, ["ingest", "--download", *arguments])
    assert done.exit_code == 1
    assert "error: --download brings Allen sessions into one folder: nhdata ingest" in done.stderr


def spoil_units(path: Path) -> None:
    """Make each rule of the filter matter: no structure, invalid channels, NaN metrics, values at the limits."""
    rng = np.random.default_rng(8)
    with h5py.File(path, "a") as file:
        electrodes, units = file["general/extracellular_ephys/electrodes"], file["units"]
        for channel, name in enumerate(["", "None", "VISp", "VISp"] * (len(electrodes["id"]) // 4)):
            electrodes["location"][channel] = name
        electrodes["valid_data"][:] = rng.random(len(electrodes["id"])) < 0.9
        limits = {"isi_violations": 0.5, "amplitude_cutoff": 0.1, "presence_ratio": 0.95}
        for name, limit in limits.items():
            units[name][:] = rng.choice(
                [limit, limit - 0.01, limit + 0.01, np.nan], len(units["id"]), p=[0.7, 0.1, 0.1, 0.1]
            )


@ALLENSDK
@pytest.mark.realdata
@pytest.mark.timeout(1200)
def test_allensdk_reads_the_same_units_and_spikes(realdata: Path, tmp_path: Path) -> None:
    original = realdata / "allen" / "session_715093703" / "session_715093703.nwb"
    spoilt = tmp_path / "session_1.nwb"
    shutil.copyfile(original, spoilt)
    spoil_units(spoilt)
    pairs = [str(path) for file in (original, spoilt) for path in (file, tmp_path / f"{file.stem}.npz")]
    script = Path(__file__).with_name("allensdk_reference.py")
    subprocess.run(["uv", "run", "--quiet", "--script", str(script), *pairs], check=True)
    for file in (original, spoilt):
        theirs = np.load(tmp_path / f"{file.stem}.npz")
        source = open_source("allen")
        (ref,) = source.iter_sessions([file])
        ours = source.load(ref)
        assert len(theirs["unit"]) >= 10
        order = np.argsort(theirs["unit"])
        rows = np.argsort(ours.units["cluster_id"])
        assert ours.units["cluster_id"][rows].tolist() == theirs["unit"][order].tolist()
        assert ours.units["probe"][rows].tolist() == theirs["probe"][order].tolist()
        assert ours.units["region"][rows].tolist() == theirs["structure"][order].tolist()
        assert ours.units["depth_um"][rows].tolist() == theirs["depth_um"][order].tolist()
        trains = np.split(theirs["time_s"], np.cumsum(theirs["n_spikes"]))
        for row, place in zip(rows, order, strict=True):
            np.testing.assert_array_equal(ours.spikes.time[ours.spikes.unit == row], trains[place])


ANSWERS = {
    "EcephysSession": {
        "id": 20,
        "stimulus_name": "brain_observatory_1.1",
        "specimen": {"donor": {"age": {"days": 100}, "sex": "M", "full_genotype": None}},
        "fail_eye_tracking": False,
        "well_known_files": [{"well_known_file_type": {"name": "EcephysNwb"}}],
    },
    "EcephysProbe": {"id": 1, "name": "probeA", "use_lfp_data": True},
    "EcephysChannel": {"id": 2, "ecephys_structure_acronym": "VISp"},
    "EcephysUnit": {"id": 3, "snr": 1.0},
    "WellKnownFile": {"id": 4, "download_link": "session.nwb"},
}


@ALLENSDK
@pytest.mark.timeout(600)
def test_allensdks_web_api_fills_the_folder(stand_in: Path) -> None:
    body = (stand_in / "server" / "20").read_bytes()

    class Warehouse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            model = next((name for name in ANSWERS if f"model::{name}," in f"{self.path},"), None)
            answer = {"success": True, "num_rows": 1, "total_rows": 1, "msg": [ANSWERS.get(model)]}
            data = json.dumps(answer).encode() if model else body
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Warehouse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = stand_in / "cache"
    try:
        host = f"127.0.0.1:{server.server_port}"
        command = ["uv", "run", "--quiet", "--script", str(WORKER), str(folder), "5", host]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        server.shutdown()
        server.server_close()
    assert json.loads(done.stdout.splitlines()[-1])["event"] == "session"
    assert (folder / "session_20" / "session_20.nwb").read_bytes() == body
    assert (folder / "sessions.csv").read_text().splitlines()[0].startswith("id,session_type")


def test_exceptions_at_any_file_operation_of_the_worker(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(stand_in))
    monkeypatch.setattr(requests, "get", requests.get)  # the worker replaces it
    worker = runpy.run_path(str(WORKER))

    def fetch(folder: Path) -> None:
        worker["download"](folder, 1, "nowhere.invalid", lambda **event: None)

    with faults.record(stand_in) as operations:
        fetch(stand_in / "whole")
    whole = files_of(stand_in / "whole")
    assert len(whole) == 5
    for number, fault in enumerate(faults.sample(operations, lambda one: f"{one.kind} {Path(one.path).suffixes}")):
        for error in faults.ERRORS:
            folder = stand_in / f"{number}{error.__name__}"
            with faults.inject(fault._replace(error=error), stand_in) as state, suppress(error):
                fetch(folder)
            assert state.fired
            there = files_of(folder) if folder.exists() else {}
            assert all(whole[name] == content for name, content in there.items() if not name.endswith(".part"))
            fetch(folder)
            assert files_of(folder) == whole
    for name in [name for name in sys.modules if name.split(".")[0] == "allensdk"]:
        del sys.modules[name]
