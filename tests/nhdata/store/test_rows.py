"""The catalog's rows of a session whose columns have the catalog's names but not its types."""

import json

import numpy as np

import nhdata


def test_a_column_of_another_kind_is_a_further_metric_and_costs_nothing(recording, put, tmp_path):
    units = dict(recording().units)
    units["label"] = np.array(["pyr", "", "int", "pyr", "pyr"], dtype=object)  # Phy's cluster_label.tsv
    units["peak_channel"] = np.array([0.5, 1, 2, 3, np.nan])
    put(tmp_path / "s", recording(units=units))
    query = "select label, peak_channel, snr, metrics from units order by unit_index"
    rows = nhdata.open(tmp_path / "s").sql(query).to_pylist()
    assert {(row["label"], row["peak_channel"]) for row in rows} == {(None, None)}
    assert [json.loads(row["metrics"])["label"] for row in rows] == ["pyr", "", "int", "pyr", "pyr"]
    assert [json.loads(row["metrics"])["peak_channel"] for row in rows] == [0.5, 1, 2, 3, None]
    assert rows[0]["snr"] == 1.5
