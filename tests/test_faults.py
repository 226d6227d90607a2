"""The fault injector of `faults`: every kind of operation is counted, and fails before or after it takes effect."""

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import obstore
import pytest
import zarr
from faults import ERRORS, Fault, inject, record, sample
from obstore.exceptions import GenericError
from obstore.store import MemoryStore


def scenario(folder: Path) -> None:
    """Every kind of operation once."""
    (folder / "sub").mkdir()
    with open(folder / "sub" / "a", "w") as file:
        os.fsync(file.fileno())
    (folder / "b").write_bytes(b"")
    os.link(folder / "b", folder / "c")
    os.rename(folder / "c", folder / "d")
    (folder / "d").replace(folder / "e")
    (folder / "e").unlink()
    (folder / "b").read_bytes()
    shutil.rmtree(folder / "sub")


KINDS = ["mkdir", "open", "fsync", "open", "link", "rename", "replace", "unlink", "unlink", "rmdir"]
PATHS = ["sub", "sub/a", "sub/a", "b", "c", "d", "e", "e", "sub/a", "sub"]


def snapshots(folder: Path) -> list[set[str]]:
    """Files and folders after each operation of the scenario."""
    states = []
    for k in range(len(KINDS) + 1):
        folder.mkdir()
        with inject(Fault(k, "before", KeyboardInterrupt), folder) as state:
            try:
                scenario(folder)
            except KeyboardInterrupt:
                assert state.fired
            else:
                assert not state.fired
        states.append({path.relative_to(folder).as_posix() for path in folder.rglob("*")})
        shutil.rmtree(folder)
    return states


def test_every_operation_is_counted_and_fails_before_and_after_it_took_effect(tmp_path: Path) -> None:
    before = snapshots(tmp_path / "x")
    folder = tmp_path / "y"
    folder.mkdir()
    with record(folder) as operations:
        scenario(folder)
        (tmp_path / "elsewhere").write_text("")
    assert [operation.kind for operation in operations] == KINDS
    assert [operation.path for operation in operations] == PATHS
    for k, error in enumerate(ERRORS * 4):
        shutil.rmtree(folder)
        folder.mkdir()
        with inject(Fault(k, "after", error), folder) as state:
            if k < len(KINDS):
                with pytest.raises(error, match=f"injected after {KINDS[k]} {PATHS[k]}"):
                    scenario(folder)
            else:
                scenario(folder)
        assert state.fired == (k < len(KINDS))
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
        assert found == before[min(k + 1, len(KINDS))]


def test_a_sample_hits_every_operation_before_and_after_with_all_exceptions(tmp_path: Path) -> None:
    with record(tmp_path) as operations:
        for _ in range(5):
            (tmp_path / os.urandom(16).hex()).write_text("")
        os.mkdir(tmp_path / "a")
    faults = sample(operations)
    assert [(fault.k, fault.when) for fault in faults] == [(0, "before"), (4, "after"), (5, "after"), (5, "before")]
    assert {fault.error for fault in faults} == set(ERRORS)


def test_an_interruption_during_an_operation_of_another_thread_reaches_the_main_thread(tmp_path: Path) -> None:
    """As Ctrl-C does: the thread goes on."""
    for when in ("before", "after"):
        done = threading.Event()

        def write(path: Path = tmp_path / when, done: threading.Event = done) -> None:
            path.write_text("all")
            done.set()

        def run(done: threading.Event = done, write: Callable[[], None] = write) -> None:
            threading.Thread(target=write).start()
            done.wait()

        with inject(Fault(0, when, KeyboardInterrupt), tmp_path), pytest.raises(KeyboardInterrupt):  # type: ignore[arg-type]
            run()
        done.wait()
        assert (tmp_path / when).read_text() == "all"
    # zarr writes on threads of its own, and works on after an interruption
    with inject(Fault(3, "after", SystemExit), tmp_path), pytest.raises(SystemExit):
        zarr.create_array(tmp_path / "z", shape=(4,), dtype="u1", chunks=(1,))[...] = 1
    zarr.create_array(tmp_path / "z", shape=(4,), dtype="u1", chunks=(1,), overwrite=True)[...] = 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("error", "raised"), [(OSError, GenericError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_operations_of_an_object_store_fail(
    tmp_path: Path, when: str, error: type[BaseException], raised: type[BaseException]
) -> None:
    def names(store: MemoryStore) -> list[str]:
        return sorted(one["path"] for one in obstore.list(store).collect())

    async def put(store: MemoryStore) -> None:
        await obstore.put_async(store, "b", b"x")

    for k, scenario in enumerate([lambda store: obstore.put(store, "a", b"x"), lambda store: asyncio.run(put(store))]):
        store = MemoryStore()
        with inject(Fault(0, when, error), tmp_path) as state, pytest.raises(raised):  # type: ignore[arg-type]
            scenario(store)
        assert names(store) == (["ab"[k]] if when == "after" else [])
        assert [operation.label for operation in state.operations] == [f"put {'ab'[k]}"]
    store = MemoryStore()
    obstore.put(store, "a", b"x")
    with inject(Fault(0, when, error), tmp_path), pytest.raises(raised):  # type: ignore[arg-type]
        obstore.delete(store, ["a"])
    assert names(store) == ([] if when == "after" else ["a"])
