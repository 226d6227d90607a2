"""What lies on disk: groups that any Zarr v3 reader opens, whole or not at all."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import nhdata
import nhdata.store.publish
from nhcatalog.errors import UserError
from nhdata.recording import Spikes
from nhdata.store.encode import encode
from nhdata.store.layout import CHUNK_SPIKES, SHARD_SPIKES
from nhdata.store.publish import check_place, create_store, publish, staged
from nhdata.store.write import write_session

CORE_CODECS = {"bytes", "blosc", "crc32c", "sharding_indexed", "transpose"}


def documents(folder: Path) -> dict[str, dict]:
    """Every zarr.json under a folder, by the name of its node."""
    found = sorted(folder.rglob("zarr.json"))
    return {str(path.parent.relative_to(folder)): json.loads(path.read_text()) for path in found}


def codec_names(document) -> set[str]:
    """Names of all codecs of an array, those inside shards too."""
    codecs = list(document["codecs"])
    for codec in codecs:
        inner = codec.get("configuration", {})
        codecs += inner.get("codecs", []) + inner.get("index_codecs", [])
    return {codec["name"] for codec in codecs}


def test_only_core_codecs_and_checksums_everywhere(root):
    arrays = {name: doc for name, doc in documents(root).items() if doc["node_type"] == "array"}
    assert len(arrays) > 20
    for name, document in arrays.items():
        assert document["zarr_format"] == 3
        assert codec_names(document) <= CORE_CODECS, name
        assert "crc32c" in codec_names(document), name
        assert isinstance(document["data_type"], str), name  # an extension type would be an object
    for name in ("tick", "unit"):
        assert "sharding_indexed" in codec_names(arrays[f"sessions/lab/mouse-1/spikes/{name}"])


def test_no_fill_value_could_be_taken_for_data(root):
    fills = {name: doc["fill_value"] for name, doc in documents(root).items() if doc["node_type"] == "array"}
    assert 0 not in fills.values()
    assert 0.0 not in fills.values()
    assert fills["sessions/lab/mouse-1/spikes/tick"] == 2**32 - 1
    assert fills["sessions/lab/mouse-1/spikes/unit"] == 2**16 - 1
    assert fills["sessions/lab/mouse-1/units/snr"] == "NaN"
    assert fills["sessions/lab/mouse-1/units/region"] == fills["sessions/lab/mouse-1/units/putative"] == -1


def test_chunks_that_are_all_zero_are_written_too(write, recording):
    """Otherwise a lost chunk and one of zeros would look the same."""
    one = recording(spikes=Spikes(np.zeros(10, np.int64), np.zeros(10, np.int64), 30000.0))
    session = write(one)
    for name in ("spikes/tick", "spikes/unit", "units/n_spikes"):
        assert (session.path / name / "c" / "0").is_file()


def test_attributes_say_who_when_and_from_what(session, recording):
    attrs, one = session.attrs, recording()
    assert attrs["nhdata_schema"] == 1
    assert (attrs["subject"], attrs["lab"], attrs["date"]) == ("M1", "a lab", "2024-02-29")
    assert (attrs["n_units"], attrs["n_spikes"], attrs["tick_hz"]) == (5, 900, 1e6)
    assert attrs["provenance"] == json.loads(json.dumps(asdict(one.provenance)))
    assert attrs["software"].startswith("neurohorizon ")
    assert len(attrs["content_hash"]) == 64


SHAPES = {
    "spikes": {"spike": 900, "block": 125},
    "units": {"unit": 5},
    "intervals/trials": {"interval": 3},
    "intervals/empty": {"interval": 0},
    "series/wheel_position": {"time": 48},
    "series/xy": {"time": 5, "component": 2},
    "features/reference": {"unit": 5, "feature": 33},
}


@pytest.mark.parametrize("group", SHAPES)
def test_xarray_opens_every_group(session, group):
    data = xr.open_zarr(session.path, group=group, consolidated=False)
    assert dict(data.sizes) == SHAPES[group]
    data.load()


def test_every_group_of_a_session_was_opened_by_xarray(session):
    with_arrays = {str(Path(n).parent) for n, d in documents(session.path).items() if d["node_type"] == "array"}
    assert with_arrays == set(SHAPES)


def test_xarray_reads_what_was_recorded(session, recording):
    one = recording()
    spikes = xr.open_zarr(session.path, group="spikes", consolidated=False)
    times_s = session.t_start_s + spikes["tick"].values / session.tick_hz
    np.testing.assert_allclose(times_s, one.spikes.time, rtol=0, atol=0.51e-6)
    assert (spikes["tick"].dtype, spikes["unit"].dtype, spikes["block"].dtype) == (np.uint32, np.uint16, np.int64)


def test_spikes_over_several_chunks_and_shards_come_back(write, recording):
    rng = np.random.default_rng(0)
    sample = np.sort(rng.integers(0, 30000 * 600, SHARD_SPIKES + CHUNK_SPIKES + 17))
    unit = rng.integers(0, 5, sample.size)
    session = write(recording(spikes=Spikes(sample, unit, 30000.0)))
    assert len(list((session.path / "spikes/tick/c").iterdir())) == 2
    tick, got = session.ticks()
    np.testing.assert_array_equal(tick, sample)
    np.testing.assert_array_equal(np.bincount(got, tick), np.bincount(unit, sample))
    lo, hi = sample[CHUNK_SPIKES - 3], sample[SHARD_SPIKES + 3]  # a window over many chunks and both shards
    np.testing.assert_array_equal(session.ticks(int(lo), int(hi))[0], sample[(sample >= lo) & (sample < hi)])


def test_a_flipped_bit_is_noticed(write, recording):
    session = write(recording())
    (file,) = (session.path / "spikes/tick/c").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    with pytest.raises(Exception, match=r"(?i)checksum"):
        session.ticks()


def test_tables_whose_names_become_one_are_both_kept(write, recording):
    trials = recording().intervals["trials"]
    session = write(recording(intervals={"go trials": trials, "go/trials": trials, "../../up": trials}))
    assert sorted(session.intervals()) == ["go_trials", "go_trials_2", "up"]
    assert sorted(path.name for path in (session.path / "intervals").iterdir() if path.is_dir()) == [
        "go_trials",
        "go_trials_2",
        "up",
    ]


@pytest.mark.parametrize("bad", ["..", "a/b", "", ".staging"])
@pytest.mark.parametrize("field", ["session_id", "source"])
def test_an_unsafe_id_never_reaches_the_disk(tmp_path, recording, field, bad):
    with pytest.raises(UserError, match="cannot name a folder"):
        encode(recording(**{field: bad}))
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_made_once_and_then_left_alone(tmp_path, contents):
    root = tmp_path / "deep" / "data.zarr"
    create_store(root)
    assert zarr.open_group(root, mode="r").attrs["nhdata_store"] == 1
    assert nhdata.open(root).session_ids == []
    before = contents(root)
    create_store(root)
    assert contents(root) == before


def test_a_store_that_was_half_made_is_finished(tmp_path):
    (tmp_path / "sessions").mkdir()
    (tmp_path / ".zarr.json-left-by-a-killed-writer").touch()
    create_store(tmp_path)
    assert nhdata.open(tmp_path).position == 0


def test_a_folder_of_other_things_is_no_place_for_a_store(tmp_path):
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(UserError, match="other things in it"):
        create_store(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_store_of_a_later_version_is_refused(tmp_path):
    zarr.create_group(tmp_path, zarr_format=3, attributes={"nhdata_store": 2})
    with pytest.raises(UserError, match=r"not a store of version 1 \(found 2\)"):
        create_store(tmp_path)


def test_several_writers_may_make_a_store_at_once(tmp_path):
    """Zarr's own way of making a group raises in all but one of them."""
    n_writers = 4
    start = threading.Barrier(n_writers)

    def create(root: Path) -> None:
        start.wait()
        create_store(root)

    with ThreadPoolExecutor(n_writers) as pool:
        for attempt in range(15):
            list(pool.map(create, [tmp_path / f"{attempt}.zarr"] * n_writers))


def test_staging_leaves_nothing_behind(tmp_path):
    create_store(tmp_path)

    def interrupted() -> None:
        with staged(tmp_path) as folder:
            folder.mkdir()
            (folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(os.listdir(tmp_path / "sessions")) == ["zarr.json"]


def published(root, recording):
    with staged(root) as folder:
        encoded = encode(recording)
        write_session(folder, encoded)
        return publish(root, folder, encoded.attributes).path


def test_a_second_version_goes_beside_the_first(tmp_path, recording, contents):
    create_store(tmp_path)
    assert published(tmp_path, recording()) == "sessions/lab/mouse-1"
    first = contents(tmp_path / "sessions/lab/mouse-1")
    assert published(tmp_path, recording(subject="M2")) == "sessions/lab/mouse-1.v2"
    assert published(tmp_path, recording(subject="M3")) == "sessions/lab/mouse-1.v3"
    assert contents(tmp_path / "sessions/lab/mouse-1") == first


def test_a_folder_left_by_a_dead_writer_is_never_taken_over(tmp_path, recording):
    """A sweep may have found it, and be about to remove it."""
    create_store(tmp_path)
    published(tmp_path, recording())
    assert published(tmp_path, recording()) == "sessions/lab/mouse-1.v2"


def test_a_folder_that_says_another_provenance_is_not_taken_over(tmp_path, recording):
    create_store(tmp_path)
    one = recording()
    published(tmp_path, one)
    other = replace(one, provenance=replace(one.provenance, revision="2024-05-06"))
    assert published(tmp_path, other) == "sessions/lab/mouse-1.v2"


def test_a_session_whose_id_looks_like_a_version_keeps_apart(tmp_path, recording):
    create_store(tmp_path)
    published(tmp_path, recording())
    assert published(tmp_path, recording(session_id="mouse-1.v2")) == "sessions/lab/mouse-1.v2"
    assert published(tmp_path, recording(subject="M2")) == "sessions/lab/mouse-1.v3"


def test_a_store_that_another_writer_makes_between_two_looks_is_no_stranger(tmp_path, monkeypatch):
    def looked_too_early(place):
        monkeypatch.undo()
        create_store(place)

    monkeypatch.setattr(nhdata.store.publish, "root_attributes", looked_too_early)
    assert not check_place(tmp_path)
    assert check_place(tmp_path)


def test_everything_of_a_session_is_synced_before_it_is_moved_and_committed(tmp_path, put, recording, monkeypatch):
    """A power cut after a commit loses nothing that the commit names."""
    root = tmp_path / "data.zarr"
    put(root, recording(session_id="first"))
    fsync, rename, link = os.fsync, os.rename, os.link
    synced, staged, committed = set(), [], []

    def on_fsync(descriptor):
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def on_rename(source, target):
        if Path(source).is_dir():
            staged.extend([Path(source), *Path(source).rglob("*")])
            assert {path.stat().st_ino for path in staged} <= synced
            synced.discard(Path(target).parent.stat().st_ino)
        rename(source, target)

    def on_link(source, target):
        if Path(target).parent.name == "log":
            fragments = list((root / "catalog" / "fragments").rglob("*"))
            new = [path for path in fragments if path.stat().st_ino not in before]
            assert len(new) >= 3
            assert {path.stat().st_ino for path in (*new, root / "catalog" / "fragments", Path(source))} <= synced
            assert (root / "sessions" / "lab").stat().st_ino in synced
            committed.append(target)
        link(source, target)

    before = {path.stat().st_ino for path in (root / "catalog").rglob("*") if path.is_file()}
    monkeypatch.setattr(os, "fsync", on_fsync)
    monkeypatch.setattr(os, "rename", on_rename)
    monkeypatch.setattr(os, "link", on_link)
    put(root, recording())
    assert len(staged) > 50
    assert len(committed) == 1
    assert (root / "catalog" / "log").stat().st_ino in synced
