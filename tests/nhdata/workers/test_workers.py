"""The same results from this process, from processes beside it and from a dask cluster."""

import os
import subprocess
import sys

import pytest
from worker_tasks import where

from nhcatalog.errors import UserError
from nhdata.workers import Workers, run_tasks


def test_one_job_runs_here_in_order():
    assert list(run_tasks(where, [3, 1, 2])) == [(9, os.getpid()), (1, os.getpid()), (4, os.getpid())]


def test_several_jobs_run_in_other_processes():
    results = list(run_tasks(pow, [], Workers(jobs=2)))
    assert results == []
    results = list(run_tasks(abs, [-3, -1, -2], Workers(jobs=2)))
    assert sorted(results) == [1, 2, 3]


def test_an_error_of_a_task_is_raised_here():
    with pytest.raises(TypeError):
        list(run_tasks(abs, [1, "x"], Workers(jobs=2)))


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """A cluster in a process of its own, as `dask scheduler` and `dask worker` make it."""
    code = """if __name__ == "__main__":
    from distributed import LocalCluster
    options = dict(protocol="tcp", host="127.0.0.1", dashboard_address="127.0.0.1:0", processes=False)
    with LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""
    folder = tmp_path_factory.mktemp("dask")
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
    )
    yield process.stdout.readline().strip()
    process.communicate("\n", timeout=30)


def test_a_dask_cluster_does_the_work(scheduler):
    results = list(run_tasks(abs, [-3, -1, -2], Workers(scheduler=scheduler)))
    assert sorted(results) == [1, 2, 3]
    (pid,) = run_tasks(eval, ["__import__('os').getpid()"], Workers(scheduler=scheduler))
    assert pid != os.getpid()


def test_no_scheduler_is_one_clear_error(monkeypatch):
    monkeypatch.setattr("nhdata.workers.cluster.CONNECT_TIMEOUT_S", 0.5)
    with pytest.raises(UserError, match=r"no dask scheduler at tcp://127\.0\.0\.1:9"):
        list(run_tasks(abs, [1], Workers(scheduler="tcp://127.0.0.1:9")))
