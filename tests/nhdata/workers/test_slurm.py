"""SLURM starts the workers: against stand-ins for its commands that run a job on this machine."""

import logging
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import worker_tasks
from worker_tasks import where

from nhcatalog.errors import UserError
from nhdata.workers import Slurm, Workers, cluster, run_tasks
from nhdata.workers import slurm as slurm_module
from nhdata.workers.slurm import slurm_cluster

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
case "$1" in --name=*) echo "$1" >> "$HOME/swept"; exit 0;; esac
kill -TERM -- -$1
echo $1 >> "$HOME/cancelled"
"""
SQUEUE = """#!/bin/bash
cat "$HOME/queue" 2>/dev/null
exit 0
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and sbatch and scancel on the path."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL), ("squeue", SQUEUE)):
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
    assert (slurm / "swept").read_text().startswith("--name=neurohorizon-")  # jobs submitted as the cluster closed
    assert not list(slurm.glob(".neurohorizon-*"))  # the certificates and logs of this run


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
    with pytest.raises(UserError, match=r"refuses the job .*invalid partition: nowhere.*correct --partition"):
        list(run_tasks(abs, [1], Workers(slurm=Slurm(partition="nowhere"))))
    with pytest.raises(UserError, match="memory"):
        list(run_tasks(abs, [1], Workers(slurm=Slurm(memory="much"))))
    assert not (slurm / "submitted").exists()


@pytest.mark.parametrize("reason", ["PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit", "JobHeldUser"])
def test_jobs_that_can_never_start_end_the_run(slurm: Path, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (slurm.parent / "bin" / "sbatch").write_text("#!/bin/bash\necho Submitted batch job 7\n")
    (slurm / "queue").write_text(f"PENDING {reason}\n")
    monkeypatch.setattr(cluster, "POLL_S", 0.1)
    with pytest.raises(UserError, match=rf"SLURM will never start the jobs \({reason}\)"):
        list(run_tasks(abs, [1], Workers(slurm=Slurm(memory="1GB", walltime="48:00:00"))))
    assert "--name=neurohorizon-" in (slurm / "swept").read_text()
    assert not list(slurm.glob(".neurohorizon-*"))


def test_a_wait_for_slurm_is_logged_with_its_reason(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = SBATCH.replace("setsid bash", "setsid bash -c 'while [ ! -e $HOME/go ]; do sleep 0.1; done; exec bash $0'")
    (slurm.parent / "bin" / "sbatch").write_text(held)
    (slurm / "queue").write_text("PENDING Resources\n")
    monkeypatch.setattr(cluster, "POLL_S", 0.1)
    monkeypatch.setattr(cluster, "SILENT_S", 0.1)
    said = []

    def warning(text: str, *values: object) -> None:
        said.append(text % values)
        if len(said) == 3:
            (slurm / "go").touch()

    monkeypatch.setattr(logging.getLogger("nhdata.workers.cluster"), "warning", warning)
    assert list(run_tasks(abs, [-1], Workers(slurm=Slurm(memory="1GB")))) == [1]
    assert all(text.startswith("no worker at SLURM") and "SLURM says PENDING Resources" in text for text in said)


def test_the_handler_of_ctrl_c_stays(slurm: Path) -> None:
    code = (
        "import signal\nfrom nhdata.workers.slurm import _import_cluster\n"
        "_import_cluster()\nassert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )


def test_logs_stay_after_a_failure_and_keys_do_not(slurm: Path) -> None:
    def fail() -> None:
        with slurm_module._folder("neurohorizon-x") as folder:
            (folder / "key.pem").write_text("secret")
            (folder / "logs").mkdir()
            (folder / "logs" / "worker.err").write_text("no module named dask")
            raise UserError("no worker", "try again")

    with pytest.raises(UserError, match=r"no worker: try again; the jobs' logs are in .*neurohorizon-x-\w+/logs$"):
        fail()
    (folder,) = slurm.glob(".neurohorizon-*")
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["worker.err"]


def test_a_machine_without_slurm_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="no sbatch on this machine: run this on a login node"):
        list(run_tasks(abs, [1], Workers(slurm=Slurm())))


def test_nothing_but_encrypted_ports_can_be_reached_from_elsewhere(slurm: Path) -> None:
    with slurm_cluster(Slurm(memory="1GB"), 1) as connection:
        client = connection.client
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
