"""A dask scheduler and a worker in processes of their own; the worker has its own disk, folder and environment."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

from nhcatalog.errors import UserError
from nhdata.derivatives.chosen import choose
from nhdata.derivatives.counts import write_counts
from nhdata.derivatives.features import FeaturesJob, write_features
from nhdata.ingest import Ingested, ingest
from nhdata.ingest import run as ingest_run
from nhdata.sources import SessionRef, SourceOptions
from nhdata.store.store import open_store
from nhdata.workers import SchedulerLost, Workers, cluster, run_tasks

ROOT = Path(__file__).parents[3]
OPTIONS = SourceOptions(n_sessions=2, n_units=12, duration_s=30.0)
OTHER_DISK = 'mount -t tmpfs none "$0" && exec "$@"'


@dataclass
class Dask:
    """Address of a scheduler, its process, and the folder where its worker sees another disk."""

    address: str
    scheduler: subprocess.Popen[str]
    hidden: Path

    @property
    def workers(self) -> Workers:
        return Workers(scheduler=self.address)


def start_scheduler(folder: Path) -> tuple[subprocess.Popen[str], str]:
    file = folder / "scheduler.json"
    command = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    scheduler = subprocess.Popen(
        [sys.executable, *command, "--scheduler-file", str(file)], cwd=folder, stderr=subprocess.DEVNULL, text=True
    )
    for _ in range(600):
        try:
            return scheduler, json.loads(file.read_text())["address"]
        except (FileNotFoundError, ValueError):
            time.sleep(0.05)
    scheduler.kill()
    raise AssertionError("the scheduler did not start")


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    folder = tmp_path_factory.mktemp("dask")
    hidden = tmp_path_factory.mktemp("hidden")
    view = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "bash", "-c", OTHER_DISK, str(hidden)]
    try:
        subprocess.run([*view, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no mount namespace here: {error}")
    scheduler, address = start_scheduler(folder)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
    worker = subprocess.Popen(
        [*view, *command, "--no-dashboard"], cwd=folder, env=environment, stderr=subprocess.DEVNULL
    )
    yield Dask(address, scheduler, hidden)
    for process in (worker, scheduler):
        process.kill()
        process.wait()


def test_relative_paths_are_those_of_the_client(dask: Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(ingest("s.zarr", "synthetic", [], options=OPTIONS, workers=dask.workers).ingested) == 2
    chosen = choose(open_store("s.zarr"))
    assert len(write_counts(chosen, Path("counts.zarr"), 0.1, workers=dask.workers).written) == 2
    assert len(write_features(chosen, Path("features"), FeaturesJob(), workers=dask.workers).written) == 2
    assert len(list(tmp_path.glob("features/*.parquet"))) == 2
    assert not [*tmp_path.rglob(".client-*")]
    with pytest.raises(UserError, match=r"another folder is at .* on worker \S+: workers must see"):
        write_counts(chosen, dask.hidden / "counts.zarr", 0.1, workers=dask.workers)
    with pytest.raises(UserError, match=r"another folder is at .* on worker"):
        write_features(chosen, dask.hidden / "features", FeaturesJob(), workers=dask.workers)


def test_a_worker_with_another_disk_at_the_stores_path_is_refused(dask: Dask) -> None:
    store = dask.hidden / "s.zarr"
    with pytest.raises(UserError, match=r"another folder is at .*s\.zarr on worker \S+: workers must see"):
        ingest(store, "synthetic", [], options=OPTIONS, workers=dask.workers)
    with ZipFile(ROOT / "tests" / "compat" / "store_v1.zip") as archive:
        archive.extractall(dask.hidden / "old")
    (old,) = (path.parent.parent for path in dask.hidden.glob("old/**/catalog/log"))
    before = open_store(old).session_ids
    with pytest.raises(UserError, match=r"another folder is at"):
        ingest(old, "synthetic", [], options=OPTIONS, workers=dask.workers)
    assert open_store(old).session_ids == before
    assert not [*old.glob(".client-*")]


def test_a_session_that_is_not_in_the_clients_catalog_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(task: object, refs: list[SessionRef], *rest: object, **options: object) -> Iterator[Ingested]:
        for ref in refs:
            yield Ingested(str(ref.session_id), "synthetic", 12, 100, ref.place, worker="node7")

    monkeypatch.setattr(ingest_run, "VISIBLE_S", 0.0)
    monkeypatch.setattr(ingest_run, "run_tasks", elsewhere)
    said: list[object] = []
    workers = Workers(scheduler="tcp://127.0.0.1:9")
    report = ingest(tmp_path / "t.zarr", "synthetic", [], options=OPTIONS, workers=workers, on_outcome=said.append)
    assert report.ingested == []
    assert len(report.failed) == 2
    wanted = f"the worker on node7 wrote elsewhere: it must see {tmp_path / 't.zarr'} under this path"
    assert all(failed.error.endswith(wanted) for failed in report.failed)
    assert said[2:] == report.failed


@pytest.mark.realdata
def test_a_recording_that_the_worker_does_not_see(dask: Dask, tmp_path: Path, realdata: Path) -> None:
    (recording, *_) = sorted(realdata.glob("nwb/aplysia/*.nwb"))
    (dask.hidden / "a.nwb").write_bytes(recording.read_bytes())
    report = ingest(tmp_path / "s.zarr", "nwb", [dask.hidden / "a.nwb"], workers=dask.workers)
    assert "a.nwb: no such file on worker" in report.failed[0].error


def test_missing_settings_of_s3_are_refused(dask: Dask, bucket: str) -> None:
    names = "AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY missing on worker"
    with pytest.raises(UserError, match=names):
        ingest(f"{bucket}/s.zarr", "synthetic", [], options=OPTIONS, workers=dask.workers)


def test_a_worker_of_another_version_is_refused(dask: Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = version("neurohorizon")
    monkeypatch.setattr(cluster, "installed_version", lambda: "99.0")
    with pytest.raises(UserError, match=rf"neurohorizon {here} on worker \S+, 99\.0 here: install 99\.0 there"):
        ingest(tmp_path / "s.zarr", "synthetic", [], options=OPTIONS, workers=dask.workers)


def test_a_scheduler_without_workers_is_reported_and_one_that_ends_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler, address = start_scheduler(tmp_path)
    said = []

    def warning(text: str, *values: object) -> None:
        said.append(text % values)
        scheduler.send_signal(signal.SIGKILL)
        scheduler.wait()

    monkeypatch.setattr(cluster, "SILENT_S", 0.1)
    monkeypatch.setattr(cluster, "POLL_S", 0.1)
    monkeypatch.setattr(cluster.logging.getLogger("nhdata.workers.cluster"), "warning", warning)
    with pytest.raises(SchedulerLost, match=f"scheduler at {address} is gone: start it and run the same command"):
        list(run_tasks(abs, [1], Workers(scheduler=address)))
    assert said[0].startswith(f"no worker at {address} for")


def test_the_end_of_the_scheduler_says_how_many_sessions_are_in_the_store(dask: Dask, tmp_path: Path) -> None:
    """The last test of this file, as the scheduler is ended."""

    def end(outcome: object) -> None:
        dask.scheduler.kill()
        dask.scheduler.wait()

    many = SourceOptions(n_sessions=40, n_units=12, duration_s=300.0)
    with pytest.raises(SchedulerLost, match=r"is gone; \d+ of 40 sessions are in the store: start it and run the same"):
        ingest(tmp_path / "s.zarr", "synthetic", [], options=many, workers=dask.workers, on_outcome=end)
