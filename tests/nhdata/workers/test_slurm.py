"""SLURM starts the workers: against stand-ins for its commands that run a job on this machine."""

import os
import signal
import stat
from pathlib import Path

import psutil
import pytest
import worker_tasks
from worker_tasks import where

from nhcatalog.errors import UserError
from nhdata.workers import Slurm, Workers, cluster, run_tasks

SBATCH = """#!/bin/bash
if [ "$1" = --test-only ]; then
    grep -q 'SBATCH -p nowhere' && { echo 'sbatch: error: invalid partition: nowhere' >&2; exit 1; }
    exit 0
fi
cp "$1" "$HOME/job.sh"
setsid bash "$HOME/job.sh" >> "$HOME/job.out" 2>&1 &
echo $! >> "$HOME/submitted"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/bash
kill -TERM -- -$1
echo $1 >> "$HOME/cancelled"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and sbatch and scancel on the path."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(text)
        command.chmod(command.stat().st_mode | stat.S_IEXEC)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(worker_tasks.__file__))
    return home


def test_slurm_jobs_do_the_work_and_end_with_it(slurm: Path) -> None:
    wanted = Slurm(partition="short", cores=2, memory="1GB", walltime="01:00:00")
    results = list(run_tasks(where, [1, 2, 3], Workers(jobs=1, slurm=wanted)))
    assert sorted(square for square, _ in results) == [1, 4, 9]
    assert os.getpid() not in {pid for _, pid in results}
    script = (slurm / "job.sh").read_text()
    for line in ("-p short", "--cpus-per-task=2", "-t 01:00:00"):
        assert f"#SBATCH {line}\n" in script
    assert "--nthreads 1 " in script  # one session at a time
    assert "--no-dashboard" in script
    assert "tls://" in script
    (job,) = (slurm / "submitted").read_text().split()
    assert (slurm / "cancelled").read_text().split() == [job]
    assert not list(slurm.glob(".neurohorizon-*"))  # the certificates of this run


def test_a_job_whose_time_is_up_is_replaced(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask

    monkeypatch.setattr(cluster, "RENEW_S", 0.5)
    submitted = slurm / "submitted"

    def end_the_first(square_and_pid):
        if len(jobs := submitted.read_text().split()) == 1:
            os.killpg(int(jobs[0]), signal.SIGKILL)

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "100ms"}):
        seen = []
        for result in run_tasks(where, range(3), Workers(jobs=1, slurm=Slurm(memory="1GB"))):
            end_the_first(result)
            seen.append(result)
    assert sorted(square for square, _ in seen) == [0, 1, 4]


def test_what_slurm_refuses_is_one_clear_error(slurm: Path) -> None:
    with pytest.raises(UserError, match=r"refuses the job .*invalid partition: nowhere.*mend --partition"):
        list(run_tasks(abs, [1], Workers(slurm=Slurm(partition="nowhere"))))
    with pytest.raises(UserError, match="memory"):
        list(run_tasks(abs, [1], Workers(slurm=Slurm(memory="much"))))
    assert not (slurm / "submitted").exists()


def test_a_machine_without_slurm_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="no sbatch on this machine: run this on a login node"):
        list(run_tasks(abs, [1], Workers(slurm=Slurm())))


def test_nothing_but_encrypted_ports_can_be_reached_from_elsewhere(slurm: Path) -> None:
    with cluster._slurm(Slurm(memory="1GB"), 1) as (client, _):
        client.wait_for_workers(1)
        known = {
            client.scheduler.address,
            *client.scheduler_info()["workers"],
            *(w["nanny"] for w in client.scheduler_info()["workers"].values()),
        }
        (job,) = (slurm / "submitted").read_text().split()
        processes = [psutil.Process(), *psutil.Process(int(job)).children(recursive=True)]
        reachable = {
            at.laddr.port
            for process in processes
            for at in process.net_connections("tcp")
            if at.status == psutil.CONN_LISTEN and at.laddr.ip != "127.0.0.1"
        }
    assert reachable <= {int(address.rsplit(":", 1)[1]) for address in known}
    assert all(address.startswith("tls://") for address in known)
