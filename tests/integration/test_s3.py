"""The same recordings on a disk and on S3: the same answers and the same batches; and what happens at its worst."""

import multiprocessing
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

import nhdata
from nhcatalog.errors import UserError
from nhcatalog.storage import open_files
from nhdata.ingest import ingest
from nhdata.loading import WindowDataset, make_loader
from nhdata.sources import SourceOptions
from nhdata.store.sweep import sweep, unclaimed
from nhdata.store.validate import validate

on_both_servers = pytest.mark.parametrize("bucket", ["s3_server", "seaweed_server"], indirect=True)
OPTIONS = SourceOptions(n_sessions=2, n_units=12, duration_s=60.0)


def ingest_synthetic(store: str | Path) -> int:
    """Sessions ingested."""
    return len(ingest(store, "synthetic", [], options=OPTIONS).ingested)


@pytest.fixture
def url(bucket: str) -> str:
    assert ingest_synthetic(f"{bucket}/data.zarr") == 2
    return f"{bucket}/data.zarr"


@on_both_servers
def test_the_loader_gives_the_same_batches(url: str, tmp_path: Path) -> None:
    ingest_synthetic(tmp_path / "data.zarr")
    shape = {"batch_size": 16, "seed": 3, "select": "select unit_id from units where region <> 'LP'"}
    here, there = (WindowDataset(store, **shape) for store in (tmp_path / "data.zarr", url))
    assert there.selection.hash == here.selection.hash
    assert there.windows_hash == here.windows_hash
    expected = list(make_loader(here))
    for workers in (0, 1):
        got = list(make_loader(there, num_workers=workers))
        assert len(got) == len(expected) > 3
        for a, b in zip(expected, got, strict=True):
            for field in fields(a):
                x, y = getattr(a, field.name), getattr(b, field.name)
                assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, field.name


@on_both_servers
def test_two_writers_of_the_same_sessions_at_once(bucket: str) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        writers = [pool.apply_async(ingest, (f"{bucket}/s", "synthetic", []), {"options": OPTIONS}) for _ in range(2)]
        reports = [writer.get() for writer in writers]
    assert sum(len(report.ingested) for report in reports) == 2
    assert not [report.failed for report in reports if report.failed]
    store = nhdata.open(f"{bucket}/s")
    assert (len(store.session_ids), store.position) == (2, 2)
    assert validate(f"{bucket}/s", deep=True) == []
    sweep(f"{bucket}/s", grace_s=-60)  # what the slower one had uploaded
    assert validate(f"{bucket}/s", deep=True) == []
    objects = open_files(f"{bucket}/s").walk("sessions/synthetic")  # SeaweedFS also lists prefixes without objects
    remaining = {"/".join(name.split("/")[:3]) for name in objects}
    paths = {row["path"] for row in store.sql("select path from sessions").to_pylist()}
    assert remaining == {*paths, "sessions/synthetic/zarr.json"}


@on_both_servers
def test_readers_while_sessions_are_replaced(url: str) -> None:
    before = nhdata.open(url)
    expected = {session_id: before.session(session_id).ticks()[0] for session_id in before.session_ids}
    context = multiprocessing.get_context("spawn")
    how = {"options": OPTIONS, "existing": "overwrite"}
    writer = context.Process(target=ingest, args=(url, "synthetic", []), kwargs=how)
    writer.start()
    n_reads = 0
    while writer.is_alive() or n_reads == 0:
        store = nhdata.open(url)
        assert store.sql("select count(*) as n from units").to_pylist() == [{"n": 24}]
        for session_id, tick in expected.items():
            np.testing.assert_array_equal(store.session(session_id).ticks()[0], tick)
        n_reads += 1
    assert writer.exitcode == 0
    assert nhdata.open(url).position == 4


@pytest.mark.parametrize("bucket", ["s3_server"], indirect=True)
def test_killed_at_any_moment_nothing_is_lost_and_a_rerun_completes(bucket: str) -> None:
    url = f"{bucket}/killed"
    nhdata_command = str(Path(sys.executable).parent / "nhdata")
    size = ("--sessions", "2", "--units", "12", "--seconds", "60")
    command = [nhdata_command, "ingest", "--source", "synthetic", *size, "--store", url]
    files = open_files(url)
    for n_objects in (1, 40, 100):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as writer:
            while writer.poll() is None and len(files.walk()) < n_objects:
                time.sleep(0.01)
            writer.send_signal(signal.SIGKILL)
        if "zarr.json" in files.names(""):
            assert validate(url, deep=True) == []
    ingest_synthetic(url)
    assert len(nhdata.open(url).session_ids) == 2
    assert sweep(url, grace_s=-60).leftovers
    assert unclaimed(url, grace_s=-60).leftovers == []
    assert validate(url, deep=True) == []


@pytest.mark.parametrize("bucket", ["seaweed_server"], indirect=True)  # moto checks no signatures
def test_anonymous_readers_and_wrong_secrets(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest_synthetic("s3://public/data.zarr")
    expected = nhdata.open("s3://public/data.zarr").session_ids
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert nhdata.open("s3://public/data.zarr").session_ids == expected
    report = ingest("s3://public/new.zarr", "synthetic", [], options=OPTIONS)
    assert len(report.failed) == 2
    assert all("access denied" in failed.error for failed in report.failed)
    monkeypatch.delenv("AWS_SKIP_SIGNATURE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UserError, match="access denied"):
        nhdata.open(f"{bucket}/data.zarr")
