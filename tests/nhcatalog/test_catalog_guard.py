"""Hostile SQL is refused and changes no file; honest SQL runs, and its errors help."""

import os
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from nhcatalog.catalog import Catalog
from nhcatalog.guard import QueryError, as_subquery

HOSTILE = [
    "",
    "-- nothing",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW units",
    "SELECT 1\0; DROP VIEW units",
    "SELECT '\ud800'",
    "DROP VIEW units",
    "CREATE TABLE x AS SELECT 1",
    "CREATE MACRO f(x) AS x",
    "INSERT INTO sessions (session_id) VALUES ('x')",
    "DELETE FROM sessions",
    "UPDATE sessions SET n_units = 0",
    "COPY units TO '{outside}/x.csv'",
    "COPY (SELECT 1) TO '{fragment}' (FORMAT parquet)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{fragment}'",
    "WITH x AS (COPY (SELECT 1) TO '{fragment}') SELECT 1",
    "WITH x AS (COPY (SELECT 1) TO '{fragment}' (FORMAT csv, USE_TMP_FILE false)) SELECT 1",
    "WITH x AS (COPY (SELECT 1) TO '{outside}/x.csv') SELECT 1",
    "SELECT (WITH x AS (COPY (SELECT 1) TO '{fragment}') SELECT 1)",
    "SELECT * FROM units WHERE unit_id IN (WITH x AS (COPY (SELECT 1) TO '{fragment}') SELECT 'y')",
    "DESCRIBE (WITH x AS (COPY (SELECT 1) TO '{fragment}') SELECT 1)",
    "SELECT * FROM query('WITH x AS (COPY (SELECT 1) TO ''{fragment}'') SELECT 1')",
    "SELECT * FROM system.main.QUERY('SELECT 1')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "WITH x AS (DELETE FROM sessions RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO sessions (session_id) VALUES ('x') RETURNING *) SELECT * FROM x",
    "WITH x AS MATERIALIZED (UPDATE sessions SET n_units = 0 RETURNING *) SELECT * FROM x",
    "ATTACH '{outside}/x.duckdb'",
    "EXPORT DATABASE '{outside}/x'",
    "IMPORT DATABASE '{outside}'",
    "INSTALL httpfs",
    "LOAD '{outside}/x.duckdb_extension'",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "CALL enable_logging()",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{outside}')",
    "SELECT * FROM enable_profiling(save_location = '{outside}/profile.json')",
    "SELECT * FROM checkpoint()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('/etc/hostname')",
    "SELECT * FROM read_parquet('{fragment}')",
    "SELECT * FROM parquet_metadata('{fragment}')",
    "SELECT * FROM glob('{outside}/*')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM '{secret}'",
    'SELECT count(*) FROM (SELECT * FROM "{secret}") AS t',
    "SELECT * FROM histogram('{secret}', a)",
    "SELECT * FROM units, LATERAL read_text('{secret}')",
    "SELECT * FROM python_arrow_scan(1, 2, 3)",
    "SELECT * FROM in_scope",
    pytest.param(
        "SELECT " + "+".join("1" * 600),
        marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="newer Python reads it"),
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog, and a file outside it; shared, because nothing may change it."""
    folder = tmp_path_factory.mktemp("guarded")
    units = pa.table({"unit_id": ["a:0"], "session_id": ["a"], "region": ["CA1"]})
    Catalog(folder / "catalog").add({"session_id": "a"}, {"units": units}, "sessions/a", "hash")
    (folder / "outside").mkdir()
    (folder / "outside" / "secret.csv").write_text("a,b\n1,2\n")
    return folder


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_sql_is_refused(folder: Path, contents: Any, attack: str) -> None:
    in_scope = pa.table({"a": [1]})  # DuckDB would otherwise find Python variables by name
    outside = folder / "outside"
    snapshot = Catalog(folder / "catalog").snapshot()
    (fragment,) = (folder / "catalog" / "fragments").glob("*-units.parquet")
    before = contents(folder)
    filled = attack
    for name, path in {"outside": outside, "fragment": fragment, "secret": outside / "secret.csv"}.items():
        filled = filled.replace(f"{{{name}}}", str(path))
    with pytest.raises(QueryError) as caught:
        snapshot.sql(filled)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before
    assert in_scope.num_rows == 1


@pytest.mark.parametrize(("deep", "value"), [("(" * 5000 + "1" + ")" * 5000, 1), ("+".join("1" * 600), 600)])
def test_deep_nesting_is_refused_or_answered(catalog: Catalog, deep: str, value: int) -> None:
    """DuckDB 2 refuses what DuckDB 1.5 can still parse, Python 3.11 what Python 3.13 can still read of its answer."""
    try:
        assert catalog.snapshot().sql(f"SELECT {deep} AS deep")["deep"].to_pylist() == [value]
    except QueryError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("query", "n_rows"),
    [
        ("FROM units", 5),
        ("(SELECT 1);", 1),
        ("VALUES (1), (2)", 2),
        ("SELECT 'a; DROP TABLE x' AS text", 1),
        ("DESCRIBE intervals", 7),
        ("SUMMARIZE units", 34),
        ("SHOW TABLES", 5),
        ("WITH g AS MATERIALIZED (SELECT * FROM units WHERE good) SELECT * FROM g", 5),
        ("WITH RECURSIVE r(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM r WHERE a < 5) FROM r", 5),
        ("SELECT region FROM units UNION SELECT source FROM sessions", 3),
        ("SELECT unit_id FROM units WHERE rate_hz = (SELECT max(rate_hz) FROM units)", 1),
        ("SELECT rank() OVER (PARTITION BY session_id ORDER BY rate_hz) AS r FROM units QUALIFY r = 1", 2),
        ("SELECT u.* FROM units u JOIN sessions s USING (session_id) ASOF JOIN intervals i "
         "ON i.session_id = s.session_id AND s.duration_s >= i.start_s", 5),
        ("PIVOT units ON region IN ('CA1', 'VISp') USING count(*) GROUP BY session_id", 2),
        ("SELECT * FROM range(10) AS t(i), unnest([1, 2]) AS u(j)", 20),
        ("SELECT i.session_id, f.key FROM intervals i, json_each(i.fields) f", 4),
        ("SELECT " + "+".join("1" * 100) + " AS hundred", 1),
    ],
)  # fmt: skip
def test_honest_sql_runs(catalog: Catalog, query: str, n_rows: int) -> None:
    assert catalog.snapshot().sql(query).num_rows == n_rows


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("SELECT regoin FROM units", 'Candidate bindings: "region"'),
        ("SELECT * FROM unit", 'Did you mean "units"?'),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT 'CA1'::INTEGER FROM units", "Could not convert string 'CA1'"),
        ("PIVOT units ON region", "PIVOT needs ON … IN"),
        ("SELECT * FROM read_csv('x.csv')", "the table function 'read_csv' is not allowed"),
    ],
)
def test_errors_keep_duckdbs_advice_on_one_line(catalog: Catalog, query: str, hint: str) -> None:
    with pytest.raises(QueryError) as caught:
        catalog.snapshot().sql(query)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "LINE 1" not in str(caught.value)


def test_memory_is_limited(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nhcatalog.query.MEMORY_LIMIT", "50MB")
    monkeypatch.setattr("nhcatalog.query.SPILL_LIMIT", "1MB")
    with pytest.raises(QueryError, match="ask for fewer rows"):
        catalog.snapshot().sql("SELECT array_agg(i) AS all FROM range(100000000) AS t(i)")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_can_query(catalog: Catalog) -> None:
    snapshot = catalog.snapshot()
    assert snapshot.sql("FROM units").num_rows == 5
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if snapshot.sql("FROM units").num_rows == 5 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("select 1", 1),
        ("select 1;", 1),
        ("select 1; -- one", 1),
        ("select 1 -- one; two", 1),
        ("select 1 -- one\n;;", 1),
        ("select ';--' /* a; */ ; ;\n-- b", ";--"),
        ("select 'é;' as \"日;\"; -- é", "é;"),
        ("select $$;--$$; /* a */ -- b", ";--"),
    ],
)
def test_semicolons_and_comments_at_the_end_of_a_statement_do_not_reach_the_query_around_it(
    query: str, value: object
) -> None:
    assert duckdb.sql(f"select * from {as_subquery(query)} as answer where true").fetchall() == [(value,)]


def test_an_open_comment_at_the_end_of_a_statement_is_an_error() -> None:
    with pytest.raises(duckdb.ParserException, match="unterminated"):
        duckdb.sql(f"select * from {as_subquery('select 1 /* open')}")
