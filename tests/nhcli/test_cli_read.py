"""``nhdata ls | info | sql | features``."""

import csv
import io
import json
import shutil
from contextlib import suppress
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import nhdata
from nhcatalog.catalog import SessionExists
from nhcli.data import cli
from nhdata.sources import SourceOptions
from nhdata.sources.synthetic import SyntheticSource
from nhdata.store.commit import add_session
from nhdata.store.encode import encode

QUERY = "select session_id, count(*) as n, sum(n_spikes) as s from units group by 1 order by 1"


@pytest.fixture
def answer(small_store) -> list[dict]:
    return nhdata.open(small_store).sql(QUERY).to_pylist()


def test_sql_csv(nhdata_run, small_store, answer) -> None:
    result = nhdata_run("sql", QUERY, "--store", small_store, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert rows == [{k: str(v) for k, v in row.items()} for row in answer]


def test_sql_json(nhdata_run, small_store, answer) -> None:
    assert json.loads(nhdata_run("sql", QUERY, "--store", small_store, "--format", "json").stdout) == answer
    value = json.loads(nhdata_run("sql", QUERY, "--store", small_store, "--json").stdout)
    assert value == {"schema": 1, "columns": ["session_id", "n", "s"], "rows": answer}


def test_sql_parquet(nhdata_run, small_store, answer, tmp_path) -> None:
    out = tmp_path / "x.parquet"
    assert nhdata_run("sql", QUERY, "--store", small_store, "--format", "parquet", "--out", out).exit_code == 0
    assert pq.read_table(out).to_pylist() == answer
    piped = nhdata_run("sql", QUERY, "--store", small_store, "--format", "parquet").stdout_bytes
    assert pq.read_table(io.BytesIO(piped)).to_pylist() == answer


def test_sql_ndjson_and_a_query_from_a_file_or_stdin(small_store, answer, tmp_path) -> None:
    (tmp_path / "q.sql").write_text(QUERY)
    for given in (["-f", str(tmp_path / "q.sql")], ["-f", "-"], []):
        args = ["sql", *given, "--store", str(small_store), "--format", "ndjson"]
        result = CliRunner().invoke(cli, args, input=QUERY)
        assert [json.loads(line) for line in result.stdout.splitlines()] == answer


def test_sql_parameters(nhdata_run, small_store) -> None:
    rows = "select $a as a, typeof($b) as b, $c as c"
    args = ("--param", "a=it's", "--param", "b=1.5", "--param", "c=x=y", "--store", small_store, "--format", "csv")
    assert nhdata_run("sql", rows, *args).stdout == "a,b,c\nit's,DOUBLE,x=y\n"
    assert nhdata_run("sql", "select ? + ? as n", "--param", 1, "--param", 2, *args[6:]).stdout == "n\n3\n"
    mixed = nhdata_run("sql", "select 1", "--param", "a=1", "--param", "2", *args[6:])
    assert (mixed.exit_code, len(mixed.stderr.splitlines())) == (1, 1)
    assert "parameter" in nhdata_run("sql", "select $missing", *args[6:]).stderr


@pytest.mark.parametrize(
    ("name", "written"), [("715093703", "715093703"), ("007", "007"), ("1e5", "1e5"), ("1.5", '"1.5"')]
)
def test_a_parameter_of_digits_is_compared_with_text_and_with_numbers(nhdata_run, tmp_path, name, written) -> None:
    store = tmp_path / "data.zarr"
    source = SyntheticSource(SourceOptions(n_sessions=1, n_units=12, duration_s=20.0))
    recording = source.load(next(iter(source.iter_sessions([]))))
    for session_id in ("a", "715093703", "7", "100000", name):
        with suppress(SessionExists):
            add_session(store, encode(replace(recording, session_id=session_id)))
    args = ("--store", store, "--format", "csv")
    asked = "select session_id from sessions where session_id = $s"
    assert nhdata_run("sql", asked, "--param", f"s={written}", *args).stdout == f"session_id\n{name}\n"
    counted = "select unit_index from units where session_id = 'a' and unit_index >= $k and rate_hz > $r limit $m"
    params = ("--param", "k=5", "--param", "r=-1.5", "--param", "m=2")
    assert nhdata_run("sql", counted, *params, *args).stdout == "unit_index\n5\n6\n"
    assert nhdata_run("sql", "select $k + 1 as n", "--param", "k=5", *args).stdout == "n\n6\n"


def test_sums_are_numbers_in_every_format(nhdata_run, small_store, tmp_path) -> None:
    query = "select sum(n_spikes) as n, [sum(n_units)] as list from sessions"
    (row,) = json.loads(nhdata_run("sql", query, "--store", small_store, "--json").stdout)["rows"]
    assert type(row["n"]) is int
    assert row["list"] == [24]
    assert json.loads(nhdata_run("sql", query, "--store", small_store, "--format", "json").stdout) == [row]
    lines = nhdata_run("sql", query, "--store", small_store, "--format", "csv").stdout.splitlines()
    assert lines[1] == f"{row['n']},[24]"
    out = tmp_path / "n.parquet"
    query = "select sum(n_spikes) as n from sessions"
    nhdata_run("sql", query, "--store", small_store, "--format", "parquet", "--out", out)
    assert pq.read_table(out).to_pydict() == {"n": [row["n"]]}


def test_sql_at_an_earlier_position(nhdata_run, small_store) -> None:
    count = ("sql", "select count(*) as n from sessions", "--store", small_store, "--format", "csv", "--at")
    assert [nhdata_run(*count, at).stdout for at in (0, 1, 2)] == ["n\n0\n", "n\n1\n", "n\n2\n"]
    assert "choose one from 0 to 2" in nhdata_run(*count, 3).stderr
    assert len(json.loads(nhdata_run("ls", "--at", 1, "--store", small_store, "--json").stdout)["sessions"]) == 1
    assert json.loads(nhdata_run("info", "--at", 1, "--store", small_store, "--json").stdout)["n_sessions"] == 1


def test_an_error_in_a_late_row_is_one_line_and_leaves_no_file(nhdata_run, small_store, tmp_path) -> None:
    late = "select case when range = 250000 then error('late') else 'x' end as v from range(300000)"
    for form in ("csv", "ndjson", "parquet", "table"):
        result = nhdata_run("sql", late, "--store", small_store, "--format", form, "--out", tmp_path / "x")
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
        # DuckDB 1.5 reports now and then that it stopped its other threads instead
        assert "late" in result.stderr or "a row of the query failed" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_sql_table_shows_every_value(nhdata_run, small_store, answer) -> None:
    text = nhdata_run("sql", QUERY, "--store", small_store).stdout
    for row in answer:
        assert row["session_id"] in text
        assert str(row["s"]) in text


def test_sql_table_says_what_it_leaves_out(nhdata_run, small_store) -> None:
    result = nhdata_run("sql", "select range from range(250)", "--store", small_store)
    assert "50 more rows" in result.stderr


def test_sql_refuses_to_write(nhdata_run, small_store, tmp_path) -> None:
    for query in (f"copy units to '{tmp_path / 'x.csv'}'", "drop table units", "select 1; select 2", "selec 1"):
        result = nhdata_run("sql", query, "--store", small_store)
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_sql_wrong_column_names_a_right_one(nhdata_run, small_store) -> None:
    result = nhdata_run("sql", "select n_spike from units", "--store", small_store)
    assert result.exit_code == 1
    assert "n_spikes" in result.stderr


def test_ls(nhdata_run, small_store) -> None:
    value = json.loads(nhdata_run("ls", "--store", small_store, "--json").stdout)
    assert [s["session_id"] for s in value["sessions"]] == nhdata.open(small_store).session_ids


def test_info_of_a_store_and_a_session(nhdata_run, small_store) -> None:
    value = json.loads(nhdata_run("info", "--store", small_store, "--json").stdout)
    assert (value["n_sessions"], value["n_units"]) == (2, 24)
    session_id = nhdata.open(small_store).session_ids[0]
    value = json.loads(nhdata_run("info", session_id, "--store", small_store, "--json").stdout)
    assert value["session_id"] == session_id
    assert value["provenance"]["rule"] == "every simulated unit"
    assert set(value["series"]) == {"true_rate_hz", "wheel_position", "wheel_velocity"}
    text = nhdata_run("info", session_id, "--store", small_store).stdout
    assert "content_hash" in text
    assert nhdata_run("info", "nobody", "--store", small_store).exit_code == 1


def test_features_stored_and_of_a_window(nhdata_run, small_store) -> None:
    stored = json.loads(nhdata_run("features", "--store", small_store, "--json").stdout)["rows"]
    assert len(stored) == 24
    assert len(stored[0]) == 39  # two ids, the window and its intervals, the version, 33 features
    window = ("--window", 0, 60, "--store", small_store, "--json")
    assert json.loads(nhdata_run("features", *window).stdout)["rows"] == stored
    assert nhdata_run("features", "--window", 50, 70, "--store", small_store).exit_code == 1


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(nhdata_run, small_store, tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    for out in ("folder", "missing/x.csv"):
        result = nhdata_run("sql", "select 1", "--store", small_store, "--out", tmp_path / out)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"error: cannot write {tmp_path / out} (")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_remedies_name_commands_that_there_are(nhdata_run, small_store) -> None:
    assert "'nhdata schema'" in nhdata_run("sql", "select nothing from units", "--store", small_store).stderr
    assert "rate_hz" in nhdata_run("schema", "units").stdout
    assert "rate_hz" in nhdata_run("sql", "describe units", "--store", small_store).stdout
    assert "units" in nhdata_run("sql", "show tables", "--store", small_store).stdout


def test_json_goes_into_a_file_if_asked(nhdata_run, small_store, answer, tmp_path) -> None:
    out = tmp_path / "rows.json"
    result = nhdata_run("sql", QUERY, "--store", small_store, "--json", "--out", out)
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads(out.read_text())["rows"] == answer


def test_sql_that_is_not_utf8_is_one_line(nhdata_run, small_store, tmp_path) -> None:
    (tmp_path / "q.sql").write_bytes(b"select 1 as \xe9\xff")
    result = nhdata_run("sql", "--store", small_store, "-f", tmp_path / "q.sql")
    assert result.exit_code == 1
    assert result.stderr == "error: the query is not UTF-8 text (invalid continuation byte): save it as UTF-8\n"
    result = nhdata_run("sql", "--store", small_store, "select '\udce9'")
    assert result.exit_code == 1
    assert result.stderr == "error: the SQL is not UTF-8 text: save it as UTF-8\n"


def test_the_start_of_an_id_is_enough(nhdata_run, small_store, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = shutil.copytree(small_store, tmp_path / "mine.zarr")
    first, second = nhdata.open(store).session_ids
    for wrong in ("sim", "", "x"):
        result = nhdata_run("info", wrong, "--store", store)
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert json.loads(nhdata_run("info", first, "--store", store, "--json").stdout)["session_id"] == first
    nhdata_run("catalog", "remove", first, "--store", store)
    assert json.loads(nhdata_run("info", "sim", "--store", store, "--json").stdout)["session_id"] == second
    assert nhdata_run("report", "--store", store, "--session", "sim").stdout == f"{second}.html\n"
    assert nhdata_run("report", "--store", store).stdout == "mine.html\n"
    assert {p.name for p in tmp_path.iterdir()} == {"mine.html", "mine.zarr", f"{second}.html"}
    rows = json.loads(nhdata_run("features", "--store", store, "--session", "sim", "--format", "json").stdout)
    assert {row["session_id"] for row in rows} == {second}
