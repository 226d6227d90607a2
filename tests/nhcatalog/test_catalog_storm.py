"""Many processes write, read and compact one catalog at once, and are killed at any moment.

A small storm by default; ``NH_FULL=1`` runs 8 writers of 100 sessions, 4 readers and a compactor, and 60 kills.
"""

import importlib
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

import pytest

from nhcatalog.catalog import Catalog

FULL = bool(os.environ.get("NH_FULL"))
N_WRITERS, N_SESSIONS, N_READERS, N_KILLS = (8, 100, 4, 60) if FULL else (3, 12, 2, 5)


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkServerContext]:
    """Processes that start at once: forked from one that has imported the catalog and opened nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nhcatalog.catalog"])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield context


@pytest.fixture(scope="module")
def act(processes: ForkServerContext) -> ModuleType:
    """What the processes do."""
    return importlib.import_module("storm_processes")


def whole(path: Path, expected: set[str]) -> None:
    """Every session is there once, with its rows, and every file is sound."""
    catalog = Catalog(path)
    assert catalog.verify() == []
    log = catalog.log()
    assert sorted(log["session_id"].to_pylist()) == sorted(expected)
    assert log["position"].to_pylist() == list(range(len(expected), 0, -1))
    rows = catalog.snapshot().sql("SELECT session_id, count(*) AS n FROM units GROUP BY 1").to_pylist()
    assert {row["session_id"]: row["n"] for row in rows} == dict.fromkeys(expected, 3)


@pytest.fixture
def bystanders(processes: ForkServerContext, act: ModuleType, tmp_path: Path) -> Iterator[list[Path]]:
    """Readers and a compactor of ``tmp_path/catalog`` as long as the test runs; what they tell at the end."""
    stop = processes.Event()
    told = [tmp_path / f"reader-{k}" for k in range(N_READERS)]
    path = tmp_path / "catalog"
    running = [processes.Process(target=act.read, args=(path, stop, file)) for file in told]
    running.append(processes.Process(target=act.compact, args=(path, stop, tmp_path / "compactor")))
    for process in running:
        process.start()
    yield [*told, tmp_path / "compactor"]
    stop.set()
    for process in running:
        process.join()
    for file in [*told, tmp_path / "compactor"]:
        assert file.read_text().endswith(" rounds"), file.read_text()


@pytest.mark.timeout(1800 if FULL else 120)
def test_all_at_once(processes: ForkServerContext, act: ModuleType, bystanders: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "catalog"
    writers = [
        processes.Process(target=act.write, args=(path, f"w{k}", N_SESSIONS, tmp_path / f"told-{k}", 32))
        for k in range(N_WRITERS)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * N_WRITERS
    whole(path, {f"w{k}-{j:03d}" for k in range(N_WRITERS) for j in range(N_SESSIONS)})


@pytest.mark.timeout(1800 if FULL else 120)
def test_killed_at_any_moment(
    processes: ForkServerContext, act: ModuleType, bystanders: list[Path], tmp_path: Path
) -> None:
    path, choose = tmp_path / "catalog", random.Random(5)
    expected = {f"w{k}-{j:03d}" for k in range(N_WRITERS) for j in range(N_SESSIONS)}

    def start(k: int) -> BaseProcess:
        # A checkpoint every few commits, so that many die while they make one.
        process = processes.Process(target=act.write, args=(path, f"w{k}", N_SESSIONS, tmp_path / f"told-{k}", 4))
        process.start()
        return process

    writers, kills = [start(k) for k in range(N_WRITERS)], 0
    while kills < N_KILLS:
        time.sleep(choose.uniform(0.0, 0.4))
        k = choose.randrange(N_WRITERS)
        writers[k].kill()
        writers[k].join()
        kills += writers[k].exitcode == -9
        if all(writer.exitcode == 0 for writer in writers):
            break
        writers[k] = start(k)
    for k, writer in enumerate(writers):
        writer.join()
        last = start(k)
        last.join()
        assert last.exitcode == 0
    assert kills >= min(N_KILLS, 3)
    acknowledged = [line for k in range(N_WRITERS) for line in (tmp_path / f"told-{k}").read_text().splitlines()]
    assert len(acknowledged) == len(set(acknowledged))
    assert set(acknowledged) <= expected
    whole(path, expected)
