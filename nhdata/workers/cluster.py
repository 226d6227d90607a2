"""Tasks on a dask cluster: one that runs already, or one that SLURM starts for them."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from nhcatalog.errors import UserError
from nhdata.workers.where import Slurm, WorkerDied, Workers

CONNECT_TIMEOUT_S = 10
RENEW_S = 30
"""How often to ask for new SLURM jobs in place of those whose time is up."""


def on_cluster(
    task: Callable[[Any], Any], items: Sequence[Any], workers: Workers, on_begin: Callable[[Any], None]
) -> Iterator[tuple[Any, Any]]:
    """(item, result) in the order of completion; the result of an item whose worker died is a `WorkerDied`."""
    if not items:
        return
    from distributed import KilledWorker, wait

    with _connect(workers, len(items)) as (client, renew):
        left = {}
        for item in items:
            on_begin(item)
            left[client.submit(task, item, pure=False)] = item
        try:
            while left:
                with suppress(TimeoutError):
                    wait(list(left), timeout=RENEW_S, return_when="FIRST_COMPLETED")
                renew()
                for future in [future for future in left if future.done()]:
                    try:
                        result = future.result(timeout=RENEW_S)
                    except TimeoutError:  # its worker went and took the result with it: it is done again
                        continue
                    except KilledWorker as error:
                        result = WorkerDied(f"every worker that tried it died, {error.last_worker.address} the last")
                    yield left.pop(future), result
        except BaseException:
            client.cancel(list(left), force=True)
            raise


Connected = tuple[Any, Callable[[], Any]]
"""A client, and a function that asks for workers in place of those that went."""


@contextmanager
def _connect(workers: Workers, n_items: int) -> Iterator[Connected]:
    if workers.scheduler is None:
        with _slurm(workers.slurm or Slurm(), min(workers.jobs, n_items)) as connected:
            yield connected
        return
    from distributed import Client

    _check_listening(workers.scheduler)
    with Client(workers.scheduler, timeout=CONNECT_TIMEOUT_S) as client:
        yield client, lambda: None


def _check_listening(scheduler: str) -> None:
    """Fail in one line: a client that never connected takes half a minute to go."""
    place = urlsplit(scheduler if "://" in scheduler else f"tcp://{scheduler}")
    try:
        socket.create_connection((place.hostname or "", place.port or 8786), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"no dask scheduler at {scheduler} ({error})", "start one with 'dask scheduler', or leave out --scheduler"
        ) from None


@contextmanager
def _slurm(slurm: Slurm, jobs: int) -> Iterator[Connected]:
    """A client of `jobs` SLURM jobs, which end with it; tasks wait as long as the queue does.

    Scheduler and workers know each other by certificates made for this run, kept in the user's home until it ends; the
    scheduler's dashboard listens on this machine alone, and workers have none.
    """
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError:
        raise UserError("--slurm needs dask-jobqueue", "pip install 'neurohorizon[slurm]'") from None
    if shutil.which("sbatch") is None:
        raise UserError("no sbatch on this machine", "run this on a login node of the SLURM cluster")
    from dask.utils import parse_bytes
    from distributed import Client

    try:
        parse_bytes(slurm.memory)
    except ValueError:
        raise UserError(f"'{slurm.memory}' is no amount of memory", "write --memory 16GB") from None
    with TemporaryDirectory(prefix=".neurohorizon-", dir=Path.home()) as folder:
        cluster = SLURMCluster(
            queue=slurm.partition,
            cores=1,
            job_cpu=slurm.cores,
            processes=1,
            memory=slurm.memory,
            walltime=slurm.walltime,
            security=_certificates(Path(folder)),
            scheduler_options={"dashboard_address": "127.0.0.1:0"},
            worker_extra_args=["--no-dashboard", "--dashboard-address", "127.0.0.1:0"],
        )
        with cluster:
            _check_accepted(cluster.job_script())
            with Client(cluster) as client:
                cluster.scale(jobs=jobs)
                yield client, lambda: cluster.scale(jobs=jobs)


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
        raise UserError(f"SLURM refuses the job ({words})", "mend --partition, --cores, --memory or --walltime")
