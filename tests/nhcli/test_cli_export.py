"""``nhdata export``: files, what is said, and exit codes."""

import json

import h5py
import numpy as np
import pytest

import nhdata
from nhcatalog.errors import UserError
from nhdata.export import brainset


@pytest.fixture
def export(nhdata_run, small_store, tmp_path):
    return lambda *args: nhdata_run(
        "export", "--to", "brainset", "--store", small_store, "--out", tmp_path / "out", *args
    )


def test_every_session_becomes_a_file(export, small_store, tmp_path) -> None:
    store = nhdata.open(small_store)
    result = export()
    assert result.exit_code == 0
    assert sorted(p.stem for p in (tmp_path / "out").iterdir()) == store.session_ids
    for session_id, line in zip(store.session_ids, result.stdout.splitlines(), strict=True):
        path = tmp_path / "out" / f"{session_id}.h5"
        times_s, _ = store.session(session_id).spikes()
        assert line == f"{path}  12 units  {len(times_s)} spikes"
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["spikes/timestamps"][:], times_s)
    assert result.stderr == "2 exported, 0 skipped, 0 failed\n"


def test_json_and_one_session(export, small_store, tmp_path) -> None:
    store = nhdata.open(small_store)
    session = store.session(store.session_ids[1])
    result = export("--session", session.session_id, "--session", session.session_id, "--json")
    assert json.loads(result.stdout) == {
        "schema": 1,
        "format": "brainset",
        "exported": [
            {
                "session_id": session.session_id,
                "path": str(tmp_path / "out" / f"{session.session_id}.h5"),
                "n_units": 12,
                "n_spikes": session.n_spikes,
            }
        ],
        "skipped": [],
        "failed": [],
    }
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_existing(export, small_store, tmp_path) -> None:
    first = nhdata.open(small_store).session_ids[0]
    old = tmp_path / "out" / f"{first}.h5"
    old.parent.mkdir()
    old.write_bytes(b"old")
    refused = export("--existing", "error")
    assert refused.exit_code == 1
    assert f"{old} exists: use --existing" in refused.stderr
    assert [p.name for p in old.parent.iterdir()] == [old.name]
    value = json.loads(export("--json").stdout)
    assert [one["session_id"] for one in value["skipped"]] == [first]
    assert len(value["exported"]) == 1
    assert old.read_bytes() == b"old"
    assert len(json.loads(export("--existing", "overwrite", "--json").stdout)["exported"]) == 2
    assert h5py.is_hdf5(old)


def test_one_that_fails_leaves_the_others(export, small_store, tmp_path, monkeypatch) -> None:
    first, second = nhdata.open(small_store).session_ids
    write = brainset.write_brainset

    def fail_first(session, path) -> None:
        if session.session_id == first:
            raise UserError("times of wheel run wild", "mend them")
        write(session, path)

    monkeypatch.setattr(brainset, "write_brainset", fail_first)
    result = export()
    assert result.exit_code == 3
    assert f"error: session {first}: times of wheel run wild: mend them\n" in result.stderr
    assert [p.stem for p in (tmp_path / "out").iterdir()] == [second]
    assert export("--session", first, "--existing", "overwrite").exit_code == 1


def test_errors_are_one_line(export, nhdata_run, small_store, tmp_path) -> None:
    unknown = export("--session", "nobody")
    assert unknown.exit_code == 1
    assert "has no session 'nobody'" in unknown.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("a file")
    in_the_way = export()
    assert in_the_way.exit_code == 1
    assert len(in_the_way.stderr.splitlines()) == 1
    assert nhdata_run("export", "--to", "csv", "--store", small_store, "--out", tmp_path).exit_code == 2


def test_what_was_exported_can_be_ingested(export, nhdata_run, small_store, tmp_path) -> None:
    export()
    args = ("ingest", "--source", "brainset", tmp_path / "out", "--store", tmp_path / "again.zarr", "--json")
    value = json.loads(nhdata_run(*args).stdout)
    store = nhdata.open(small_store)
    assert {one["session_id"]: one["n_spikes"] for one in value["ingested"]} == {
        f"synthetic_{session_id}": store.session(session_id).n_spikes for session_id in store.session_ids
    }
    assert json.loads(nhdata_run(*args).stdout)["ingested"] == []
