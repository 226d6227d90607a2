"""Ctrl-C and SIGTERM while workers are at work: the exit code, and one line that says how many sessions are done."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nhdata
from nhdata.ingest import ingest
from nhdata.sources import SourceOptions

NHDATA = str(Path(sys.executable).parent / "nhdata")
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
N_INGESTED, N_STORED = 500, 3


def wait_for(event: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if event():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def begun(fifo: Path, writers: list[int]) -> bool:
    """Whether somebody reads a FIFO; the reader waits until the file in `writers` is closed."""
    try:
        writers.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    return True


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the spikes of the last session are a FIFO: reading them takes until it is written to."""
    root = tmp_path_factory.mktemp("interrupted") / "data.zarr"
    ingest(root, "synthetic", [], options=SourceOptions(n_sessions=N_STORED, n_units=12, duration_s=10.0))
    fifo = root / nhdata.open(root).sql("select path from sessions order by path").to_pylist()[-1]["path"]
    fifo /= "spikes/tick/c/0"
    fifo.unlink()
    os.mkfifo(fifo)
    return root


@pytest.fixture
def where(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Options of a command: processes of this machine, or a dask scheduler with a worker of three threads."""
    if request.param == "jobs":
        yield ["--jobs", "2"]
        return
    from distributed import LocalCluster

    tcp: dict[str, Any] = {"protocol": "tcp", "host": "127.0.0.1", "dashboard_address": None}
    with LocalCluster(n_workers=1, threads_per_worker=3, processes=False, **tcp) as cluster:
        yield ["--scheduler", cluster.scheduler_address]


def copied(store: Path, to: Path) -> tuple[Path, Path]:
    """A copy of the store, and its FIFO."""
    (fifo,) = (path for path in store.rglob("0") if path.is_fifo())
    shutil.copytree(store, to, ignore=lambda folder, names: ["0"] if Path(folder) == fifo.parent else [])
    os.mkfifo(to / fifo.relative_to(store))
    return to, to / fifo.relative_to(store)


@pytest.mark.parametrize(("where", "first"), [("scheduler", signal.SIGTERM)], indirect=["where"])
def test_ends_with_one_line(where: list[str], first: signal.Signals, store: Path, tmp_path: Path) -> None:
    ingested = tmp_path / "ingested.zarr"
    counted, counts_fifo = copied(store, tmp_path / "counted.zarr")
    described, features_fifo = copied(store, tmp_path / "described.zarr")
    second = signal.SIGTERM if first is signal.SIGINT else signal.SIGINT
    synthetic = ["--source", "synthetic", "--sessions", str(N_INGESTED), "--units", "12", "--seconds", "30"]
    writers: list[int] = []
    runs = {
        "ingest": (first, [*synthetic, "--store", str(ingested)]),
        "counts": (second, ["--bin", "0.1", "--store", str(counted), "--out", str(tmp_path / "counts")]),
        "features": (first, ["--window", "1", "5", "--store", str(described), "--out-dir", str(tmp_path / "features")]),
    }
    events: dict[str, Callable[[], bool]] = {
        "ingest": lambda: len(list(ingested.glob("catalog/log/*.json"))) > 4,  # both processes are at work
        "counts": lambda: begun(counts_fifo, writers),
        "features": lambda: begun(features_fifo, writers),
    }
    if "--jobs" in where:  # three commands with two processes each take long to start
        del runs["features"]
    processes = {
        name: subprocess.Popen([NHDATA, name, *options, *where], stderr=subprocess.PIPE, text=True)
        for name, (_, options) in runs.items()
    }
    try:
        errors, codes = {}, {}
        for name, process in processes.items():
            wait_for(events[name], process)
            process.send_signal(runs[name][0])
            errors[name] = process.communicate(timeout=60)[1]
            codes[name] = process.returncode
    finally:
        for process in processes.values():
            process.kill()
        for writer in writers:
            os.close(writer)
    assert codes == {name: EXIT_CODES[number] for name, (number, _) in runs.items()}
    said = re.fullmatch(
        rf"interrupted; (\d+) of {N_INGESTED} sessions are in the store; run the same command again to go on\n",
        errors["ingest"],
    )
    assert said, errors["ingest"]
    n_there = len(nhdata.open(ingested).session_ids)  # a worker of dask ends the session that it is at
    assert 0 < int(said[1]) <= n_there < N_INGESTED
    for name in runs.keys() - {"ingest"}:
        done = (
            rf"interrupted; [012] of {N_STORED} sessions are in {tmp_path / name}; run the same command again to go on"
        )
        assert re.fullmatch(done, errors[name].strip()), errors[name]


def test_features_in_one_file_say_that_nothing_was_written(
    nhdata_run: Callable[..., Any], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ctrl_c(*_: object, **options: object) -> Iterator[tuple[str, None]]:
        yield "a", None
        raise KeyboardInterrupt

    monkeypatch.setattr("nhdata.derivatives.features.feature_tables", ctrl_c)
    result = nhdata_run("features", "--store", store, "--out", tmp_path / "f.csv")
    assert result.exit_code == 130
    done = f"interrupted; 1 of {N_STORED} sessions were computed, and nothing was written"
    assert result.stderr == f"{done}; use --out-dir DIR to keep what is finished\n"
