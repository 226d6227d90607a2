"""Add, replace, remove, look back; and what a damaged folder says."""

import doctest
import importlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nhcatalog.catalog import Catalog, SessionExists
from nhcatalog.errors import UserError
from nhcatalog.guard import QueryError
from nhcatalog.log import CatalogError
from nhcatalog.schema import TABLES, arrow_schema

Add = Callable[..., int]
UNITS = "SELECT session_id, count(*) AS n FROM units GROUP BY 1 ORDER BY 1"


def root(catalog: Catalog) -> Path:
    return catalog._files.root


def fragments(catalog: Catalog, position: int) -> dict[str, Path]:
    """The Parquet files that a log entry names."""
    record = json.loads((root(catalog) / "log" / f"{position:010d}.json").read_text())
    return {table: root(catalog) / file["path"] for table, file in record["fragments"].items()}


def counts(catalog: Catalog, at: int | None = None) -> dict[str, int]:
    found = catalog.snapshot(at).sql(UNITS)
    return dict(zip(*found.to_pydict().values(), strict=True))


def test_opening_and_asking_write_nothing(tmp_path: Path) -> None:
    snapshot = Catalog(tmp_path / "none").snapshot()
    assert (snapshot.position, snapshot.entries) == (0, {})
    for table in TABLES:
        found = snapshot.sql(f"SELECT * FROM {table}")
        assert found.num_rows == 0
        assert found.schema.remove_metadata() == arrow_schema(table)
    assert not (tmp_path / "none").exists()


def test_added_rows_come_back_typed(catalog: Catalog) -> None:
    snapshot = catalog.snapshot()
    assert snapshot.position == 2
    for table in TABLES:
        assert snapshot.sql(f"SELECT * FROM {table}").schema.remove_metadata() == arrow_schema(table)
    (row,) = snapshot.sql("SELECT * FROM sessions WHERE session_id = 'a'").to_pylist()
    assert (row["date"].isoformat(), row["n_units"], row["subject"]) == ("2024-02-29", 3, None)
    assert (row["path"], row["content_hash"]) == ("sessions/synthetic/a", "hash-a")
    assert row["ingested_at"].year >= 2024
    # NaN is stored as NULL: no unit has a signal-to-noise ratio above 3.
    assert snapshot.sql("SELECT count(*) AS n FROM units WHERE snr > 3").to_pylist() == [{"n": 0}]


def test_entries_name_path_hash_and_fragments(catalog: Catalog) -> None:
    entry = catalog.snapshot().entries["b"]
    assert (entry.path, entry.content_hash, entry.position) == ("sessions/synthetic/b", "hash-b", 2)
    files = fragments(catalog, 2)
    assert set(files) == {"units", "unit_features", "intervals", "provenance"}
    assert pq.read_table(files["units"]).num_rows == 2


@pytest.mark.parametrize("table", TABLES)
def test_example_queries_give_rows(catalog: Catalog, table: str) -> None:
    assert catalog.snapshot().sql(TABLES[table].example).num_rows > 0


def test_sql_takes_parameters(catalog: Catalog) -> None:
    snapshot = catalog.snapshot()
    assert snapshot.sql("SELECT unit_id FROM units WHERE region = ? AND rate_hz > ?", ["CA1", 1]).num_rows == 1
    assert snapshot.sql("SELECT unit_id FROM units WHERE region = $r", {"r": "VISp"}).num_rows == 2
    with pytest.raises(QueryError, match="parameter"):
        snapshot.sql("SELECT $r", {"wrong": 1})


def test_twice_is_refused_and_writes_nothing(catalog: Catalog, add: Add, contents: Any) -> None:
    before = contents(root(catalog))
    with pytest.raises(SessionExists, match="session a is in the catalog already"):
        add(catalog, "a")
    assert contents(root(catalog)) == before


def test_replace_remove_and_time_travel(catalog: Catalog, add: Add) -> None:
    pinned = catalog.snapshot()
    assert add(catalog, "a", replace=True, n_units=5) == 3
    assert catalog.remove("b") == 4
    assert add(catalog, "b", n_units=1) == 5
    history = [{}, {"a": 3}, {"a": 3, "b": 2}, {"a": 5, "b": 2}, {"a": 5}, {"a": 5, "b": 1}]
    for catalog_now in (catalog, Catalog(root(catalog))):
        assert [counts(catalog_now, at) for at in range(6)] == history
    assert pinned.sql(UNITS)["n"].to_pylist() == [3, 2]
    assert pickle.loads(pickle.dumps(pinned)).sql(UNITS)["n"].to_pylist() == [3, 2]  # noqa: S301


@pytest.mark.parametrize("at", [-1, 3])
def test_no_such_position(catalog: Catalog, at: int) -> None:
    with pytest.raises(CatalogError, match=f"no log position {at}: choose one from 0 to 2"):
        catalog.snapshot(at)


def test_remove_needs_the_session(catalog: Catalog) -> None:
    with pytest.raises(UserError, match="session c is not in the catalog"):
        catalog.remove("c")
    assert catalog.snapshot().position == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"session_id": ""}, "without a session_id"),
        ({"session_id": None}, "without a session_id"),
        ({"weather": "fine"}, "no column 'weather'"),
        ({"date": "yesterday"}, "sessions.date"),
        ({"session_id": "other"}, "rows of session 'c'"),
    ],
)
def test_wrong_rows_are_refused(
    catalog: Catalog, rows: Any, contents: Any, change: dict[str, Any], message: str
) -> None:
    before = contents(root(catalog))
    session, tables = rows("c")
    with pytest.raises(UserError, match=message):
        catalog.add({**session, **change}, tables, "sessions/synthetic/c", "hash")
    assert contents(root(catalog)) == before


@pytest.mark.parametrize("path", ["/etc", "../x", "sessions/../../x", "", "a\\b"])
def test_a_path_outside_the_store_is_refused(catalog: Catalog, rows: Any, path: str) -> None:
    with pytest.raises(UserError, match="not inside the store"):
        catalog.add(*rows("c"), path, "hash")


def test_a_session_without_rows_is_listed(catalog: Catalog, rows: Any) -> None:
    session, tables = rows("c", n_units=0)
    catalog.add(session, {"units": tables["units"]}, "sessions/synthetic/c", "hash")
    assert fragments(catalog, 3) == {}
    assert catalog.snapshot().sql("SELECT n_units FROM sessions ORDER BY 1")["n_units"].to_pylist() == [
        0,
        2,
        3,
    ]


def test_fragments_of_an_older_registry_open(catalog: Catalog) -> None:
    file = fragments(catalog, 1)["units"]
    older = pa.table({"rate_hz": pa.array([7], pa.int32()), "unit_id": ["a:0"], "since_dropped": ["x"]})
    pq.write_table(older, file)
    log = root(catalog) / "log" / "0000000001.json"
    record = json.loads(log.read_text())
    record["fragments"]["units"]["n_bytes"] = file.stat().st_size
    del record["session"]["software"]
    log.write_text(json.dumps(record))
    snapshot = Catalog(root(catalog)).snapshot()
    units = snapshot.sql("SELECT * FROM units")
    assert units.schema.remove_metadata() == arrow_schema("units")
    (row,) = [row for row in units.to_pylist() if row["unit_id"] == "a:0"]
    assert (row["rate_hz"], row["region"]) == (7.0, None)
    assert snapshot.sql("SELECT software FROM sessions").num_rows == 2


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (lambda log: (log / "0000000001.json").unlink(), "0000000001.json: missing"),
        (
            lambda log: (log / "0000000002.json").write_text('{"format": 1, "ki'),
            "0000000002.json: not a readable",
        ),
        (lambda log: (log / "0000000002.json").write_text(""), "0000000002.json: not a readable"),
        (lambda log: (log / "0000000002.json").write_text("[]"), "0000000002.json: not a readable"),
        (
            lambda log: (log / "0000000002.json").write_text('{"format": 2}'),
            "0000000002.json: written by a newer version .* upgrade",
        ),
        (lambda log: (log / "0000000002.json").rename(log / "0000000004.json"), "0000000002.json: missing"),
        (
            lambda log: (log / "0000000002.json").write_text((log / "0000000001.json").read_text()),
            "0000000002.json: cannot add session a at this point",
        ),
    ],
)
def test_a_damaged_log_is_named(catalog: Catalog, damage: Callable[[Path], object], name: str) -> None:
    damage(root(catalog) / "log")
    with pytest.raises(CatalogError, match=name):
        Catalog(root(catalog)).snapshot()


def test_leftovers_of_a_killed_writer_do_no_harm(catalog: Catalog) -> None:
    for folder in ("log", "fragments"):
        (root(catalog) / folder / ".0123.tmp").write_text("{")
    assert counts(catalog) == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("damage", "state"),
    [(Path.unlink, "missing"), (lambda file: file.write_bytes(b"PAR1"), "cut short or changed")],
)
def test_a_damaged_fragment_is_named(catalog: Catalog, damage: Callable[[Path], object], state: str) -> None:
    snapshot = catalog.snapshot()
    fragment = fragments(catalog, 2)["intervals"]
    damage(fragment)
    with pytest.raises(CatalogError, match=rf"{fragment}: {state}, though the log names it for session b"):
        snapshot.sql("SELECT start_s FROM intervals")
    if state != "missing":
        assert snapshot.sql("FROM units").num_rows == 5  # what is whole still answers
    assert Catalog(root(catalog)).snapshot().entries  # still listed, so that a repair can start from it


@pytest.mark.parametrize("path", ["/etc/x.parquet", "../../x.parquet", "fragments/*.parquet", "fragments/../x.parquet"])
def test_a_log_cannot_name_files_outside(catalog: Catalog, path: str) -> None:
    log = root(catalog) / "log" / "0000000002.json"
    record = json.loads(log.read_text())
    record["fragments"]["units"]["path"] = path
    log.write_text(json.dumps(record))
    with pytest.raises(CatalogError, match=r"0000000002\.json"):
        Catalog(root(catalog)).snapshot()


@pytest.mark.parametrize("module", ["checkpoint", "log", "snapshot", "suggest"])
def test_docstring_examples(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"nhcatalog.{module}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_odd_folder_names(tmp_path: Path, add: Add) -> None:
    catalog = Catalog(tmp_path / "it's a [v1]* {é}" / "catalog")
    add(catalog, "a")
    assert counts(catalog) == {"a": 3}
