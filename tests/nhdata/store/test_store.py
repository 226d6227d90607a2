"""Opening a store: what is there, what is not, and that nothing is ever written."""

import operator
import os
import pickle
import shutil
import subprocess
import sys

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


READS = {
    "units": lambda session: session.units(),
    "intervals": lambda session: session.intervals(),
    "interval_lengths": lambda session: session.interval_lengths(),
    "interval_table": lambda session: session.interval_table("trials"),
    "series": lambda session: session.series(),
    "series_shapes": lambda session: session.series_shapes(),
    "series_units": lambda session: session.series_units(),
    "features": lambda session: session.features(),
    "feature_attrs": lambda session: session.feature_attrs,
    "ticks": lambda session: session.ticks(),
    "counts": lambda session: session.counts(0.02).compute(),
}


def test_session_moved_after_opening_is_one_clear_error(root, tmp_path):
    for name, read in READS.items():
        session = nhdata.open(shutil.copytree(root, tmp_path / name)).session("mouse-1")
        (tmp_path / name).rename(tmp_path / f"{name}-moved")
        with pytest.raises(UserError, match="moved or deleted after it was opened: open the store again"):
            read(session)


@pytest.mark.parametrize(
    ("group", "read"),
    [
        ("units", "units"),
        ("intervals", "interval_lengths"),
        ("series", "series"),
        ("features/reference", "feature_attrs"),
        ("spikes/block", "ticks"),
    ],
)
def test_missing_group_of_session_is_named(root, tmp_path, group, read):
    session = nhdata.open(shutil.copytree(root, tmp_path / "copy")).session("mouse-1")
    shutil.rmtree(session.path / group)
    with pytest.raises(UserError, match=f"mouse-1/{group}: missing"):
        READS[read](session)


def test_unpickling_reads_nothing(root, tmp_path):
    moved = shutil.copytree(root, tmp_path / "data.zarr")
    store = nhdata.open(moved)
    session = store.session("mouse-1")
    pickled = pickle.dumps((store, session, store.snapshot))
    moved.rename(tmp_path / "elsewhere.zarr")
    store, session, snapshot = pickle.loads(pickled)  # noqa: S301
    assert (store.position, snapshot.position, session.n_spikes) == (1, 1, 900)
    assert repr(session).startswith("<Session mouse-1")
    with pytest.raises(UserError, match="no session here"):
        session.ticks()
    for use in (lambda: store.session_ids, lambda: store.session("mouse-1"), lambda: snapshot.sql("from units")):
        with pytest.raises(UserError, match=f"no catalog at {moved}/catalog: check that the store is on this machine"):
            use()
    (tmp_path / "elsewhere.zarr").rename(moved)
    assert store.session_ids == ["mouse-1"]
    assert session.ticks()[0].size == 900


CLUSTER = """if __name__ == "__main__":
    from distributed import LocalCluster
    options = dict(protocol="tcp", host="127.0.0.1", dashboard_address=None)
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, **options) as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""


def test_dask_worker_without_the_store_reports_an_error(root, tmp_path):
    """Scheduler and worker are processes of their own, and neither may find the store."""
    from distributed import Client

    moved = shutil.copytree(root, tmp_path / "data.zarr")
    store = nhdata.open(moved)
    counts = store.session("mouse-1").counts(0.02).sum()
    moved.rename(tmp_path / "elsewhere.zarr")
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        with Client(process.stdout.readline().strip(), timeout=60) as client:
            with pytest.raises(UserError, match=r"lab/mouse-1: no session here"):
                client.compute(counts).result(timeout=20)
            with pytest.raises(UserError, match="no catalog at"):
                client.submit(operator.attrgetter("session_ids"), store).result(timeout=20)
            (tmp_path / "elsewhere.zarr").rename(moved)
            assert client.compute(counts + 0).result(timeout=20) == 900
    finally:
        process.communicate("\n", timeout=60)


def test_a_store_made_again_at_the_same_path_is_never_mixed_with_the_old_one(recording, put, tmp_path) -> None:
    root = tmp_path / "s"
    put(root, recording())
    store = nhdata.open(root)
    assert store.sql("select count(*) as n from units").to_pylist() == [{"n": 5}]
    shutil.rmtree(root)
    put(root, recording(subject="another"))
    with pytest.raises(UserError, match="has other content than at log position 1"):
        store.session("mouse-1")
    with pytest.raises(UserError, match="deleted, or made again"):
        store.sql("select count(*) as n from units")
    store.refresh()
    assert store.session("mouse-1").attrs["subject"] == "another"
    assert store.sql(
        "select subject, count(*) as n from units join sessions using (session_id) group by 1"
    ).to_pylist() == [{"subject": "another", "n": 5}]
