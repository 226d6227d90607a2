"""Features of many sessions as tables: which window, which units, whole files, done once."""

import os
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import nhdata
from nhcatalog.errors import UserError
from nhdata.derivatives.chosen import choose
from nhdata.derivatives.features import FeaturesJob, feature_table, feature_tables, write_features
from nhdata.features.reference import FEATURE_NAMES
from nhdata.features.sets import SETS, feature_columns
from nhdata.workers import Workers


def values(table) -> np.ndarray:
    return np.column_stack([table[name].to_numpy() for name in FEATURE_NAMES])


@pytest.mark.parametrize(
    ("job", "window", "intervals"),
    [
        (FeaturesJob(), (0.0, 60.0), None),
        (FeaturesJob(window_s=(2.0, 90.0)), (2.0, 90.0), None),
        (FeaturesJob(at_s=70.0), (70.0, 130.0), None),
        (FeaturesJob(intervals="trials"), (0.0, 150.0), "trials"),
        (FeaturesJob(window_s=(1.5, 4.0), intervals="trials"), (1.5, 4.0), "trials"),
    ],
)
def test_the_table_is_of_the_window_asked_for(store, job, window, intervals):
    (chosen,) = choose(store, ["long"])
    table = feature_table(job, chosen)
    np.testing.assert_array_equal(values(table), store.session("long").features(*window, intervals=intervals))
    assert set(zip(table["window_start_s"].to_pylist(), table["window_stop_s"].to_pylist(), strict=True)) == {window}
    assert table["intervals"].to_pylist() == [intervals] * 7


def test_relative_paths_survive_a_change_of_directory(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "data.zarr").symlink_to(store.path)
    report = write_features(
        choose(nhdata.open("data.zarr")),
        Path("f"),
        FeaturesJob(),
        on_outcome=lambda outcome: os.chdir(tmp_path / "other"),
    )
    assert (len(report.written), report.failed) == (3, [])
    assert len(os.listdir(tmp_path / "f")) == 3
    assert os.listdir(tmp_path / "other") == []


def test_undefined_is_null(store):
    (chosen,) = choose(store, ["silent"])
    table = feature_table(FeaturesJob(), chosen)
    assert table["isi_cv"].null_count == 2
    assert table["rate_hz"].to_pylist() == [0.0, 0.0]


def test_every_set_has_its_columns(store):
    (chosen,) = choose(store, ["long"], select="select unit_id from units where unit_index in (2, 4)")
    table = feature_table(FeaturesJob(sets=tuple(SETS)), chosen)
    assert table["unit_id"].to_pylist() == ["long/p/2", "long/p/4"]
    columns = feature_columns(store.session("long").trains(0, 60), tuple(SETS))
    for name, column in columns.items():
        np.testing.assert_array_equal(table[name].to_numpy(), column[[2, 4]])
    assert len(columns) == len(set(columns)) == 33 + 2 + 1 + 3 + 5 + 1


def test_files_are_written_once_and_read_as_one_table(store, tmp_path):
    report = write_features(choose(store), tmp_path / "f", FeaturesJob())
    assert len(report.written) == 3
    table = ds.dataset(tmp_path / "f").to_table().sort_by("unit_id")
    assert table["unit_id"].to_pylist() == sorted(store.sql("select unit_id from units")["unit_id"].to_pylist())
    again = write_features(choose(store), tmp_path / "f", FeaturesJob())
    assert len(again.skipped) == 3
    later = write_features(choose(store, ["long"]), tmp_path / "f", FeaturesJob(at_s=3.0))
    assert len(later.written) == 1
    assert pq.read_table(tmp_path / "f" / "long.parquet")["window_start_s"].to_pylist() == [3.0] * 7
    assert {p.suffix for p in (tmp_path / "f").iterdir()} == {".parquet"}


def test_a_damaged_or_strange_file_is_written_again(store, tmp_path):
    (tmp_path / "long.parquet").write_bytes(b"PAR1 and nothing more")
    report = write_features(choose(store, ["long"]), tmp_path, FeaturesJob())
    assert len(report.written) == 1
    assert pq.read_table(tmp_path / "long.parquet").num_rows == 7


def test_a_session_without_the_window_fails_and_costs_no_other(store, tmp_path):
    report = write_features(choose(store), tmp_path, FeaturesJob(window_s=(10.0, 20.0)))
    assert [o.session_id for o in report.written] == ["long"]
    assert all("not within session" in o.detail for o in report.failed)
    with pytest.raises(UserError, match="not within session"):
        list(feature_tables(choose(store), FeaturesJob(window_s=(10.0, 20.0))))


def test_processes_say_the_same(store):
    job = FeaturesJob(sets=("reference", "quality"))
    here = dict(feature_tables(choose(store), job))
    there = dict(feature_tables(choose(store), job, workers=Workers(2)))
    assert here == there


def test_what_there_is_not_is_named(store, tmp_path):
    with pytest.raises(UserError, match="no session 'nobody'"):
        choose(store, ["nobody"])
    with pytest.raises(UserError, match="no set of features 'burst'"):
        write_features(choose(store), tmp_path / "f", FeaturesJob(sets=("burst",)))
    with pytest.raises(UserError, match="both a window and the start"):
        write_features(choose(store), tmp_path / "f", FeaturesJob(window_s=(0.0, 1.0), at_s=1.0))
    assert not (tmp_path / "f").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        write_features(choose(store), tmp_path / "file", FeaturesJob())
    with pytest.raises(UserError, match="selects no unit of short"):
        choose(store, ["short"], select="select unit_id from units where session_id = 'long'")
