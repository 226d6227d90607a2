"""Processes of this machine: a crash costs one task, and leaving early leaves nobody behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from worker_tasks import crash_at_two, refuse, tidy_up_late, unpicklable, where

from nhcatalog.errors import UserError
from nhdata.workers import WorkerDied, Workers, run_tasks


@pytest.mark.parametrize("workers", [Workers(jobs=2), Workers(isolated=True)])
def test_a_process_that_dies_costs_its_own_task_and_no_other(workers):
    said = []
    results = list(
        run_tasks(
            crash_at_two,
            [1, 2, 3, 4, 5],
            workers,
            on_begin=said.append,
            on_death=lambda item, died: f"{item}: {died}",
        )
    )
    assert sorted(results, key=str) == [1, "2: its process was ended by SIGSEGV", 3, 4, 5]
    assert said == [1, 2, 3, 4, 5]


def test_a_death_that_nobody_minds_is_an_error():
    with pytest.raises(WorkerDied, match="SIGSEGV"):
        list(run_tasks(crash_at_two, [2, 2], Workers(jobs=2)))


def test_one_isolated_job_runs_beside_this_process_unless_there_is_only_one_task():
    assert {pid for _, pid in run_tasks(where, [1, 2], Workers(isolated=True))}.isdisjoint({os.getpid()})
    assert list(run_tasks(where, [3], Workers(isolated=True))) == [(9, os.getpid())]


def test_a_result_that_cannot_travel_is_an_error():
    with pytest.raises(RuntimeError, match="pickle"):
        list(run_tasks(unpicklable, [1, 2], Workers(jobs=2)))


def test_an_error_for_the_user_keeps_its_words():
    with pytest.raises(UserError, match=r"^a\.nwb: no \d: try again$"):
        list(run_tasks(refuse, [1, 2], Workers(jobs=2)))


def test_an_error_of_a_process_comes_with_the_traceback_of_that_process():
    with pytest.raises(UserError) as caught:
        list(run_tasks(refuse, [1, 2], Workers(jobs=2)))
    assert "in refuse" in str(caught.value.__cause__)


def test_a_process_without_more_work_leaves_in_its_own_time(tmp_path):
    list(run_tasks(tidy_up_late, [tmp_path / "a", tmp_path / "b"], Workers(jobs=2)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def eventually(found):
    for _ in range(600):
        if found():
            return True
        time.sleep(0.05)
    return False


CTRL_C = """
import sys
from worker_tasks import linger
from nhcatalog.errors import UserError
from nhdata.workers import Workers, run_tasks

if __name__ == "__main__":
    list(run_tasks(linger, sys.argv[1:], Workers(jobs=2)))
"""


@pytest.mark.parametrize("to_group", [True, False])
def test_ctrl_c_stops_what_is_at_work_lets_it_tidy_up_and_begins_nothing_more(tmp_path: Path, to_group):
    script = tmp_path / "script.py"
    script.write_text(CTRL_C)
    process = subprocess.Popen(
        [sys.executable, script, *(tmp_path / name for name in "abc")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert eventually(lambda: len(list(tmp_path.glob("*.begun"))) == 2)
    (os.killpg if to_group else os.kill)(process.pid, signal.SIGINT)
    error = process.communicate(timeout=20)[1]  # each of the tasks would take a minute
    assert error.rstrip().endswith("KeyboardInterrupt")
    assert error.count("Traceback") == 1
    assert sorted(p.name for p in tmp_path.glob("*.*")) == ["a.begun", "a.tidied", "b.begun", "b.tidied", "script.py"]
