"""Random SQL, hostile and honest in one: whatever it is, nothing on the disk changes and the process goes on.

``NH_FULL=1`` tries 3000 of them.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
import sqlglot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nhcatalog.catalog import Catalog
from nhcatalog.errors import UserError
from nhcatalog.snapshot import Snapshot

EXPRESSIONS = st.sampled_from(
    """
    1 | NULL | 'x' | unit_id | region | rate_hz + 1 | count(*) | max(rate_hz) | beryl(region) |
    current_setting('temp_directory') | getenv('HOME') | repeat('x', 20) | error('stop') | CAST(region AS INTEGER) |
    [1, 2] | {'a': 1} | list_transform([1], lambda v: v) | row_number() OVER () | '{target}' |
    json_serialize_sql('SELECT 1') | write_log('x') | nextval('s') | uuid() | fields->>'a' | pg_get_viewdef(1) |
    version() | array_agg(unit_id) | regexp_replace(region, '.*', '{target}') | *
    """.replace("\n    ", " ")
    .strip()
    .split(" | ")
)
TABLES = st.sampled_from(
    """
    units | sessions | intervals | provenance | good_units() | range(5) | unnest([1, 2]) | nothing |
    internal.regions | '{secret}' | '{target}' | read_csv('{secret}') | read_text('{secret}') | glob('{folder}/*') |
    parquet_scan('{fragment}') | parquet_metadata('{fragment}') | duckdb_settings() | duckdb_secrets() |
    pragma_database_list() | information_schema.tables | query('COPY units TO ''{target}''') |
    query_table('units') | enable_logging() | sqlite_scan('{target}', 't') | json_execute_serialized_sql('x') |
    force_checkpoint() | python_map_function() | summary((SELECT 1)) | a.b.units
    """.replace("\n    ", " ")
    .strip()
    .split(" | ")
)
WRITES = st.sampled_from(
    [
        "COPY {q} TO '{target}'",
        "COPY {q} TO '{fragment}' (FORMAT parquet)",
        "COPY {q} TO '{folder}' (FORMAT csv, PARTITION_BY (unit_id), OVERWRITE)",
        "COPY units FROM '{secret}'",
        "ATTACH '{target}' AS x (TYPE duckdb)",
        "CREATE TABLE x AS {q}",
        "CREATE OR REPLACE TEMP VIEW units AS {q}",
        "CREATE OR REPLACE MACRO good_units() AS TABLE {q}",
        "CREATE SECRET s (TYPE s3)",
        "INSERT INTO units {q}",
        "DELETE FROM internal.recent_sessions",
        "UPDATE sessions SET path = '/etc'",
        "MERGE INTO sessions USING units ON true WHEN MATCHED THEN DELETE",
        "DROP VIEW IF EXISTS units",
        "TRUNCATE sessions",
        "ALTER VIEW units RENAME TO x",
        "EXPORT DATABASE '{target}'",
        "PRAGMA enable_profiling",
        "PRAGMA profiling_output = '{target}'",
        "SET profiling_output = '{target}'",
        "SET temp_directory = '{target}'",
        "SET VARIABLE v = {q}",
        "RESET ALL",
        "INSTALL httpfs",
        "LOAD '{target}'",
        "CALL enable_logging('QueryLog', storage = 'file', storage_config = {'path': '{target}'})",
        "CHECKPOINT",
        "VACUUM ANALYZE",
        "USE internal",
        "BEGIN",
        "PREPARE p AS {q}",
        "EXECUTE p",
        "DETACH memory",
        "COMMENT ON VIEW units IS 'x'",
    ]
)
SHAPES = st.sampled_from(
    [
        "{w}",
        "EXPLAIN {w}",
        "EXPLAIN ANALYZE {w}",
        "{q}; {w}",
        "{w}; {q}",
        "WITH x AS ({w}) {q}",
        "WITH x AS MATERIALIZED ({w} RETURNING *) SELECT * FROM x",
        "SELECT ({w})",
        "SELECT * FROM ({w})",
        "SELECT * FROM units WHERE unit_id IN ({w})",
        "DESCRIBE {w}",
        "SUMMARIZE {w}",
        "{q} UNION ALL {w}",
        "/* {q} */ {w}",
        "{q} -- \n; {w}",
        "SELECT 1 AS x; /* ; */ {w}",
        "FROM ({w}) SELECT *",
        "PIVOT ({w}) ON region",
    ]
)
SPACES = st.sampled_from([" ", "\t", "\n", "/**/", "/*;*/", " -- \n", "\u00a0", "\u2003", "\ufeff", "\u200b", "\r\n"])


@st.composite
def selects(draw: st.DrawFn, depth: int = 2) -> str:
    """A SELECT, of which most can be bound."""
    what = ", ".join(draw(st.lists(EXPRESSIONS, min_size=1, max_size=3)))
    table = draw(TABLES)
    if depth and draw(st.booleans()):
        table = f"({draw(selects(depth - 1))}) AS t"
    query = f"SELECT {what} FROM {table}"
    if draw(st.booleans()):
        query += f" JOIN {draw(TABLES)} ON true"
    if draw(st.booleans()):
        query += f" WHERE {draw(EXPRESSIONS)} = {draw(EXPRESSIONS)}"
    query += draw(st.sampled_from(["", " GROUP BY ALL", " ORDER BY 1", " LIMIT 3", " USING SAMPLE 2", " QUALIFY true"]))
    if depth and draw(st.booleans()):
        query = f"WITH x AS ({draw(selects(depth - 1))}) {query}"
    return query


@st.composite
def statements(draw: st.DrawFn) -> str:
    """One or more statements, most of them hostile, as a person might disguise them."""
    query = draw(selects())
    if draw(st.integers(0, 4)):
        query = draw(SHAPES).replace("{w}", draw(WRITES)).replace("{q}", f"({draw(selects(0))})")
    how = draw(st.integers(0, 4))
    if how == 0:
        query = query.swapcase()
    elif how == 1:
        query = draw(SPACES).join(query.split(" "))
    elif how == 2:
        # Another spelling of the same, by a parser that is not DuckDB's and does not know all of it.
        with suppress(sqlglot.errors.SqlglotError, RecursionError, ValueError, AttributeError, TypeError):
            query = ";".join(sqlglot.transpile(query, read="duckdb", write="duckdb", error_level="ignore"))
    elif how == 3:
        cut = draw(st.integers(0, len(query)))
        query = query[:cut] + draw(st.text(max_size=3)) + query[cut:]
    return query


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzzed")
    catalog = Catalog(folder / "catalog")
    for name in ("a", "b"):
        units = pa.table({"unit_id": [f"{name}:0"], "session_id": [name], "region": ["CA1"], "rate_hz": [2.0]})
        catalog.add({"session_id": name}, {"units": units}, f"sessions/{name}", "hash")
        catalog.compact()
    (folder / "secret.csv").write_text("a,b\n1,opensesame\n")
    return folder


@pytest.fixture(scope="module")
def snapshot(place: Path) -> Snapshot:
    return Catalog(place / "catalog").snapshot()


def digest(folder: Path) -> str:
    """Of every file's name and content."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        total.update(str(path.relative_to(folder)).encode() + (path.read_bytes() if path.is_file() else b"/"))
    return total.hexdigest()


@settings(
    max_examples=3000 if os.environ.get("NH_FULL") else 100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(sql=statements())
def test_random_sql_changes_nothing(place: Path, snapshot: Snapshot, sql: str) -> None:
    fragment = min((place / "catalog" / "tables").iterdir())
    names = {"secret": place / "secret.csv", "target": place / "new", "folder": place, "fragment": fragment}
    for name, path in names.items():
        sql = sql.replace(f"{{{name}}}", str(path))
    before = digest(place)
    said = ""
    try:
        said = repr(snapshot.sql(sql, time_s=10.0, max_rows=10_000).to_pylist())
    except UserError as error:
        said = error.problem
    assert "opensesame" not in said
    assert digest(place) == before
    assert snapshot.sql("SELECT count(*) AS n FROM units")["n"].to_pylist() == [2]


def test_the_fuzz_reaches_both_sides(snapshot: Snapshot) -> None:
    """Of what it makes, some is carried out and some refused by the guard: else it would prove nothing."""
    outcomes = {"answered": 0, "refused": 0}

    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(sql=statements())
    def count(sql: str) -> None:
        try:
            snapshot.sql(sql, time_s=10.0)
            outcomes["answered"] += 1
        except UserError:
            outcomes["refused"] += 1

    count()
    assert outcomes["answered"] > 2
    assert outcomes["refused"] > 15
