"""A store in an object store says what the same store on a disk says, and is never half written."""

import pickle

import numpy as np
import obstore
import pytest
import xarray as xr
import zarr
from packaging.version import Version

import nhdata
from nhcatalog.errors import UserError
from nhcatalog.place import Url
from nhcatalog.storage import open_files
from nhdata.recording import Spikes
from nhdata.store.layout import SHARD_SPIKES
from nhdata.store.session import Session
from nhdata.store.sweep import sweep, unclaimed
from nhdata.store.validate import validate


@pytest.fixture
def url(bucket: str, put, recording) -> str:
    """A store with the session mouse-1."""
    put(f"{bucket}/lab/data.zarr", recording())
    return f"{bucket}/lab/data.zarr"


def test_both_say_the_same(url, root):
    here, there = nhdata.open(root), nhdata.open(f"{url}/")
    for table in ("units", "unit_features", "intervals"):
        assert there.sql(f"select * from {table}") == here.sql(f"select * from {table}")
    for one, other in zip(here.sql("from sessions").to_pylist(), there.sql("from sessions").to_pylist(), strict=True):
        assert {k for k in one if one[k] != other[k]} == {"path", "ingested_at"}
    mine, theirs = here.session("mouse-1"), there.session("mouse-1")
    assert theirs.attrs == mine.attrs
    for a, b in ((mine, theirs), (mine, pickle.loads(pickle.dumps(theirs)))):  # noqa: S301
        for x, y in zip(a.spikes(1.0, 3.5), b.spikes(1.0, 3.5), strict=True):
            np.testing.assert_array_equal(x, y)
        np.testing.assert_equal(b.units(), a.units())
        np.testing.assert_equal(b.intervals(), a.intervals())
        np.testing.assert_equal(b.series(), a.series())
        assert b.features(0.0, 5.0).identical(a.features(0.0, 5.0))
        assert b.counts(0.02).compute().identical(a.counts(0.02).compute())
    assert validate(url, deep=True) == []
    assert pickle.loads(pickle.dumps(there)).session_ids == ["mouse-1"]  # noqa: S301


def test_reading_writes_nothing(url, bucket):
    def everything():
        return open_files(bucket).walk()

    before = everything()
    store = nhdata.open(url)
    store.session("mouse-1").counts(0.02).compute()
    assert validate(url, deep=True) == []
    assert everything() == before


@pytest.mark.skipif(Version(zarr.__version__) < Version("3.1.6"), reason="the ObjectStore of this zarr lists nothing")
def test_any_zarr_reader_opens_it(url, bucket):
    path = nhdata.open(url).session("mouse-1").path
    assert isinstance(path, Url)
    from nhcatalog.bucket import open_bucket

    store = zarr.storage.ObjectStore(open_bucket(path.bucket), read_only=True)
    spikes = xr.open_zarr(store, group=f"{path.key}/spikes", consolidated=False)
    np.testing.assert_array_equal(spikes["tick"].values, Session(path).ticks()[0])


def test_few_large_requests(bucket, put, recording, monkeypatch):
    rng = np.random.default_rng(0)
    sample = np.sort(rng.integers(0, 30000 * 600, 2 * SHARD_SPIKES + 17))
    put(f"{bucket}/s", recording(spikes=Spikes(sample, rng.integers(0, 5, sample.size), 30000.0)))
    open_files(bucket)
    monkeypatch.setattr("nhcatalog.objects.PIECE_BYTES", 2**30)
    asked = []
    get = obstore.get
    monkeypatch.setattr(obstore, "get", lambda store, key, **how: asked.append(key) or get(store, key, **how))
    session = nhdata.open(f"{bucket}/s").session("mouse-1")
    session.ticks(0, 1)
    asked.clear()
    middle = int(sample[SHARD_SPIKES + 1000])
    session.ticks(middle, middle + 30000)
    shards = [key.removeprefix(f"{session.path.key}/") for key in asked]
    assert sorted(shards) == ["spikes/tick/c/1", "spikes/unit/c/1"]
    asked.clear()
    np.testing.assert_array_equal(session.ticks()[0], sample)
    assert len(asked) <= 2
    asked.clear()
    Session(session.path).ticks()
    assert asked == []


def test_a_session_that_is_replaced_stays_for_who_reads_it(url, put, recording):
    before = nhdata.open(url)
    session = before.session("mouse-1")
    put(url, recording(subject="M2"), overwrite=True)
    assert session.units()["cluster_id"].tolist() == [3, 5, 8, 9, 40]
    assert before.session("mouse-1").attrs["subject"] == "M1"
    assert nhdata.open(url).session("mouse-1").attrs["subject"] == "M2"
    assert nhdata.open(url, at=1).session("mouse-1").attrs["subject"] == "M1"
    assert sweep(url, grace_s=0).leftovers == []
    assert validate(url, deep=True) == []


def test_what_a_killed_writer_left_is_swept(url, bucket, put, recording, monkeypatch):
    files = open_files(url)
    before = files.walk()

    class Killed(BaseException):
        pass

    for n_objects in (0, 1, 7, 30, 10**6):  # the last is killed between the upload and the commit
        with monkeypatch.context() as patch:
            real_put, real_create = obstore.put, type(files).create
            done = []

            def put_object(*args, n=n_objects, real_put=real_put, done=done, **how):
                if len(done) >= n:
                    raise Killed
                done.append(args)
                return real_put(*args, **how)

            def create(self, name, content, real_create=real_create):
                if name.startswith("log/"):
                    raise Killed
                real_create(self, name, content)

            patch.setattr(obstore, "put", put_object)
            patch.setattr(type(files), "create", create)
            with pytest.raises(Killed):
                put(url, recording(session_id="mouse-2"))
        assert nhdata.open(url).session_ids == ["mouse-1"]
        assert validate(url) == []
    left = unclaimed(url, grace_s=0).leftovers
    assert left
    assert all(str(place).startswith(f"{url}/sessions/lab/mouse-2.") for place in left)
    assert unclaimed(url).leftovers == []  # too young: a writer may be at work
    (whole,) = unclaimed(url, grace_s=-1).unnamed  # uploaded to the end: a catalog that lost it would look the same
    assert whole not in left
    assert sweep(url, grace_s=-1).leftovers == left
    after = files.walk()
    rest = {name for name in after if name.startswith("sessions/")} - set(before)
    assert {f"{url}/{name}".startswith(f"{whole}/") for name in rest} == {True}
    put(url, recording(session_id="mouse-2"))
    assert nhdata.open(url).session_ids == ["mouse-1", "mouse-2"]
    assert sweep(url, grace_s=-1).leftovers == [whole]
    assert unclaimed(url, grace_s=-1).unnamed == []
    assert validate(url, deep=True) == []


def test_a_server_that_ignores_put_if_absent_is_refused(bucket, put, recording, monkeypatch):
    real_put = obstore.put
    monkeypatch.setattr(
        obstore, "put", lambda *args, mode=None, attributes=None, **how: real_put(*args, attributes=attributes, **how)
    )
    with pytest.raises(UserError, match="If-None-Match"):
        put(f"{bucket}/s", recording())


def test_an_upload_that_is_not_all_there_is_no_session(bucket, put, recording, monkeypatch):
    real_put = obstore.put
    monkeypatch.setattr(
        obstore,
        "put",
        lambda store, key, *args, **how: None if "unit/c/0" in key else real_put(store, key, *args, **how),
    )
    with pytest.raises(UserError, match="not all that was written is there"):
        put(f"{bucket}/s", recording())
    assert nhdata.open(f"{bucket}/s").session_ids == []


def test_what_is_not_a_store_is_refused(bucket, put, recording, url):
    for text in (f"{bucket}/nowhere", bucket, f"{url}/sessions/zarr.json", f"{bucket}/lab/data"):
        with pytest.raises(UserError, match="no store at"):
            nhdata.open(text)
    with pytest.raises(UserError, match="found None"):
        nhdata.open(f"{url}/sessions")
    with pytest.raises(UserError, match="other things in it"):
        put(f"{bucket}/lab", recording())
    open_files(f"{bucket}/x").write("zarr.json", b"{")
    with pytest.raises(UserError, match="not a Zarr document"):
        nhdata.open(f"{bucket}/x")


def test_lost_objects_are_found(url):
    store = nhdata.open(url)
    session = store.session("mouse-1")
    open_files(session.path).delete("units/region/c/0")
    open_files(session.path).delete("spikes/tick/c/0")
    kinds = {(problem.kind, problem.detail) for problem in validate(url)}
    assert ("missing", "spikes/tick: 1 of 1 files") in kinds
    assert ("missing", "units/region: 1 of 1 files") in kinds
    files = open_files(url)
    for name in files.walk(store.snapshot.entries["mouse-1"].path):
        files.delete(name)
    assert [problem.kind for problem in validate(url)] == ["missing"]
    with pytest.raises(UserError, match="no session here"):
        nhdata.open(url).session("mouse-1")


@pytest.mark.parametrize("path", ["../other", "/etc", "sessions/../../x", "sessions\\\\x", ""])
def test_a_log_cannot_lead_out_of_the_store(url, path):
    files = open_files(f"{url}/catalog")
    entry = files.read("log/0000000001.json").decode()
    named = nhdata.open(url).snapshot.entries["mouse-1"].path
    assert named in entry
    files.write("log/0000000001.json", entry.replace(named, path).encode())
    with pytest.raises(UserError, match=r"0000000001\.json"):
        nhdata.open(url)
