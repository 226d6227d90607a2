"""The store that version 0.1.0 wrote opens, to the last value."""

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nhdata
from nhdata.store.validate import validate

HERE = Path(__file__).parent
WANTED = json.loads((HERE / "store_v1.json").read_text())["sessions"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compat")
    with zipfile.ZipFile(HERE / "store_v1.zip") as archive:
        archive.extractall(folder)
    return folder / "store_v1.zarr"


def plain(values: Any) -> list[Any]:
    """Values as JSON holds them: None for NaN, "inf" for infinity."""
    flat = np.asarray(values).ravel().tolist()
    return [(None if math.isnan(v) else "inf" if math.isinf(v) else v) if isinstance(v, float) else v for v in flat]


@pytest.fixture(params=sorted(WANTED))
def pair(request: pytest.FixtureRequest, root: Path):
    """A session as it was at some position of the log, and what it must hold."""
    wanted = WANTED[request.param]
    return nhdata.open(root, at=wanted["at"]).session(request.param.split("@")[0]), wanted


def test_spikes(pair) -> None:
    session, wanted = pair
    tick, unit = session.ticks()
    assert tick.tolist() == wanted["tick"]
    assert unit.tolist() == wanted["unit"]
    times_s, unit = session.spikes(2.0, 7.5)
    ticks = np.array(wanted["tick"])
    inside = (ticks >= 2.0 * wanted["tick_hz"]) & (ticks < 7.5 * wanted["tick_hz"])
    assert times_s.tolist() == (ticks[inside] / wanted["tick_hz"]).tolist()
    assert unit.tolist() == np.array(wanted["unit"])[inside].tolist()


def test_identity(pair) -> None:
    session, wanted = pair
    for name in ("tick_hz", "t_start_s", "duration_s", "content_hash", "subject"):
        assert session.attrs[name] == wanted[name], name


def test_units(pair) -> None:
    session, wanted = pair
    units = session.units()
    for name, values in wanted["units"].items():
        assert plain(units[name]) == values, name
    assert units["n_spikes"].tolist() == np.bincount(wanted["unit"], minlength=5).tolist()


def test_intervals_and_series(pair) -> None:
    session, wanted = pair
    intervals = session.intervals()
    assert intervals.keys() == wanted["intervals"].keys()
    for name, table in wanted["intervals"].items():
        assert {column: plain(values) for column, values in intervals[name].items()} == table
    series = session.series()
    assert series.keys() == wanted["series"].keys()
    for name, one in wanted["series"].items():
        time_s, value, unit = series[name]
        assert (plain(time_s), plain(value), list(value.shape), unit) == (
            one["time_s"], one["value"], one["shape"], one["unit"],
        )  # fmt: skip


def test_features(pair) -> None:
    session, wanted = pair
    assert plain(session.features().values) == wanted["features"]


def test_catalog(root) -> None:
    store = nhdata.open(root)
    assert store.position == 3
    assert store.sql("select session_id, subject, n_spikes from sessions order by 1").to_pylist() == [
        {"session_id": "counted", "subject": "M1", "n_spikes": 7},
        {"session_id": "mouse-1", "subject": "M2", "n_spikes": 600},
    ]
    rows = store.sql("select unit_id, region, n_spikes from units where session_id = 'mouse-1' order by unit_index")
    mouse = WANTED["mouse-1@3"]
    assert rows["region"].to_pylist() == [region or None for region in mouse["units"]["region"]]
    assert rows["n_spikes"].to_pylist() == np.bincount(mouse["unit"], minlength=5).tolist()
    assert rows["unit_id"].to_pylist()[0] == "mouse-1/probe00/3"
    assert store.sql("select count(*) as n from intervals where name = 'trials'").to_pylist() == [{"n": 6}]
    assert store.sql("select count(isi_cv) as n from unit_features").to_pylist()[0]["n"] > 0


def test_it_is_sound_and_reading_leaves_it_as_it_was(root) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert validate(root, deep=True) == []
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_new_version_adds_to_it(root, tmp_path) -> None:
    import shutil

    from nhdata.ingest import ingest
    from nhdata.sources import SourceOptions

    store = tmp_path / "data.zarr"
    shutil.copytree(root, store)
    ingest(store, "synthetic", [], options=SourceOptions(n_sessions=1, n_units=12, duration_s=30.0))
    assert len(nhdata.open(store).session_ids) == 3
    assert validate(store, deep=True) == []
