"""Opening a store: what is there, what is not, and that nothing is ever written."""

import os
import pickle

import numpy as np
import pytest
import zarr

import nhdata
from nhcatalog.errors import UserError


def use_everything(root):
    """Every way of reading a store."""
    store = nhdata.open(root)
    store.sql("select * from units join unit_features using (unit_id)")
    session = store.session("mouse-1")
    session.spikes(1.0, 2.0)
    session.ticks()
    session.units(), session.intervals(), session.series()
    session.features()
    session.features(0.0, 5.0)
    session.counts(0.02).compute()
    repr(store), repr(session)
    store.refresh()


def test_reading_writes_nothing(root, contents):
    before = contents(root)
    use_everything(root)
    assert contents(root) == before


def test_a_store_on_a_read_only_disk_can_be_read(tmp_path, put, recording):
    root = tmp_path / "data.zarr"
    put(root, recording())
    folders = [path for path in root.rglob("*") if path.is_dir()] + [root]
    for folder in folders:
        folder.chmod(0o500)
    try:
        if os.access(root, os.W_OK):
            pytest.skip("root may write into a folder that nobody may write into")
        use_everything(root)
    finally:
        for folder in folders:
            folder.chmod(0o700)


def test_the_catalog_says_what_the_session_says(store, session):
    (row,) = store.sql("select * from sessions").to_pylist()
    assert {k: row[k] for k in ("session_id", "source", "subject", "lab", "n_units", "n_spikes", "n_trials")} == {
        "session_id": "mouse-1",
        "source": "lab",
        "subject": "M1",
        "lab": "a lab",
        "n_units": 5,
        "n_spikes": 900,
        "n_trials": 3,
    }
    assert str(row["date"]) == "2024-02-29"
    assert (row["path"], row["content_hash"]) == ("sessions/lab/mouse-1", session.attrs["content_hash"])
    units = store.sql("select * from units order by unit_index").to_pylist()
    assert [unit["unit_id"] for unit in units] == [f"mouse-1/probe00/{c}" for c in (3, 5, 8, 9, 40)]
    assert [unit["region"] for unit in units] == ["CA1", None, None, "Área 3ª / β", "CA1"]
    assert [unit["depth_um"] for unit in units] == [20.0, None, -1.5, 0.0, float("inf")]
    assert [unit["n_spikes"] for unit in units] == session.units()["n_spikes"].tolist()
    assert units[0]["metrics"] == '{"n_channels": 0, "putative": true}'
    assert all(unit["quality"] == "unrated" and unit["good"] for unit in units)


def test_features_in_the_catalog_equal_those_in_the_session(store, session):
    features = session.features()
    rows = store.sql("select * from unit_features order by unit_id").to_pylist()
    assert len(rows) == 5
    by_id = {row["unit_id"]: row for row in rows}
    for unit, cluster in enumerate(session.units()["cluster_id"]):
        row = by_id[f"mouse-1/probe00/{cluster}"]
        assert (row["window_start_s"], row["window_stop_s"], row["version"]) == (0.0, session.duration_s, 1)
        got = np.array([row[name] for name in features["feature"].values], float)
        np.testing.assert_array_equal(got, features[unit].values.astype(np.float32))


def test_intervals_in_the_catalog(store):
    rows = store.sql("select name, interval_index, start_s, stop_s, fields from intervals order by 2").to_pylist()
    assert [(r["name"], r["start_s"], r["stop_s"]) for r in rows] == [
        ("trials", 0.5, 2.0),
        ("trials", 4.0, 6.0),
        ("trials", 8.0, None),
    ]
    assert rows[2]["fields"] == '{"choice": null, "side": "right"}'


def test_a_store_is_pinned_until_refreshed(tmp_path, put, recording):
    root = tmp_path / "data.zarr"
    put(root, recording())
    store = nhdata.open(root)
    put(root, recording(session_id="mouse-2"))
    assert (store.session_ids, store.position) == (["mouse-1"], 1)
    with pytest.raises(UserError, match="no session 'mouse-2'"):
        store.session("mouse-2")
    assert pickle.loads(pickle.dumps(store)).session_ids == ["mouse-1"]  # noqa: S301
    store.refresh()
    assert (store.session_ids, store.position) == (["mouse-1", "mouse-2"], 2)
    assert nhdata.open(root, at=1).session_ids == ["mouse-1"]


@pytest.mark.parametrize("session_id", ["..", "a/b", "", "../../etc", "mouse-1/../mouse-1", "Mouse-1"])
def test_an_id_that_is_not_in_the_catalog_opens_nothing(store, session_id):
    with pytest.raises(UserError, match="has no session"):
        store.session(session_id)


def test_what_is_not_a_store_is_refused(tmp_path):
    with pytest.raises(UserError, match="no store at"):
        nhdata.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="no store at"):
        nhdata.open(tmp_path / "file")
    with pytest.raises(UserError, match="no store at"):
        nhdata.open(tmp_path)
    zarr.create_group(tmp_path / "other.zarr", zarr_format=3, attributes={"nhdata_store": 99})
    with pytest.raises(UserError, match="found 99"):
        nhdata.open(tmp_path / "other.zarr")


def test_a_value_that_does_not_fit_the_catalog_is_refused_before_anything_is_published(tmp_path, put, recording):
    root = tmp_path / "data.zarr"
    with pytest.raises(UserError, match="date"):
        put(root, recording(date="yesterday"))
    assert os.listdir(root / "sessions") == ["zarr.json"]


def test_relative_store_survives_a_change_of_directory(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root.parent)
    store = nhdata.open(root.name)
    data = pickle.dumps(store)
    monkeypatch.chdir(tmp_path)
    for opened in (store, pickle.loads(data)):  # noqa: S301
        assert opened.session("mouse-1").spikes()[0].size > 0
