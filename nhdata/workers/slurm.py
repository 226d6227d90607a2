"""A dask cluster whose workers are SLURM jobs."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from nhcatalog.errors import UserError
from nhdata.workers.cluster import Connection
from nhdata.workers.where import Slurm

REFUSED = "correct --partition, --cores, --memory or --walltime"
_NEVER = re.compile(
    r"Partition(Time|Node)Limit|BadConstraints|JobHeld(Admin|User)|(QOS|Assoc)\w*PerJob\w*|QOSMin\w*|QOSMaxCpuPerNode"
    r"|AccountNotAllowed|Invalid(Account|QOS)|QOSNotAllowed"
)
"""Reasons of SLURM that do not pass by waiting; limits per user or group do, once other jobs have ended."""


@contextmanager
def slurm_cluster(slurm: Slurm, jobs: int) -> Iterator[Connection]:
    """A client of `jobs` SLURM jobs, which end with it; tasks wait as long as the queue does.

    Scheduler and workers authenticate each other by certificates made for this run, kept in the user's home until it
    ends; the scheduler's dashboard listens on this machine alone, and workers have none. The logs of the jobs are kept
    after a failure only.
    """
    cluster_class = _import_cluster()
    if shutil.which("sbatch") is None:
        raise UserError("no sbatch on this machine", "run this on a login node of the SLURM cluster")
    from dask.utils import parse_bytes
    from distributed import Client

    try:
        parse_bytes(slurm.memory)
    except ValueError:
        raise UserError(f"'{slurm.memory}' is no amount of memory", "write --memory 16GB") from None
    name = f"neurohorizon-{uuid.uuid4().hex[:12]}"
    with _folder(name) as folder:
        try:
            with cluster_class(
                queue=slurm.partition,
                cores=1,
                job_cpu=slurm.cores,
                processes=1,
                memory=slurm.memory,
                walltime=slurm.walltime,
                job_name=name,
                log_directory=str(folder / "logs"),
                security=_certificates(folder),
                scheduler_options={"dashboard_address": "127.0.0.1:0"},
                worker_extra_args=["--no-dashboard", "--dashboard-address", "127.0.0.1:0"],
            ) as cluster:
                _check_accepted(cluster.job_script())
                with Client(cluster) as client:
                    cluster.scale(jobs=jobs)
                    where = f"SLURM (jobs {name})"
                    yield Connection(client, where, lambda: cluster.scale(jobs=jobs), lambda: _why_none(name, folder))
        finally:
            if shutil.which("scancel"):  # a job may have been submitted while the cluster closed
                subprocess.run(["scancel", f"--name={name}"], capture_output=True, timeout=60)


def _import_cluster() -> Any:
    """``SLURMCluster``, imported without the handler of Ctrl-C that dask_jobqueue installs."""
    before = signal.getsignal(signal.SIGINT)
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError:
        raise UserError("--slurm needs dask-jobqueue", "pip install 'neurohorizon[slurm]'") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
    return SLURMCluster


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """A folder in the user's home for certificates and logs; after an error the logs stay."""
    folder = Path(mkdtemp(prefix=f".{name}-", dir=Path.home()))
    try:
        yield folder
    except Exception as error:
        for key in folder.glob("*.pem"):
            key.unlink()
        if any(log.stat().st_size for log in folder.glob("logs/*")):
            if isinstance(error, UserError):
                raise UserError(error.problem, f"{error.remedy}; the jobs' logs are in {folder}/logs") from None
            raise
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _why_none(name: str, folder: Path) -> str:
    """State and reason of the run's jobs in SLURM's queue.

    Raises
    ------
    UserError
        If none of them can ever start.
    """
    command = ["squeue", "-h", f"--name={name}", "-o", "%T %r"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    states = sorted({line.strip() for line in asked.stdout.splitlines() if line.strip()})
    if asked.returncode:
        return ""
    if not states:
        return f"; none of its jobs is in the queue; their logs are in {folder}/logs"
    reasons = [state.partition(" ")[2].strip("()") for state in states]
    if all(_NEVER.fullmatch(reason) for reason in reasons):
        remedy = "release the jobs, or run this when SLURM allows them" if "Held" in reasons[0] else REFUSED
        raise UserError(f"SLURM will never start the jobs ({', '.join(reasons)})", remedy)
    return f"; SLURM says {', '.join(states)}"


def _certificates(folder: Path) -> Any:
    """Certificates of one run, as files that only the user may read."""
    from distributed import Security

    made = Security.temporary().get_tls_config_for_role("worker")
    files = {part: folder / f"{part}.pem" for part in ("ca_file", "cert", "key")}
    for part, file in files.items():
        file.write_text(made[part])
    of_role = {
        f"tls_{role}_{part}": str(files[part]) for role in ("scheduler", "worker", "client") for part in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=str(files["ca_file"]), **of_role)


def _check_accepted(script: str) -> None:
    """Ask SLURM whether it would take such a job, as dask-jobqueue would wait for ever for one that was refused."""
    asked = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True)
    if asked.returncode:
        words = " ".join(asked.stderr.split()) or f"exit code {asked.returncode}"
        raise UserError(f"SLURM refuses the job ({words})", REFUSED)
