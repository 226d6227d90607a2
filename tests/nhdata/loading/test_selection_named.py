"""Selections by name: the same units for ever, or an error that says why not."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import nhdata
from nhcatalog.errors import UserError
from nhcatalog.log import CatalogError, NewerCatalog
from nhdata.loading import WindowDataset
from nhdata.loading.selection import diff_selection, freeze_selection, select_units, units_by_id
from nhdata.sources.synthetic import simulate
from nhdata.store.commit import add_session
from nhdata.store.encode import encode

FAST = "select unit_id from units where rate_hz > 2; "


def put(store: Path, k: int, seed: int = 0, *, replace: bool = False) -> None:
    recording = simulate(np.random.default_rng(seed + k), f"sim-{k}", 0, 8, 30.0)
    add_session(store, encode(recording), replace=replace)


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """Two sessions, and a selection ``fast`` of their units."""
    for k in range(2):
        put(tmp_path / "s", k)
    freeze_selection(nhdata.open(tmp_path / "s"), "fast", FAST)
    return tmp_path / "s"


def test_a_name_gives_what_its_query_gave(grown: Path) -> None:
    store = nhdata.open(grown)
    by_query, by_name = select_units(store, FAST), select_units(store, " fast ")
    assert by_name.unit_ids == by_query.unit_ids == units_by_id(store, set(by_query.unit_ids), "").unit_ids
    assert (by_name.hash, by_name.query, by_name.position) == (by_query.hash, "fast", 2)
    expected = store.sql("select unit_id from units where rate_hz > 2 order by session_id, unit_index")
    assert list(by_name.unit_ids) == expected["unit_id"].to_pylist()
    for session in by_name.sessions:
        rows = store.sql("select unit_index, unit_id from units where session_id = ?", [session.session_id]).to_pylist()
        names = {row["unit_index"]: row["unit_id"] for row in rows}
        ids = by_name.unit_ids[session.first : session.first + len(session.rows)]
        assert tuple(names[row] for row in session.rows) == ids
    windows = WindowDataset(
        grown, select="fast", split="train", history_s=0.5, horizon_s=0.5, bin_s=0.1, batch_size=4, seed=0
    )
    assert windows.unit_ids == by_query.unit_ids


def test_new_sessions_do_not_change_it_and_diff_names_them(grown: Path) -> None:
    before = select_units(nhdata.open(grown), "fast").unit_ids
    put(grown, 2)
    store = nhdata.open(grown)
    assert select_units(store, "fast").unit_ids == before
    diff = diff_selection(store, "fast")
    assert diff.added == tuple(sorted(set(select_units(store, FAST).unit_ids) - set(before)))
    assert diff.added
    assert (diff.removed, diff.changed) == ((), ())


def test_a_session_that_changed_is_refused_but_as_it_was(grown: Path) -> None:
    before = select_units(nhdata.open(grown), "fast").unit_ids
    put(grown, 1, seed=50, replace=True)
    with pytest.raises(UserError, match="session sim-1 has other content now: open the store at=2"):
        select_units(nhdata.open(grown), "fast")
    assert diff_selection(nhdata.open(grown), "fast").changed == ("sim-1",)
    assert select_units(nhdata.open(grown, at=2), "fast").unit_ids == before
    store = nhdata.open(grown)
    store.catalog.remove("sim-1")
    with pytest.raises(UserError, match="session sim-1 is not in the store"):
        select_units(nhdata.open(grown), "fast")


@pytest.mark.parametrize(
    ("name", "query", "message"),
    [
        ("fast", FAST, "a selection fast already: take another name"),
        ("9", FAST, "cannot name a selection"),
        ("a/b", FAST, "cannot name a selection"),
        ("", FAST, "cannot name a selection"),
        ("b", "select region from units", "no column unit_id, only region"),
        ("b", "select unit_id from units where false", "no unit of"),
        ("b", "select unit_id from nothing", "nothing"),
        ("b", "fast", "is the name of a selection"),
        ("b", "copy units to 'x'", "COPY"),
        ("b", "select unit_id from units) as x, (select 1", "syntax error"),
    ],
)
def test_what_cannot_be_kept(grown: Path, name: str, query: str, message: str) -> None:
    store = nhdata.open(grown)
    with pytest.raises(UserError, match=message):
        freeze_selection(store, name, query)
    assert store.catalog.selections.names() == ["fast"]


def test_a_wrong_name_gives_the_right_ones(grown: Path) -> None:
    with pytest.raises(UserError, match="no selection named 'fats': there are fast"):
        select_units(nhdata.open(grown), "fats")


def test_damage_is_named(grown: Path) -> None:
    (file,) = (grown / "catalog" / "selections").iterdir()
    whole = pq.read_table(file)
    metadata = whole.schema.metadata[b"nhdata_selection"]
    pq.write_table(whole.slice(1), file)
    with pytest.raises(CatalogError, match=r"fast\.parquet: not a readable selection \(its units"):
        select_units(nhdata.open(grown), "fast")
    newer = {b"nhdata_selection": metadata.replace(b'"format": 1', b'"format": 7')}
    pq.write_table(whole.replace_schema_metadata(newer), file)
    with pytest.raises(NewerCatalog, match=r"fast\.parquet: written by a newer version"):
        select_units(nhdata.open(grown), "fast")
    file.write_bytes(b"")
    with pytest.raises(CatalogError, match=r"fast\.parquet: not a readable selection"):
        select_units(nhdata.open(grown), "fast")
