"""SQL in a process that can be killed."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import nhdata
from nhcatalog.errors import UserError
from nhdata.web.sql_child import SqlChild

ENDLESS = "select count(*) from range(100000000) a, range(100000000) b where (a.range * b.range) % 7 = 3"


@pytest.fixture(scope="module")
def store(web_root):
    return nhdata.open(web_root)


@pytest.fixture(scope="module")
def child():
    made = SqlChild(limit_s=60.0)
    yield made
    made.close()


def test_a_query_and_its_errors(child, store) -> None:
    assert child.run(store, "select count(*) as n from units").to_pylist() == [{"n": 120}]
    assert child.run(store, "select unit_index from units where region = ?", ["CA1"]).num_rows == 4
    for query in ("select nothing from units", "copy units to '/tmp/x'", "select * from read_csv('/etc/passwd')", ""):
        with pytest.raises(UserError):
            child.run(store, query)
    assert child.run(store, "select 1 as one").to_pylist() == [{"one": 1}]


def test_what_takes_too_long_is_killed_and_the_next_query_runs(store) -> None:
    child = SqlChild(limit_s=60.0)
    assert child.run(store, "select 1").num_rows == 1
    child.limit_s = 1.0
    first = child._process.pid
    with pytest.raises(UserError, match="took more than 1 s"):
        child.run(store, ENDLESS)
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    child.limit_s = 60.0
    assert child.run(store, "select 1").num_rows == 1
    child.close()


def test_a_query_waits_for_the_one_before_it(child, store) -> None:
    with ThreadPoolExecutor() as threads:
        with child._lock:  # as a slow query holds it
            waiting = threads.submit(child.run, store, "select 1")
            time.sleep(0.2)
            assert not waiting.done()
        assert waiting.result().num_rows == 1


def test_a_process_that_dies_is_replaced(child, store) -> None:
    child.run(store, "select 1")
    os.kill(child._process.pid, signal.SIGKILL)
    child._process.join()
    assert child.run(store, "select 1").num_rows == 1


def test_a_killed_server_leaves_no_query_behind(web_root) -> None:
    code = (
        "import nhdata; from nhdata.web.sql_child import SqlChild; store = nhdata.open(__import__('sys').argv[1]); "
        "child = SqlChild(); child.run(store, 'select 1'); print(child._process.pid, flush=True); child.limit_s = 300; "
        f"child.run(store, {ENDLESS!r})"
    )
    server = subprocess.Popen([sys.executable, "-c", code, str(web_root)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    query = int(server.stdout.readline())
    time.sleep(0.5)
    server.kill()
    server.communicate()
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


def test_too_much_memory_is_an_error(child, store) -> None:
    with pytest.raises(UserError):
        child.run(store, "select repeat(repeat('x', 1000000), 20000) as x")
    assert child.run(store, "select 1").num_rows == 1
