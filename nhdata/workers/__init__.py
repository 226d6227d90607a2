"""Many independent tasks at once: in this process, on processes of this machine, or on a dask cluster."""

from nhdata.workers.run import run_tasks
from nhdata.workers.where import SchedulerLost, Slurm, WorkerDied, Workers

__all__ = ["SchedulerLost", "Slurm", "WorkerDied", "Workers", "run_tasks"]
