"""Every planted fault is found and named; a sound store has none; what dead writers left is swept."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

import nhdata
from nhcatalog.catalog import Catalog
from nhdata.ingest import ingest
from nhdata.sources import SourceOptions
from nhdata.store.rebuild import rebuild_catalog
from nhdata.store.shards import SpikeShards
from nhdata.store.sweep import sweep, unclaimed
from nhdata.store.validate import validate


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "data.zarr"
    ingest(path, "synthetic", [], options=SourceOptions(n_sessions=2, n_units=10, duration_s=20.0))
    return path


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "data.zarr"))


def group(store: Path) -> Path:
    """The Zarr group of the first session."""
    opened = nhdata.open(store)
    return store / opened.snapshot.entries[opened.session_ids[0]].path


def overwrite(array: Path, change: Callable[[np.ndarray], None]) -> None:
    """Change values in place, with right checksums: what only a look at the meaning finds."""
    node = zarr.open_array(array, mode="r+")
    values = np.asarray(node[...]).copy()
    change(values)
    node[...] = values


def put(array: Path, at: int | tuple[int, int], change: Callable[[float], float]) -> None:
    """Change one value in place."""
    overwrite(array, lambda values: values.__setitem__(at, change(values[at])))


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0x40
    file.write_bytes(bytes(data))


def edit_attrs(folder: Path, **changes: object) -> None:
    document = json.loads((folder / "zarr.json").read_text())
    document["attributes"].update(changes)
    (folder / "zarr.json").write_text(json.dumps(document))


def swap(values: np.ndarray, i: int, j: int) -> None:
    values[[i, j]] = values[[j, i]]


SHALLOW = {
    "session gone": (lambda g: shutil.rmtree(g), "missing"),
    "shard gone": (lambda g: (g / "spikes" / "tick" / "c" / "0").unlink(), "missing"),
    "column's chunk gone": (lambda g: (g / "units" / "region" / "c" / "0").unlink(), "missing"),
    "array gone": (lambda g: shutil.rmtree(g / "spikes" / "unit"), "missing"),
    "attributes cut short": (lambda g: (g / "zarr.json").write_text("{"), "unreadable"),
    "another session's name": (lambda g: edit_attrs(g, session_id="other"), "identity"),
    "another count of spikes": (lambda g: edit_attrs(g, n_spikes=7), "counts"),
    "another hash": (lambda g: edit_attrs(g, content_hash="0" * 64), "hash"),
    "a later schema": (lambda g: edit_attrs(g, nhdata_schema=99), "schema"),
}
DEEP = {
    "bit flipped in spikes": (lambda g: flip(g / "spikes" / "tick" / "c" / "0", 100), "unreadable"),
    "bit flipped in a column": (lambda g: flip(g / "units" / "depth_um" / "c" / "0", 20), "unreadable"),
    "shard cut short": (lambda g: os.truncate(g / "spikes" / "unit" / "c" / "0", 50), "unreadable"),
    "spikes out of order": (lambda g: overwrite(g / "spikes/tick", lambda v: swap(v, 3, 900)), "order"),
    "a spike of no unit": (lambda g: put(g / "spikes/unit", 5, lambda was: 10), "index"),
    "block index moved": (lambda g: put(g / "spikes/block", 4, lambda was: was + 1), "index"),
    "a spike of another unit": (lambda g: put(g / "spikes/unit", 5, lambda was: (was + 1) % 10), "counts"),
    "a feature changed": (lambda g: put(g / "features/reference/value", (0, 0), lambda was: 1e3), "counts"),
    "a depth changed": (lambda g: put(g / "units/depth_um", 0, lambda was: -1.0), "hash"),
    "a trial moved": (lambda g: put(g / "intervals/trials/start_s", 0, lambda was: 0.0), "hash"),
    "the wheel changed": (lambda g: put(g / "series/wheel_position/value", 9, lambda was: 9.0), "hash"),
}


def test_a_sound_store_has_no_problems(store: Path) -> None:
    assert validate(store) == validate(store, deep=True) == []


@pytest.mark.parametrize("fault", SHALLOW)
def test_faults_of_structure_are_found(store: Path, fault: str) -> None:
    plant, kind = SHALLOW[fault]
    plant(group(store))
    problems = validate(store)
    assert kind in {p.kind for p in problems}
    assert {p.session_id for p in problems} == {nhdata.open(store).session_ids[0]}


@pytest.mark.parametrize("fault", DEEP)
def test_faults_of_content_are_found_by_a_deep_look(store: Path, fault: str) -> None:
    plant, kind = DEEP[fault]
    plant(group(store))
    problems = validate(store, deep=True)
    assert kind in {p.kind for p in problems}
    assert {p.session_id for p in problems} == {nhdata.open(store).session_ids[0]}


def test_a_damaged_catalog_is_found(store: Path) -> None:
    next((store / "catalog" / "fragments").glob("*-units.parquet")).unlink()
    (problem,) = validate(store)
    assert problem.kind == "catalog"


def test_looking_changes_nothing(store: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in store.rglob("*")}
    validate(store, deep=True)
    unclaimed(store)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in store.rglob("*")} == before


def test_sweep_removes_only_what_no_position_names(store: Path) -> None:
    kept = group(store)
    superseded = nhdata.open(store).session_ids[1]
    old = store / nhdata.open(store).snapshot.entries[superseded].path
    Catalog(store / "catalog").remove(superseded)
    orphan = Path(shutil.copytree(kept, kept.with_name("never-committed")))
    staged = Path(shutil.copytree(kept, store / "sessions" / ".staging" / "abc"))
    assert unclaimed(store).leftovers == []  # too young: a writer may be at work
    assert unclaimed(store, grace_s=0).leftovers == sorted([orphan, staged])
    assert sweep(store, grace_s=0).leftovers == sorted([orphan, staged])
    assert kept.is_dir()
    assert old.is_dir()
    assert not orphan.exists()
    assert validate(store, deep=True) == []


def test_sweep_spares_the_sessions_of_a_catalog_that_was_lost(store: Path) -> None:
    session_ids = nhdata.open(store).session_ids
    kept = sorted(store / entry.path for entry in nhdata.open(store).snapshot.entries.values())
    shutil.rmtree(store / "catalog")
    staged = Path(shutil.copytree(kept[0], store / "sessions" / ".staging" / "abc"))
    assert sweep(store, grace_s=0).leftovers == [staged]
    assert not staged.parent.exists()
    assert unclaimed(store, grace_s=0).unnamed == kept
    rebuild_catalog(store)
    assert unclaimed(store, grace_s=0).unnamed == []
    assert nhdata.open(store).session_ids == session_ids
    assert validate(store, deep=True) == []


def test_sweep_spares_them_after_another_session_came(store: Path) -> None:
    kept = sorted(store / entry.path for entry in nhdata.open(store).snapshot.entries.values())
    shutil.rmtree(store / "catalog")
    ingest(store, "synthetic", [], options=SourceOptions(n_sessions=1, n_units=11, duration_s=20.0, seed=9))
    assert sweep(store, grace_s=0).leftovers == []
    assert unclaimed(store, grace_s=0).unnamed == kept
    assert ingest(store, "synthetic", [], options=SourceOptions(n_sessions=2, n_units=10, duration_s=20.0)).failed == []
    assert unclaimed(store, grace_s=0).unnamed == []
    assert len(nhdata.open(store).session_ids) == 3
    assert validate(store, deep=True) == []


def test_sweep_spares_the_session_of_a_log_that_lost_its_end(store: Path) -> None:
    last = max(nhdata.open(store).snapshot.entries.values(), key=lambda entry: entry.position)
    max((store / "catalog" / "log").glob("*.json")).unlink()
    assert sweep(store, grace_s=0).leftovers == []
    assert unclaimed(store, grace_s=0).unnamed == [store / last.path]


def test_age_decides(store: Path) -> None:
    staged = Path(shutil.copytree(group(store), store / "sessions" / ".staging" / "abc"))
    past = time.time() - 7200
    for written in (staged, *staged.rglob("*")):
        os.utime(written, (past, past))
    assert unclaimed(store).leftovers == [staged]
    (staged / "spikes" / "tick" / "zarr.json").touch()  # a writer has been at work in it for two hours
    assert unclaimed(store).leftovers == []
    os.utime(staged / "spikes" / "tick" / "zarr.json", (past, past))


def test_a_deep_check_decodes_the_spikes_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, ranges = SpikeShards.read, []

    def counted(shards: SpikeShards, lo: int, hi: int) -> object:
        ranges.append((lo, hi))
        return read(shards, lo, hi)

    monkeypatch.setattr(SpikeShards, "read", counted)
    assert validate(store, deep=True) == []
    assert len(ranges) == len(nhdata.open(store).session_ids)
