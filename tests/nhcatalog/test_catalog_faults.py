"""An exception at any file operation of a change of the catalog: nothing is lost, and the same call again completes."""

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pytest
from faults import Operation, inject, record, sample

from nhcatalog.bucket import open_bucket
from nhcatalog.catalog import Catalog
from nhcatalog.errors import UserError
from nhcatalog.place import AnyPlace, Url, to_place
from nhcatalog.state import Reader
from nhcatalog.storage import open_files

State = dict[str, Any]

SOON = -9.0  # a grace: what was written just now is old enough, whatever the clocks of this machine and S3 say

QUERY = "select unit_id from units"


def contents(place: AnyPlace) -> State:
    """The sessions and the selections. Whether a session's rows are there and can be read is checked by `verify`."""
    catalog = Catalog(place)
    entries = catalog.snapshot().entries
    return {
        "sessions": {key: (entry.session["n_units"], entry.position > 0) for key, entry in entries.items()},
        "selections": {name: catalog.selections.read(name)[1] for name in catalog.selections.names()},
    }


def add(catalog: Catalog, name: str, *, replace: bool = False, n_units: int = 3) -> int:
    ids = [f"{name}:{k}" for k in range(n_units)]
    units = pa.table({"unit_id": ids, "session_id": [name] * n_units})
    session = {"session_id": name, "n_units": n_units}
    return catalog.add(session, {"units": units}, f"sessions/lab/{name}", f"hash-{name}", replace=replace)


def rebuild(catalog: Catalog) -> None:
    """From what the catalog says itself."""
    snapshot = catalog.snapshot()
    sessions = []
    for key, entry in snapshot.entries.items():
        ids = [f"{key}:{k}" for k in range(entry.session["n_units"])]
        sessions.append((entry.session, {"units": pa.table({"unit_id": ids, "session_id": [key] * len(ids)})}))
    catalog.rebuild(sessions, removed=["x"])


SCENARIOS: dict[str, Callable[[Catalog], object]] = {
    "add and compact": lambda catalog: add(catalog, "new", n_units=2),
    "replace": lambda catalog: add(catalog, "a", replace=True, n_units=7),
    "remove": lambda catalog: catalog.remove("b"),
    "compact": lambda catalog: catalog.compact(full=True),
    "vacuum": lambda catalog: catalog.vacuum(SOON),
    "rebuild": rebuild,
    "create selection": lambda catalog: catalog.selections.create("second", QUERY, 1, ["a:0"], {"a": "hash-a"}),
    "remove selection": lambda catalog: catalog.selections.remove("first"),
}
DONE = "is in the catalog already|is not in the catalog|there is a selection second already|no selection named 'first'"


@pytest.fixture(params=["disk", "S3"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A catalog with two checkpoints, a tail, a selection, and a file that a writer left when it died."""
    place = f"{request.getfixturevalue('bucket')}/base" if request.param == "S3" else str(tmp_path / "base")
    catalog = Catalog(place)
    for name in ("a", "b", "x"):
        add(catalog, name)
    catalog.compact()
    add(catalog, "a", replace=True, n_units=5)
    catalog.remove("x")
    catalog.compact()
    add(catalog, "c", n_units=1)
    open_files(place).write("fragments/0123456789abcdef-units.parquet", b"left by a dead writer")
    catalog.selections.create("first", QUERY, 1, ["a:0"], {"a": "hash-a"})
    return place


def copy(base: str, name: str) -> str:
    """A copy of the catalog."""
    place = f"{base.rsplit('/', 1)[0]}/{name}"
    source, target = to_place(base), to_place(place)
    if isinstance(source, Url) and isinstance(target, Url):
        store = open_bucket(source.bucket)
        for file in open_files(source).walk():
            obstore.copy(store, source.key_of(file), target.key_of(file))
    else:
        shutil.copytree(base, place)
    return place


def alike(operation: Operation) -> str:
    """Files of all tables are alike, and so are log entries."""
    return re.sub(r"\*-\w+|\d{10}", "*", operation.label)


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_exception_at_any_file_operation_loses_nothing(
    base: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # counted by the injector, and slow
    if name == "add and compact":
        monkeypatch.setattr("nhcatalog.catalog.COMPACT_EVERY", 1)
    scenario = SCENARIOS[name]
    before = contents(base)
    clean = copy(base, "clean")
    with record(tmp_path) as operations:
        scenario(Catalog(clean))
    after = contents(clean)
    faults = sample(operations, alike)
    assert len(faults) > 1
    for fault in faults:
        place = copy(base, f"case-{fault.k}-{fault.when}")
        with inject(fault, tmp_path) as state, suppress(KeyboardInterrupt, SystemExit, OSError, UserError):
            scenario(Catalog(place))
        assert state.fired
        where = f"{fault}: {operations[fault.k]}"
        assert Catalog(place).verify() == [], where
        found = contents(place)
        assert found in (before, after), where
        try:
            scenario(Catalog(place))
        except UserError as error:
            if found != after or not re.search(DONE, str(error)):
                raise
        assert contents(place) == after, where
        Catalog(place).vacuum(SOON)
        assert Catalog(place).verify() == [], where
    rows = Catalog(place).snapshot().sql("select session_id, count(*)::int as n from units group by 1").to_pylist()
    assert {row["session_id"]: row["n"] for row in rows} == {key: n for key, (n, _) in after["sessions"].items()}


def pause(monkeypatch: pytest.MonkeyPatch, catalog: Catalog, meanwhile: Callable[[], None], hours: float = 2) -> None:
    """Do other things, as if for hours, between a writer's decision and the creation of its log entry."""
    files = catalog._files
    create = files.create

    def late(name: str, content: bytes) -> None:
        if name.startswith("log/"):
            monkeypatch.setattr(files, "create", create)
            meanwhile()
            monkeypatch.setattr("nhcatalog.vacuum.Elapsed.seconds", property(lambda elapsed: 3600 * hours))
        create(name, content)

    monkeypatch.setattr(files, "create", late)


def test_a_paused_writer_never_commits_below_a_checkpoint(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log file that it tries to create was there, and a vacuum has deleted it."""

    def meanwhile() -> None:
        other = Catalog(base)
        for name in ("d", "e", "f"):
            add(other, name)
        other.compact()
        other.vacuum(SOON)
        other.remove("d")

    for change in ("add", "remove"):
        place_before = set(Catalog(base).snapshot().entries)
        catalog = Catalog(base)
        with monkeypatch.context() as patch:
            pause(patch, catalog, meanwhile)
            if change == "add":
                with pytest.raises(UserError, match="took too long"):
                    add(catalog, "paused")
                assert set(Catalog(base).snapshot().entries) == place_before | {"e", "f"}
                for name in ("e", "f"):
                    Catalog(base).remove(name)
            else:
                position = catalog.remove("b")
                assert position == Catalog(base).snapshot().position
                assert "b" not in Catalog(base).snapshot().entries
        assert Catalog(base).verify() == []
    assert add(Catalog(base), "b") == Catalog(base).snapshot().position


def test_a_paused_writer_never_commits_files_that_a_vacuum_deleted(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody commits meanwhile: the vacuum itself takes the position."""
    catalog = Catalog(base)
    before = contents(base)
    with monkeypatch.context() as patch:
        pause(patch, catalog, lambda: Catalog(base).vacuum(SOON))
        with pytest.raises(UserError, match="took too long"):
            add(catalog, "paused")
    assert Catalog(base).verify() == []
    assert contents(base) == before
    position = Reader(open_files(base)).state().position
    Catalog(base).vacuum(SOON)  # nothing is left to fence
    assert Reader(open_files(base)).state().position == position
    assert add(catalog, "paused") == position + 1


def test_a_vacuum_leaves_the_files_of_a_paused_compaction(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog(base)
    before = contents(base)
    files, create = catalog._files, catalog._files.create

    def late(name: str, content: bytes) -> None:
        Catalog(base).vacuum(SOON)
        create(name, content)

    monkeypatch.setattr(files, "create", late)
    assert catalog.compact() is not None
    assert Catalog(base).verify() == []
    assert contents(base) == before
