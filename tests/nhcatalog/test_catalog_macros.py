"""Macros, every column by name, advice on wrong names, and results without a copy."""

import csv
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import nhcatalog.errors
from nhcatalog.catalog import Catalog
from nhcatalog.guard import QueryError
from nhcatalog.macros import MACROS, REGIONS
from nhcatalog.schema import describe
from nhcatalog.suggest import nearest_columns


def test_regions_are_those_of_iblatlas() -> None:
    from iblatlas.regions import BrainRegions

    regions = BrainRegions()
    names = (regions.acronym, *(regions.acronym[regions.mappings[mapping]] for mapping in ("Beryl", "Cosmos")))
    with open(REGIONS, newline="") as file:
        assert {tuple(row.values()) for row in csv.DictReader(file)} == set(
            zip(*(n.tolist() for n in names), strict=True)
        )


def test_parcellations(catalog: Catalog) -> None:
    query = "SELECT beryl(region) AS b, cosmos(region) AS c, count(*)::INT AS n FROM units GROUP BY ALL ORDER BY n"
    found = catalog.snapshot().sql(query).to_pylist()
    assert found == [{"b": "VISp", "c": "Isocortex", "n": 2}, {"b": "CA1", "c": "HPF", "n": 3}]
    odd = catalog.snapshot().sql("SELECT beryl('VISp5') AS a, beryl('nowhere') AS b, cosmos(NULL) AS c").to_pylist()
    assert odd == [{"a": "VISp", "b": None, "c": None}]


def test_good_units_and_session_summary(catalog: Catalog, add: Callable[..., int]) -> None:
    add(catalog, "empty", n_units=0)
    snapshot = catalog.snapshot()
    good = snapshot.sql("SELECT unit_id, n_trials, duration_s FROM good_units() ORDER BY 1").to_pylist()
    assert good[0] == {"unit_id": "a:0", "n_trials": 2, "duration_s": 60.0}
    assert len(good) == 5
    rows = {row["session_id"]: row for row in snapshot.sql("FROM session_summary()").to_pylist()}
    assert (rows["a"]["n_good"], rows["a"]["regions"], rows["a"]["duration_min"]) == (3, "CA1 3", 1.0)
    assert (rows["empty"]["n_good"], rows["empty"]["regions"]) == (0, None)


@pytest.mark.parametrize("name", MACROS)
def test_examples_of_macros_run_and_the_readme_has_them(catalog: Catalog, name: str) -> None:
    macro = MACROS[name]
    assert catalog.snapshot().sql(macro.example).num_rows > 0
    readme = (Path(nhcatalog.errors.__file__).parent.parent / "README.md").read_text()
    assert f"| `{macro.call}` | {macro.meaning} | `{' '.join(macro.example.split())}` |" in readme


def test_every_column_can_be_asked_for(catalog: Catalog) -> None:
    snapshot = catalog.snapshot()
    for table, column, type_, _, _ in describe():
        assert snapshot.sql(f"SELECT typeof({column}) AS t, {column} FROM {table} LIMIT 1")["t"].to_pylist() == [type_]


@pytest.mark.parametrize(
    ("query", "advice"),
    [
        ("SELECT regoin FROM units", "perhaps units.region"),
        ("SELECT u.firing_rate FROM units u", "perhaps units.firing_rate_hz, units.rate_hz"),
        ("SELECT fano FROM units", "unit_features.fano_20ms"),
        ("FROM session", "perhaps sessions"),
        ("SELECT qqqq FROM units", "'nhdata schema' lists"),
    ],
)
def test_a_wrong_name_gets_the_nearest_right_ones(catalog: Catalog, query: str, advice: str) -> None:
    with pytest.raises(QueryError) as caught:
        catalog.snapshot().sql(query)
    assert advice in caught.value.remedy
    assert nearest_columns("") == []


def test_numbers_are_not_copied(catalog: Catalog) -> None:
    table = catalog.snapshot().sql("SELECT range::DOUBLE AS x FROM range(1000)")
    (chunk,) = table["x"].chunks
    address = chunk.buffers()[1].address
    assert chunk.to_numpy(zero_copy_only=True).__array_interface__["data"][0] == address
    assert pl.from_arrow(table)["x"].to_arrow().buffers()[1].address == address


def test_a_stream_comes_in_pieces_and_may_be_left(catalog: Catalog) -> None:
    reader = catalog.snapshot().stream("SELECT range AS i FROM range(500000)")
    sizes = [batch.num_rows for batch in reader]
    assert sum(sizes) == 500_000
    assert max(sizes) <= 65_536
    left = catalog.snapshot().stream("SELECT range AS i FROM range(1000000000)")
    assert left.read_next_batch().num_rows > 0
    del left
    assert catalog.snapshot().sql("SELECT 1 AS a").num_rows == 1
