"""Chunks decoded straight from shard files."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from nhcatalog.errors import UserError
from nhcatalog.storage import open_files
from nhdata.store.layout import CHUNK_SPIKES
from nhdata.store.session import Session
from nhdata.store.shards import SpikeShards


@pytest.fixture
def session(tmp_path: Path) -> Path:
    from nhdata.ingest import ingest
    from nhdata.sources import SourceOptions

    ingest(tmp_path / "data.zarr", "synthetic", [], options=SourceOptions(n_sessions=1, n_units=300, duration_s=120.0))
    (path,) = (tmp_path / "data.zarr" / "sessions").glob("*/sim-*")
    return path


def read(path: Path, number: int = 0) -> tuple[np.ndarray, np.ndarray]:
    tick, unit = np.empty(CHUNK_SPIKES, np.uint32), np.empty(CHUNK_SPIKES, np.uint16)
    SpikeShards(open_files(path)).read_chunk(number, tick, unit)
    return tick, unit


def test_every_chunk_is_what_zarr_reads(session: Path) -> None:
    whole = Session(session)
    assert whole.n_spikes > CHUNK_SPIKES, "more than one chunk"
    for lo in range(0, whole.n_spikes, CHUNK_SPIKES):
        tick, unit = read(session, lo // CHUNK_SPIKES)
        expected = whole.read(lo, lo + CHUNK_SPIKES)
        n = len(expected[0])
        np.testing.assert_array_equal(tick[:n], expected[0])
        np.testing.assert_array_equal(unit[:n], expected[1])
        assert set(tick[n:].tolist()) <= {0xFFFFFFFF}


@pytest.mark.parametrize("at", ["first", "middle", "last"])
def test_no_bit_is_flipped_unseen(session: Path, at: str) -> None:
    shard = session / "spikes" / "unit" / "c" / "0"
    data = bytearray(shard.read_bytes())
    data[{"first": 0, "middle": len(data) // 2, "last": -1}[at]] ^= 1
    shard.write_bytes(data)
    numbers = range(-(-Session(session).n_spikes // CHUNK_SPIKES))
    with pytest.raises(UserError, match=r"unit/c/0 does not match its checksum: run 'nhdata validate"):
        [read(session, number) for number in numbers]


def test_what_is_cut_off_or_gone_is_named(session: Path) -> None:
    shard = session / "spikes" / "tick" / "c" / "0"
    data = shard.read_bytes()
    for short in (data[: len(data) // 2], b""):
        shard.write_bytes(short)
        with pytest.raises(UserError, match="tick/c/0 does not match its checksum"):
            read(session)
    shard.unlink()
    with pytest.raises(UserError, match="tick/c/0 is not there"):
        read(session)


def test_another_layout_is_left_to_zarr(session: Path) -> None:
    meta = session / "spikes" / "tick" / "zarr.json"
    changed = json.loads(meta.read_text())
    changed["codecs"][0]["configuration"]["index_location"] = "start"
    meta.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match="not laid out as this version writes"):
        SpikeShards(open_files(session))
    assert Session(session).shards is None
    changed["codecs"] = changed["codecs"][0]["configuration"]["codecs"]
    meta.write_text(json.dumps(changed))
    assert Session(session).shards is None


def test_any_range_is_what_zarr_reads(session: Path) -> None:
    whole = zarr.open_group(session, mode="r")
    n = Session(session).n_spikes
    edges = [0, 1, CHUNK_SPIKES - 1, CHUNK_SPIKES, CHUNK_SPIKES + 1, n - 1, n, n + 5, n + 2 * CHUNK_SPIKES]
    for lo, hi in itertools.combinations_with_replacement(edges, 2):
        tick, unit = Session(session).read(lo, hi)
        np.testing.assert_array_equal(tick, whole["spikes/tick"][lo:hi])
        np.testing.assert_array_equal(unit, whole["spikes/unit"][lo:hi])
        assert (tick.dtype, unit.dtype) == (np.uint32, np.uint16)


def test_zarr_reads_what_is_laid_out_in_another_way(session: Path) -> None:
    expected = Session(session).read(5, CHUNK_SPIKES + 5)
    group = zarr.open_group(session, mode="r+")
    for name in ("tick", "unit"):
        values = group[f"spikes/{name}"][...]
        group.create_array(f"spikes/{name}", data=values, chunks=(1000,), shards=(50_000,), overwrite=True)
    changed = Session(session)
    assert changed.shards is None
    for got, wanted in zip(changed.read(5, CHUNK_SPIKES + 5), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_damage_is_found_by_whoever_reads_a_session(session: Path) -> None:
    shard = session / "spikes" / "tick" / "c" / "0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match="tick/c/0 does not match its checksum"):
        Session(session).ticks()
