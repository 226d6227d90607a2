"""Answers of SQL: of the store that is there, in plain number types, and with errors named as what they are."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from nhcatalog.catalog import Catalog
from nhcatalog.guard import QueryError, TooMuch
from nhcatalog.log import CatalogError
from nhcatalog.sandbox import Sandbox
from nhcatalog.storage import open_files

Add = Callable[..., int]


@pytest.mark.parametrize("where", ["disk", "s3"])
@pytest.mark.parametrize("compacted", [False, True])
def test_a_store_made_again_at_the_same_path_answers_for_itself(
    where: str, compacted: bool, tmp_path: Path, add: Add, request: pytest.FixtureRequest
) -> None:
    place = str(tmp_path / "catalog") if where == "disk" else f"{request.getfixturevalue('bucket')}/catalog"

    def make(*session_ids: str) -> None:
        catalog = Catalog(place)
        for session_id in session_ids:
            add(catalog, session_id)
        if compacted:
            catalog.compact()

    def ids(query: str) -> list[str]:
        return sorted(row["session_id"] for row in Catalog(place).snapshot().sql(query).to_pylist())

    queries = ["select session_id from sessions", "select distinct session_id from units"]
    make("old-1", "old-2")
    with Sandbox(place) as sandbox:
        for query in queries:
            assert ids(query) == ["old-1", "old-2"]
            assert len(sandbox.sql(query)) == 2
        if where == "disk":
            shutil.rmtree(place)
        else:
            files = open_files(place)
            for name in files.walk():
                files.delete(name)
        make("new-1", "new-2")
        for query in queries:
            assert ids(query) == ["new-1", "new-2"]
            assert sorted(row["session_id"] for row in sandbox.sql(query).to_pylist()) == ["new-1", "new-2"]


@pytest.mark.parametrize("compacted", [False, True])
def test_what_was_opened_before_never_answers_from_a_catalog_made_again(
    compacted: bool, tmp_path: Path, add: Add
) -> None:
    place = tmp_path / "catalog"
    opened = Catalog(place)
    for session_id in ("old-1", "old-2"):
        add(opened, session_id)
    snapshot, unused = opened.snapshot(), opened.snapshot()
    query = "select distinct session_id from units order by 1"
    old = [{"session_id": "old-1"}, {"session_id": "old-2"}]
    assert snapshot.sql(query).to_pylist() == old
    shutil.rmtree(place)
    for made in (opened, snapshot):
        with pytest.raises(CatalogError, match=r"has no log position|deleted, or made again"):
            made.snapshot(2) if made is opened else made.sql(query)
    for session_id in ("new-1", "new-2", "new-3"):
        add(Catalog(place), session_id)
    if compacted:
        Catalog(place).compact()
    for before in (snapshot, unused):
        with pytest.raises(CatalogError, match="deleted, or made again, since position 2 was opened"):
            before.sql(query)
    new = [{"session_id": f"new-{k}"} for k in (1, 2, 3)]
    assert opened.snapshot().sql(query).to_pylist() == new
    assert sorted(opened.snapshot().entries) == ["new-1", "new-2", "new-3"]
    assert [row["session_id"] for row in opened.log().to_pylist()] == ["new-3", "new-2", "new-1"]
    assert add(opened, "new-4") == 4
    # a checkpoint of the same number is of the other catalog
    opened.compact()
    assert len(opened.snapshot().entries) == 4
    shutil.rmtree(place)
    add(Catalog(place), "newer")
    Catalog(place).compact()
    assert list(opened.snapshot().entries) == ["newer"]


def test_a_compaction_does_not_break_a_snapshot_of_the_same_catalog(tmp_path: Path, add: Add) -> None:
    catalog = Catalog(tmp_path / "catalog")
    add(catalog, "a")
    add(catalog, "b")
    tail = catalog.snapshot()
    catalog.compact()
    compacted, unread = catalog.snapshot(), catalog.snapshot()
    query = "select distinct session_id from units order by 1"
    assert len(compacted.sql(query)) == len(tail.sql(query)) == 2
    add(catalog, "c")
    catalog.compact(full=True)
    catalog.vacuum(0)
    for snapshot in (tail, compacted, unread):
        assert [row["session_id"] for row in snapshot.sql(query).to_pylist()] == ["a", "b"]


LATE = "select case when i = 900000 then '{}' else '1' end::int as n from range(1000000) t(i)"


@pytest.mark.parametrize("text", ["INTERRUPT", "INTERRUPT Error: x", "Out of Memory", "Out of Memory Error: x"])
@pytest.mark.parametrize("query", ["select '{}'::int", LATE])
def test_an_error_whose_text_looks_like_another_is_an_ordinary_error(catalog: Catalog, text: str, query: str) -> None:
    for ask in (catalog.snapshot().sql, lambda q: catalog.snapshot().stream(q).read_all()):
        with pytest.raises(QueryError, match="Conversion Error: Could not convert string") as error:
            ask(query.format(text))
        assert not isinstance(error.value, TooMuch)


@pytest.mark.parametrize("error", [OSError, duckdb.InterruptException])
def test_an_interruption_that_nobody_asked_for_is_an_error_of_the_query(
    catalog: Catalog, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB 1.5.2 gives it now and then in the place of the error of a late row, by way of Arrow as an OSError."""

    def fail(*_: object) -> None:
        raise error("INTERRUPT Error: Interrupted!")

    monkeypatch.setattr("nhcatalog.query._next_batch", fail)
    for ask in (catalog.snapshot().sql, lambda q: catalog.snapshot().stream(q).read_all()):
        with pytest.raises(QueryError, match="a row of the query failed, and DuckDB gives no reason: run it again"):
            ask("select 1")


def test_the_sandbox_names_such_errors_too_and_goes_on(catalog: Catalog) -> None:
    with Sandbox(catalog._files.root) as sandbox:
        for text in ("INTERRUPT", "Out of Memory"):
            for query in ("select '{}'::int", f"select max(n) from ({LATE})"):
                with pytest.raises(QueryError, match="Conversion Error"):
                    sandbox.sql(query.format(text))
        assert sandbox.sql("select 1 as n").to_pylist() == [{"n": 1}]


def test_a_fault_of_the_child_is_named(catalog: Catalog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import nhcatalog.numbers as numbers\n"
        "def fail(*args):\n    raise OSError(28, 'No space left on device')\n"
        "numbers.plain_batches = fail\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    with Sandbox(catalog._files.root) as sandbox, pytest.raises(QueryError, match=r"OSError: .*No space left"):
        sandbox.sql("select 1")


def test_asking_for_columns_executes_nothing(catalog: Catalog) -> None:
    endless = "select i as unit_id, count(*) as n from range(100000000000) t(i) where i < $most group by all"
    assert catalog.snapshot().columns(f"{endless}; -- all", {"most": 5}) == ["unit_id", "n"]
    with pytest.raises(QueryError):
        catalog.snapshot().columns("select nothing from units")
    with pytest.raises(QueryError):
        catalog.snapshot().columns("drop table units")


def test_sums_are_plain_numbers(catalog: Catalog) -> None:
    columns = "sum(unit_index) as n, 1.5::decimal(9, 2) as d, sum(2e19::hugeint) as large, null::hugeint as x"
    query = f"select {columns} from units"
    table = catalog.snapshot().sql(query)
    assert [str(kind) for kind in table.schema.types] == ["int64", "double", "double", "int64"]
    assert table.to_pylist() == [{"n": 4, "d": 1.5, "large": 1e20, "x": None}]
    frame = table.to_pandas()
    assert pd.api.types.is_integer_dtype(frame["n"])
    assert frame["n"][0] / 2.0 == 2.0
    assert catalog.snapshot().stream(query).read_all().equals(table)
    with Sandbox(catalog._files.root) as sandbox:
        assert sandbox.sql(query).equals(table)
    nothing = catalog.snapshot().stream("select sum(unit_index) as n from units group by unit_id having false")
    assert str(nothing.read_all().schema.field("n").type) == "int64"


def test_sums_inside_lists_structures_and_maps_are_plain_numbers(catalog: Catalog) -> None:
    columns = (
        "[sum(unit_index)] as list, {'n': sum(unit_index), 'd': 1.25} as struct, map{'k': sum(unit_index)} as map, "
        "array_value(sum(unit_index), 3::hugeint) as pair, [2e19::hugeint, 1] as large"
    )
    query = f"select {columns} from units"
    table = catalog.snapshot().sql(query)
    assert table.to_pylist() == [
        {"list": [4], "struct": {"n": 4, "d": 1.25}, "map": [("k", 4)], "pair": [4, 3], "large": [2e19, 1.0]}
    ]
    assert "decimal" not in str(table.schema)
    assert catalog.snapshot().stream(query).read_all().equals(table)


def test_a_sum_of_a_later_batch_that_does_not_fit_is_an_error_of_a_stream(catalog: Catalog) -> None:
    query = "select case when i = 900000 then 2e19::hugeint else i end as n from range(1000000) t(i)"
    assert str(catalog.snapshot().sql(query).schema.field("n").type) == "double"
    with pytest.raises(QueryError, match="convert it in the query"):
        catalog.snapshot().stream(query).read_all()


SLOW = "select i from range(100000000000) t(i) where i < 200000 or hash(i) % 100000000007 = 5"


@pytest.mark.parametrize("ask", ["sql", "stream"])
def test_ctrl_c_ends_a_query_in_its_midst(ask: str, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom nhcatalog.catalog import Catalog\n"
        f"snapshot = Catalog({str(tmp_path / 'none')!r}).snapshot()\n"
        "print('asked', flush=True)\n"
        "try:\n"
        f"    snapshot.sql({SLOW!r}) if {ask == 'sql'} else snapshot.stream({SLOW!r}).read_all()\n"
        "except KeyboardInterrupt:\n    sys.exit(42)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=pipe, stderr=pipe) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"asked\n"
        threading.Timer(1.0, child.send_signal, [signal.SIGINT]).start()
        try:
            assert child.wait(timeout=60) == 42
        finally:
            child.kill()
