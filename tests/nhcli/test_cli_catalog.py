"""``nhdata catalog``, ``select`` and ``schema``."""

import json
import shutil

import pytest

import nhdata
from nhcatalog.schema import describe

GOOD = "select unit_id from units where good and rate_hz > 1"


@pytest.fixture
def store(small_store, tmp_path):
    shutil.copytree(small_store, tmp_path / "data.zarr")
    return tmp_path / "data.zarr"


def test_log_verify_compact_vacuum_remove(nhdata_run, store) -> None:
    first, second = nhdata.open(store).session_ids
    run = lambda *args: nhdata_run("catalog", *args, "--store", store, "--json")  # noqa: E731
    assert json.loads(run("verify").stdout) == {"schema": 1, "ok": True, "problems": []}
    assert json.loads(run("compact").stdout) == {"schema": 1, "compacted": True, "position": 2}
    assert json.loads(run("compact").stdout)["compacted"] is False
    assert json.loads(run("remove", first).stdout) == {"schema": 1, "removed": {first: 3}}
    commits = json.loads(run("log", "--limit", 2).stdout)["commits"]
    assert [(c["position"], c["kind"], c["session_id"]) for c in commits] == [(3, "remove", first), (2, "add", second)]
    would = json.loads(run("vacuum", "--grace-s", 0, "--dry-run").stdout)["files"]
    assert json.loads(run("vacuum").stdout)["files"] == []
    assert json.loads(run("vacuum", "--grace-s", 0).stdout)["files"] == would
    assert len(would) == 1 + 2 * 4  # a log file, and four tables of two sessions
    assert nhdata.open(store).session_ids == [second]
    assert nhdata.open(store, at=2).session_ids == [first, second]
    gone = nhdata_run("catalog", "remove", second, first, "--store", store)
    assert (gone.exit_code, gone.stderr.count("\n")) == (1, 1)
    assert nhdata.open(store).session_ids == [second]


def test_verify_of_a_damaged_catalog_and_rebuild(nhdata_run, store) -> None:
    sessions = nhdata.open(store).session_ids
    (store / "catalog" / "log" / "0000000001.json").unlink()
    result = nhdata_run("catalog", "verify", "--store", store)
    assert result.exit_code == 1
    assert "0000000001.json: missing" in result.stdout
    rebuilt = json.loads(nhdata_run("catalog", "rebuild", "--store", store, "--json").stdout)
    assert rebuilt == {"schema": 1, "position": 3, "failed": {}}
    assert nhdata.open(store).session_ids == sessions
    assert "no store" in nhdata_run("catalog", "log", "--store", store.parent / "none").stderr


def test_schema(nhdata_run) -> None:
    value = json.loads(nhdata_run("schema", "--json").stdout)
    assert [tuple(column.values()) for column in value["columns"]] == describe()
    assert "good_units()" in [macro["call"] for macro in value["macros"]]
    assert "Hz" in nhdata_run("schema", "units").stdout
    assert "choose one of sessions" in nhdata_run("schema", "spikes").stderr


def test_select_keep_show_list_diff_remove(nhdata_run, store) -> None:
    first = nhdata.open(store).session_ids[0]
    run = lambda *args: nhdata_run("select", *args, "--store", store, "--json")  # noqa: E731
    made = json.loads(run("--name", "ca1", GOOD).stdout)
    assert (made["name"], made["query"], made["position"], made["n_sessions"]) == ("ca1", GOOD, 2, 2)
    shown = json.loads(run("--name", "ca1").stdout)
    assert len(shown.pop("unit_ids")) == made["n_units"]
    assert shown == made
    assert json.loads(run().stdout)["selections"] == [{k: v for k, v in made.items() if k != "schema"}]
    assert "already" in run("--name", "ca1", GOOD).stderr
    nhdata_run("catalog", "remove", first, "--store", store)
    diff = json.loads(run("--name", "ca1", "--diff").stdout)
    assert (diff["added"], diff["changed_sessions"]) == ([], [])
    assert diff["removed"]
    assert all(unit_id.startswith(first) for unit_id in diff["removed"])
    assert nhdata_run("select", "--name", "ca1", "--diff", "--store", store).stdout.startswith(f"- {first}/")
    assert run("--name", "ca1", "--remove").exit_code == 0
    assert json.loads(run().stdout)["selections"] == []
    for wrong in (
        ["--name", "ca1"],
        [GOOD],
        ["--name", "../x", GOOD],
        ["--name", "b", "ca1"],
        ["--name", "b", "select 1 as x"],
    ):
        result = run(*wrong)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1), wrong
    assert not (store / "catalog" / "selections").exists() or not list((store / "catalog" / "selections").iterdir())
