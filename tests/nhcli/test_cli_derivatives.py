"""``nhdata counts`` and ``nhdata features --out-dir``."""

import json

import numpy as np
import pyarrow.parquet as pq
import xarray as xr

import nhdata


def test_counts(nhdata_run, small_store, tmp_path) -> None:
    command = ("counts", "--bin", 0.02, "--out", tmp_path / "c.zarr", "--store", small_store, "--json")
    first = json.loads(nhdata_run(*command).stdout)
    assert [len(first[kind]) for kind in ("written", "skipped", "failed")] == [2, 0, 0]
    assert [len(json.loads(nhdata_run(*command).stdout)[kind]) for kind in ("written", "skipped")] == [0, 2]
    store = nhdata.open(small_store)
    for session_id in store.session_ids:
        ours = xr.open_zarr(tmp_path / "c.zarr", group=session_id, consolidated=False)
        np.testing.assert_array_equal(ours.counts, store.session(session_id).counts(0.02))


def test_what_fails_is_said_and_counted(nhdata_run, small_store, tmp_path) -> None:
    result = nhdata_run("counts", "--bin", 90, "--out", tmp_path / "c.zarr", "--store", small_store)
    assert result.exit_code == 1
    assert "bin_s=90.0 is longer than session" in result.stderr
    assert "0 written, 0 there already, 2 failed" in result.stderr
    one, other = nhdata.open(small_store).session_ids
    nhdata_run("features", "--store", small_store, "--session", one, "--out-dir", tmp_path / "f")
    (tmp_path / "f" / f"{other}.parquet").mkdir()
    result = nhdata_run("features", "--store", small_store, "--out-dir", tmp_path / "f")
    assert result.exit_code == 3


def test_wrong_words_are_one_line(nhdata_run, small_store, tmp_path) -> None:
    for arguments, words in (
        (("counts", "--bin", "nan", "--out", tmp_path / "c"), "bin_s=nan is not a width"),
        (("counts", "--bin", 0.02, "--out", tmp_path), "holds other things"),
        (("counts", "--bin", 0.02, "--out", tmp_path / "c", "--memory", 3), "3 MB for a session is too little"),
        (("counts", "--bin", 0.02, "--out", tmp_path / "c", "--session", "nobody"), "no session 'nobody'"),
        (("counts", "--bin", 0.02, "--out", "s3://lab/counts"), "s3://lab/counts is in an object store"),
        (("features", "--out-dir", "s3://lab/f"), "s3://lab/f is in an object store"),
        (("features", "--intervals", "trails"), "no interval table 'trails'"),
        (("features", "--set", "burst"), "no set of features 'burst'"),
        (("features", "--at", 5, "--window", 0, 60), "both a window and the start of one"),
        (("features", "--at", 5), "is not within session"),
        (("features", "--select", "select 1"), "no column unit_id"),
        (("features", "--out", "x", "--out-dir", "y"), "both --out and --out-dir"),
    ):
        (tmp_path / "thesis.tex").touch()
        result = nhdata_run(*arguments, "--store", small_store)
        assert result.exit_code == 1
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_features_of_units_intervals_and_sets(nhdata_run, small_store, tmp_path) -> None:
    command = (
        *("features", "--store", small_store, "--select", "select unit_id from units where region = 'CA1'"),
        *("--intervals", "trials", "--set", "quality, bursts"),
    )
    rows = json.loads(nhdata_run(*command, "--json").stdout)["rows"]
    store = nhdata.open(small_store)
    wanted = store.sql("select unit_id from units where region = 'CA1' order by session_id, unit_index")
    assert [row["unit_id"] for row in rows] == wanted["unit_id"].to_pylist()
    assert {"max_confidence", "burst_index_6ms", "intervals"} < set(rows[0])
    assert "rate_hz" not in rows[0]
    assert nhdata_run(*command, "--out-dir", tmp_path / "f").exit_code == 0
    assert sum(pq.read_table(path).num_rows for path in (tmp_path / "f").iterdir()) == len(rows)
