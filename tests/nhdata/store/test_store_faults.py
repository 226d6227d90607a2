"""An exception at any file operation of ingest and sweep; writers that are paused while others sweep."""

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import obstore
import pytest
from faults import Operation, inject, record, sample

import nhdata
from nhcatalog.bucket import open_bucket
from nhcatalog.catalog import Catalog, SessionExists
from nhcatalog.errors import UserError
from nhcatalog.files import LocalFiles
from nhcatalog.objects import ObjectFiles
from nhcatalog.place import Url, to_place
from nhcatalog.storage import open_files
from nhdata.store import sweep as sweep_module
from nhdata.store.commit import add_session
from nhdata.store.encode import Encoded, encode
from nhdata.store.sweep import sweep
from nhdata.store.validate import validate

SOON = -9.0


@pytest.fixture(scope="module")
def encoded() -> Callable[..., Encoded]:
    """A small session without tables and signals, encoded once."""
    known: dict[str, Encoded] = {}

    def encoded(make: Callable[..., Any], session_id: str, subject: str = "M1") -> Encoded:
        key = f"{session_id}/{subject}"
        if key not in known:
            units = {name: make().units[name] for name in ("cluster_id", "probe")}
            recording = make(session_id=session_id, subject=subject, units=units, intervals={}, series={})
            known[key] = encode(recording)
        return known[key]

    return encoded


@pytest.fixture(params=["disk", "S3"])
def base(request: pytest.FixtureRequest, tmp_path: Path, recording: Any, encoded: Any) -> str:
    """A store of one session and what a writer left of another version of it."""
    root = f"{request.getfixturevalue('bucket')}/base" if request.param == "S3" else str(tmp_path / "base")
    add_session(to_place(root), encoded(recording, "one"))
    leave(root, encoded(recording, "one", "M2"))
    return root


def leave(root: str, encoded: Encoded) -> None:
    """Put a session into a store and die before its commit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Catalog, "add", interrupt)
        with pytest.raises(KeyboardInterrupt):
            add_session(to_place(root), encoded, replace=True)


def interrupt(*args: object, **options: object) -> None:
    raise KeyboardInterrupt


def copy(base: str, name: str) -> str:
    place = f"{base.rsplit('/', 1)[0]}/{name}"
    source, target = to_place(base), to_place(place)
    if isinstance(source, Url) and isinstance(target, Url):
        store = open_bucket(source.bucket)
        for file in open_files(source).walk():
            obstore.copy(store, source.key_of(file), target.key_of(file))
    else:
        shutil.copytree(base, place)
    return place


def contents(root: str) -> dict[str, str]:
    """Content hash of every session, from its own group."""
    store = nhdata.open(root)
    return {session_id: store.session(session_id).attrs["content_hash"] for session_id in store.session_ids}


def alike(operation: Operation) -> str:
    """Files within a session's group are alike, and those of the catalog: its own tests tell them apart."""
    label = re.sub(r"\*-\w+|\d{10}|one(\.v\d)?|two", "*", operation.label)
    return re.sub(r"(sessions/[^/]+/[^/]+|catalog)/.+", r"\1/…", label)


def test_an_exception_at_any_file_operation_loses_nothing(
    base: str, recording: Any, encoded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # counted by the injector, and slow

    def add(root: str) -> None:
        with suppress(SessionExists):
            add_session(to_place(root), encoded(recording, "two"))

    def replace(root: str) -> None:
        add_session(to_place(root), encoded(recording, "one", "M3"), replace=True)

    scenarios = {"add": add, "sweep": lambda root: sweep(root, SOON)}
    if not isinstance(to_place(base), Url):
        scenarios["replace"] = replace
    for name, scenario in scenarios.items():
        clean = copy(base, f"{name}-clean")
        before = contents(clean)
        with record(tmp_path) as operations:
            scenario(clean)
        after = contents(clean)
        faults = sample(operations, alike)
        if name == "replace":
            faults = faults[::5]  # the operations are those of adding a session
        for fault in faults:
            root = copy(base, f"{name}-{fault.k}-{fault.when}")
            with inject(fault, tmp_path) as state, suppress(KeyboardInterrupt, SystemExit, OSError, UserError):
                scenario(root)
            assert state.fired
            where = f"{name}: {fault}: {operations[fault.k]}"
            assert Catalog(f"{root}/catalog").verify() == [], where
            assert contents(root) in (before, after), where
            scenario(root)
            assert contents(root) == after, where
            sweep(root, SOON)
            assert validate(root) == [], where


def pause(patch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Do something, as if for two hours, between a writer's decision and the creation of its log entry."""
    for files in (LocalFiles, ObjectFiles):
        create = files.create

        def late(self: Any, name: str, content: bytes, create: Any = create) -> None:
            if name.startswith("log/"):
                patch.undo()
                meanwhile()
                patch.setattr("nhcatalog.vacuum.Elapsed.seconds", property(lambda elapsed: 7200.0))
            create(self, name, content)

        patch.setattr(files, "create", late)


def test_a_writer_paused_while_its_session_is_swept_commits_nothing(base: str, recording: Any, encoded: Any) -> None:
    before = contents(base)
    with pytest.MonkeyPatch.context() as patch:
        pause(patch, lambda: sweep(base, SOON))
        with pytest.raises(UserError, match="took too long"):
            add_session(to_place(base), encoded(recording, "one", "M3"), replace=True)
    assert contents(base) == before
    assert validate(base, deep=True) == []
    assert sweep(base, SOON).leftovers == []


def test_a_sweep_leaves_what_is_committed_while_it_looks(
    base: str, recording: Any, encoded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same session is ingested again after the sweep has found what a writer left of it, and another commits."""
    unclaimed = sweep_module.unclaimed
    with pytest.MonkeyPatch.context() as patch:

        def found_late(*args: Any) -> Any:
            found = unclaimed(*args)
            add_session(to_place(base), encoded(recording, "one", "M2"), replace=True)
            return found

        patch.setattr(sweep_module, "unclaimed", found_late)
        assert len(sweep(base, SOON).leftovers) == 1
    assert contents(base) == {"one": encoded(recording, "one", "M2").attributes["content_hash"]}
    assert validate(base, deep=True) == []
    # a writer that was slower than the sweep's look, and faster than its fence
    with pytest.MonkeyPatch.context() as patch:

        def look_and_commit() -> None:
            found = unclaimed(base, SOON)
            patch.setattr(sweep_module, "unclaimed", lambda *args: found)

        pause(patch, look_and_commit)
        add_session(to_place(base), encoded(recording, "one", "M3"), replace=True)
        sweep(base, SOON)
    assert contents(base) == {"one": encoded(recording, "one", "M3").attributes["content_hash"]}
    assert validate(base, deep=True) == []
