"""Many independent tasks at once: in this process, on processes of this machine, or on a dask cluster."""

from nhdata.workers.run import run_tasks
from nhdata.workers.where import Slurm, WorkerDied, Workers

__all__ = ["Slurm", "WorkerDied", "Workers", "run_tasks"]
