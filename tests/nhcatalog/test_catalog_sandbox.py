"""SQL of strangers in a process that can be killed: what it takes is bounded, and the next question is answered."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nhcatalog.catalog import Catalog
from nhcatalog.errors import UserError
from nhcatalog.guard import QueryError
from nhcatalog.sandbox import Limits, Sandbox

N = "SELECT count(*)::INTEGER AS n FROM units"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox") / "catalog"


@pytest.fixture(scope="module")
def sandbox(place: Path) -> Iterator[Sandbox]:
    """Of a catalog with one session; the process is shared, because what strangers do must not matter."""
    Catalog(place).add({"session_id": "a"}, {}, "sessions/a", "hash")
    with Sandbox(place, Limits(time_s=30.0, memory_mb=300, rows=1000, answer_mb=1)) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("bomb", "message"),
    [
        ("SELECT repeat('x', 2000000000)", "Out of Memory|more memory"),
        ("SELECT length(repeat('x', 2000000000))", "Out of Memory|more memory"),
        ("SELECT array_agg(i) FROM range(1000000000) t(i)", "Out of Memory|more memory"),
        ("SELECT * FROM range(30000000) t(i) ORDER BY hash(i) DESC", "Out of Memory|more memory"),
        ("SELECT range FROM range(1001)", "more than 1000 rows"),
        ("SELECT repeat('x', 2000000) AS x", "an answer of 2 MB"),
        ("COPY units TO 'x.csv'", "of type COPY"),
        ("SELECT regoin FROM units", "region"),
    ],
)
def test_a_bomb_does_no_harm(sandbox: Sandbox, place: Path, contents: Any, bomb: str, message: str) -> None:
    before = contents(place)
    with pytest.raises(QueryError, match=message):
        sandbox.sql(bomb)
    assert sandbox.sql(N)["n"].to_pylist() == [0]
    assert contents(place) == before


@pytest.mark.parametrize(
    "endless",
    [
        "SELECT count(*) FROM range(100000000000) a, range(1000) b",
        "WITH RECURSIVE r(a) AS (SELECT 1 UNION ALL SELECT (a + 1) % 1000 FROM r) SELECT count(*) FROM r",
    ],
)
def test_an_endless_query_ends(place: Path, sandbox: Sandbox, endless: str) -> None:
    with Sandbox(place, Limits(time_s=0.5)) as hasty:
        with pytest.raises(QueryError, match=r"longer than 0\.5 s|Out of Memory|more memory"):
            hasty.sql(endless)
        assert hasty._child is None


def test_answers_are_those_of_the_catalog(sandbox: Sandbox) -> None:
    answer = sandbox.sql("SELECT session_id, $a AS a FROM sessions", {"a": 1.5})
    assert answer.to_pylist() == [{"session_id": "a", "a": 1.5}]
    assert sandbox.sql("SELECT ? AS a", ["x"]).to_pylist() == [{"a": "x"}]
    assert sandbox.sql("SELECT 1 AS a WHERE false").num_rows == 0


def test_a_process_that_died_is_replaced(sandbox: Sandbox) -> None:
    sandbox.sql(N)
    assert sandbox._child is not None
    sandbox._child.kill()
    sandbox._child.wait()
    assert sandbox.sql(N)["n"].to_pylist() == [0]


def test_threads_take_turns(sandbox: Sandbox) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda k=k: found.append(sandbox.sql("SELECT ? AS k", [k])["k"][0].as_py()))
        for k in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(8))


def test_it_sees_new_sessions_and_old_positions(tmp_path: Path, add: Callable[..., int]) -> None:
    catalog = Catalog(tmp_path / "catalog")
    add(catalog, "a", n_units=2)
    with Sandbox(tmp_path / "catalog") as sandbox:
        assert sandbox.sql(N)["n"].to_pylist() == [2]
        add(catalog, "b", n_units=3)
        assert sandbox.sql(N)["n"].to_pylist() == [5]
        assert sandbox.sql(N, at=1)["n"].to_pylist() == [2]
        with pytest.raises(UserError, match="no log position 9"):
            sandbox.sql(N, at=9)


def test_an_answer_comes_in_parts_of_bounded_size(sandbox: Sandbox, place: Path) -> None:
    with Sandbox(place, Limits(time_s=30.0, rows=200_000, answer_mb=4)) as roomy:
        rows = roomy.sql("SELECT range AS k FROM range(200000)")
        assert rows["k"].to_pylist() == list(range(200_000))
        with pytest.raises(QueryError, match="more than 200000 rows"):
            roomy.sql("SELECT 1 FROM range(200001)")
        with pytest.raises(QueryError, match="MB or more"):
            roomy.sql("SELECT range AS a, -range AS b, range * 2 AS c, 1 / range AS d FROM range(200000)")
        assert roomy.sql(N)["n"].to_pylist() == [0]


def test_it_outlives_the_thread_that_started_it(sandbox: Sandbox, place: Path) -> None:
    with Sandbox(place, Limits(time_s=30.0)) as other:
        thread = threading.Thread(target=other.sql, args=(N,))
        thread.start()
        thread.join()
        first = other._child
        assert first is not None
        assert other.sql(N)["n"].to_pylist() == [0]
        assert other._child is first


def test_it_is_not_in_the_way_of_ctrl_c(sandbox: Sandbox) -> None:
    sandbox.sql(N)
    assert sandbox._child is not None
    assert os.getpgid(sandbox._child.pid) != os.getpgid(0)


def test_closing_ends_the_query_that_it_is_at(place: Path) -> None:
    other, said = Sandbox(place, Limits(time_s=3000.0)), []

    def ask() -> None:
        with pytest.raises(QueryError) as told:
            other.sql(ENDLESS)
        said.append(told.value.problem)

    other.sql(N)
    thread = threading.Thread(target=ask)
    thread.start()
    while not other._lock.locked():
        time.sleep(0.01)
    other.close()
    thread.join()
    assert "broke" in said[0]
    with pytest.raises(QueryError, match="no more queries"):
        other.sql(N)


ENDLESS = "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE (a.range * b.range) % 7 = 3"
SERVER = """
import sys
from nhcatalog.sandbox import Limits, Sandbox
sandbox = Sandbox(sys.argv[1], Limits(time_s=300.0))
sandbox.sql("SELECT 1")
print(sandbox._child.pid, flush=True)
sandbox.sql(sys.argv[2])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_killed_parent_leaves_no_query_behind(place: Path) -> None:
    command = [sys.executable, "-c", SERVER, str(place), ENDLESS]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    query = int(parent.stdout.readline())
    time.sleep(0.5)
    parent.kill()
    parent.communicate()
    for _ in range(200):  # until it is gone, or a zombie that nobody waits for
        try:
            gone = Path(f"/proc/{query}/stat").read_text().split()[2] == "Z"
        except FileNotFoundError:
            gone = True
        if gone:
            return
        time.sleep(0.1)
    os.kill(query, signal.SIGKILL)
    pytest.fail("the query runs on")


CONFINED = """
import os, sys
from nhcatalog.confine import confine
landlock = confine(100)
tried = {}
def attempt(name, do):
    try:
        do()
        tried[name] = "done"
    except (OSError, MemoryError) as error:
        tried[name] = type(error).__name__
def write():
    with open(sys.argv[1] + "/new", "w") as file:
        file.write("x" * 10000)
attempt("write", write)
attempt("memory", lambda: bytearray(2 * 2**30))
if landlock:
    attempt("remove", lambda: os.unlink(sys.argv[1] + "/old"))
    attempt("truncate", lambda: os.truncate(sys.argv[1] + "/old", 0))
    attempt("rename", lambda: os.rename(sys.argv[1] + "/old", sys.argv[1] + "/x"))
    attempt("folder", lambda: os.mkdir(sys.argv[1] + "/y"))
print(sorted(name for name, outcome in tried.items() if outcome == "done"))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
def test_a_confined_process_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, str(tmp_path)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "[]\n"
    assert (tmp_path / "old").read_text() == "old"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 3
    assert os.listdir(tmp_path) in (["old"], ["old", "new"], ["new", "old"])
