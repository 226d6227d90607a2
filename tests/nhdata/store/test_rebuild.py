"""The catalog made anew from the sessions: of a sound, a damaged and a lost one."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import nhdata
from nhcatalog.catalog import Catalog
from nhcatalog.errors import UserError
from nhcatalog.log import CatalogError
from nhcatalog.schema import TABLES
from nhdata.store.commit import add_session
from nhdata.store.encode import encode
from nhdata.store.rebuild import rebuild_catalog
from nhdata.store.sweep import sweep


def everything(store: Path) -> dict[str, list[dict]]:
    opened = nhdata.open(store)
    found = {name: opened.sql(f"SELECT * FROM {name} ORDER BY ALL").to_pylist() for name in TABLES}
    return {**found, "sessions": [row | {"ingested_at": None} for row in found["sessions"]]}


@pytest.fixture
def store(recording, put, tmp_path: Path) -> Path:
    """Sessions one (replaced once), two and three; four was removed."""
    root = tmp_path / "data.zarr"
    for session_id in ("one", "two", "three", "four"):
        put(root, recording(session_id=session_id))
    add_session(root, encode(recording(session_id="one", subject="renamed")), replace=True)
    Catalog(root / "catalog").remove("four")
    return root


def test_of_a_sound_catalog_nothing_changes_but_the_past(store: Path) -> None:
    before, ingested = everything(store), nhdata.open(store).sql("select ingested_at from sessions order by 1")
    for expected in (7, 8):
        assert rebuild_catalog(store) == (expected, {})
        assert everything(store) == before
    assert nhdata.open(store).sql("select ingested_at from sessions order by 1") == ingested
    catalog = Catalog(store / "catalog")
    assert catalog.verify() == []
    with pytest.raises(CatalogError, match="older than the last rebuild"):
        nhdata.open(store, at=3)
    catalog.vacuum(0.0)
    assert everything(store) == before
    assert {entry.position for entry in catalog.snapshot().entries.values()} == {8}


def test_life_goes_on_after_it(store: Path, recording, put) -> None:
    rebuild_catalog(store)
    put(store, recording(session_id="five"))
    add_session(store, encode(recording(session_id="two", subject="again")), replace=True)
    catalog = Catalog(store / "catalog")
    catalog.remove("three")
    after = everything(store)
    assert nhdata.open(store).session_ids == ["five", "one", "two"]
    assert nhdata.open(store, at=7).session_ids == ["one", "three", "two"]
    catalog.compact()
    catalog.vacuum(0.0)
    assert everything(store) == after
    assert nhdata.open(store, at=7).session_ids == ["one", "three", "two"]
    assert catalog.verify() == []


@pytest.mark.parametrize("damage", ["lost", "log", "checkpoint"])
def test_of_a_catalog_that_cannot_be_read_all_sessions_are_taken(store: Path, damage: str) -> None:
    before = everything(store)
    folder = store / "catalog"
    if damage == "lost":
        shutil.rmtree(folder)
    elif damage == "log":
        (folder / "log" / "0000000002.json").write_bytes(b"\0" * 100)
    else:
        Catalog(folder).compact()
        Catalog(folder).vacuum(0.0)
        (folder / "checkpoints" / "0000000001.json").write_text("{}")
    rebuild_catalog(store)
    after = everything(store)
    for name, rows in after.items():
        assert [row for row in rows if row.get("session_id") != "four"] == before[name]
    assert Catalog(folder).verify() == []
    assert nhdata.open(store).session("one").attrs["subject"] == "renamed"


def test_a_session_that_cannot_be_read_is_named(store: Path) -> None:
    (store / nhdata.open(store).snapshot.entries["two"].path / "zarr.json").write_text("{")
    _, failed = rebuild_catalog(store)
    assert list(failed) == ["sessions/lab/two"]
    assert nhdata.open(store).session_ids == ["one", "three"]


def test_another_writer_meanwhile(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog(store / "catalog")
    before = sorted(p.name for p in (store / "catalog").rglob("*"))

    def rows():
        (store / "catalog" / "log" / "0000000007.json").write_text("taken")
        yield {"session_id": "x", "path": "sessions/lab/x", "content_hash": "h"}, {}

    with pytest.raises(UserError, match="another process"):
        catalog.rebuild(rows())
    (store / "catalog" / "log" / "0000000007.json").unlink()
    assert [name for name in sorted(p.name for p in (store / "catalog").rglob("*")) if name not in before] in (
        [],
        ["tables"],
    )


def test_rows_are_checked(tmp_path: Path) -> None:
    row = {"session_id": "x", "path": "sessions/lab/x", "content_hash": "h"}
    with pytest.raises(UserError, match="twice"):
        Catalog(tmp_path).rebuild([(row, {}), (row, {})])
    assert Catalog(tmp_path).snapshot().position == 0
    assert not np.any([p.is_file() for p in tmp_path.rglob("*")])


def test_sessions_that_the_log_lost_are_added_and_those_removed_stay_removed(store: Path, recording, put) -> None:
    put(store, recording(session_id="five"))
    (store / "catalog" / "log" / "0000000007.json").unlink()  # the last entry: nothing tells that it was there
    assert nhdata.open(store).session_ids == ["one", "three", "two"]
    for _ in range(2):
        assert rebuild_catalog(store)[1] == {}
        assert nhdata.open(store).session_ids == ["five", "one", "three", "two"]
        assert nhdata.open(store).session("one").attrs["subject"] == "renamed"
    assert sorted(place.name for place in sweep(store, grace_s=0).leftovers) == ["four", "one"]
    assert Catalog(store / "catalog").verify() == []
