"""``nhdata validate``."""

import json
import shutil
from pathlib import Path

import pytest

import nhdata


@pytest.fixture
def store(small_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_store, tmp_path / "data.zarr"))


def test_a_sound_store(nhdata_run, store) -> None:
    result = nhdata_run("validate", "--deep", "--store", store, "--json")
    assert result.exit_code == 0
    empty = {"problems": [], "leftovers": [], "unnamed": []}
    assert json.loads(result.stdout) == {"schema": 1, "ok": True, "swept": False, **empty}


def test_a_fault_is_exit_1_and_named(nhdata_run, store) -> None:
    opened = nhdata.open(store)
    session_id = opened.session_ids[0]
    (store / opened.snapshot.entries[session_id].path / "spikes" / "unit" / "c" / "0").unlink()
    result = nhdata_run("validate", "--store", store, "--json")
    assert result.exit_code == 1
    value = json.loads(result.stdout)
    assert not value["ok"]
    assert value["problems"][0].keys() == {"session_id", "kind", "detail"}
    assert value["problems"][0]["session_id"] == session_id
    assert session_id in nhdata_run("validate", "--store", store).stdout


def test_sweep(nhdata_run, store) -> None:
    left = store / "sessions" / ".staging" / "dead"
    left.mkdir(parents=True)
    seen = nhdata_run("validate", "--store", store, "--grace-s", 0)
    assert seen.exit_code == 0
    assert "--sweep" in seen.stderr
    assert left.is_dir()
    assert nhdata_run("validate", "--store", store, "--grace-s", 0, "--sweep").exit_code == 0
    assert not left.exists()


def test_sweep_tells_what_it_spares(nhdata_run, store) -> None:
    session = store / next(iter(nhdata.open(store).snapshot.entries.values())).path
    shutil.rmtree(store / "catalog")
    seen = nhdata_run("validate", "--store", store, "--grace-s", 0, "--sweep")
    assert f"not in the catalog: {session}" in seen.stderr
    assert "nhdata catalog rebuild" in seen.stderr
    assert session.is_dir()


def test_no_store(nhdata_run, tmp_path) -> None:
    assert nhdata_run("validate", "--store", tmp_path / "none").exit_code == 1
