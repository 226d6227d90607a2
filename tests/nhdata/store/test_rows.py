"""The catalog's rows of a session whose columns have the catalog's names but not its types."""

import json

import numpy as np
import zarr

import nhdata
from nhdata.store.rows import catalog_rows
from nhdata.store.session import Session


def test_a_column_of_another_kind_is_a_further_metric_and_costs_nothing(recording, put, tmp_path):
    units = dict(recording().units)
    units["label"] = np.array(["pyr", "", "int", "pyr", "pyr"], dtype=object)  # Phy's cluster_label.tsv
    units["peak_channel"] = np.array([0.5, 1, 2, 3, np.nan])
    units["cluster_id"] = np.array([1, 2, 3, 4, 2**63 + 5], np.uint64)
    put(tmp_path / "s", recording(units=units))
    query = "select unit_id, label, peak_channel, cluster_id, snr, metrics from units order by unit_index"
    rows = nhdata.open(tmp_path / "s").sql(query).to_pylist()
    assert {(row["label"], row["peak_channel"], row["cluster_id"]) for row in rows} == {(None, None, None)}
    assert json.loads(rows[-1]["metrics"])["cluster_id"] == 2**63 + 5
    assert rows[-1]["unit_id"] == f"mouse-1/probe00/{2**63 + 5}"
    assert [json.loads(row["metrics"])["label"] for row in rows] == ["pyr", "", "int", "pyr", "pyr"]
    assert [json.loads(row["metrics"])["peak_channel"] for row in rows] == [0.5, 1, 2, 3, None]
    assert rows[0]["snr"] == 1.5


def test_missing_truth_values_are_null(recording, put, tmp_path):
    units = {**recording().units, "good": np.ones(5, bool), "putative": np.array([True, False, True, False, True])}
    put(tmp_path / "s", recording(units=units))
    path = nhdata.open(tmp_path / "s").session("mouse-1").path
    group = zarr.open_group(path, mode="r+")
    for name in ("good", "putative"):
        group[f"units/{name}"][...] = np.array([1, 0, -1, 0, 1], np.int8)
    np.testing.assert_array_equal(Session(path).units()["putative"], [1, 0, np.nan, 0, 1])
    _, tables = catalog_rows(Session(path))
    rows = tables["units"].to_pylist()
    assert [row["good"] for row in rows] == [True, False, None, False, True]
    assert [json.loads(row["metrics"])["putative"] for row in rows] == [1, 0, None, 0, 1]
