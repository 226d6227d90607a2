"""Where tasks may run."""

from __future__ import annotations

from dataclasses import dataclass

from nhcatalog.errors import UserError


class WorkerDied(Exception):
    """The process that did a task ended before the task did: it crashed, or something killed it."""


class SchedulerLost(UserError):
    """The connection to a dask scheduler ended while it had tasks."""

    def __init__(self, scheduler: str, done: str = "") -> None:
        problem = f"the dask scheduler at {scheduler} is gone" + (f"; {done}" if done else "")
        super().__init__(problem, "start it and run the same command again")
        self.scheduler = scheduler


@dataclass(frozen=True, slots=True)
class Slurm:
    """What each SLURM job asks for; None leaves it to dask-jobqueue's own configuration file.

    Attributes
    ----------
    partition : str or None
    cores : int
        Cores of one job. A job does one task at a time, whatever its cores.
    memory : str
        Of one job, e.g. ``"16GB"``.
    walltime : str or None
        ``HH:MM:SS`` that one job may take.
    """

    partition: str | None = None
    cores: int = 1
    memory: str = "16GB"
    walltime: str | None = None


@dataclass(frozen=True, slots=True)
class Workers:
    """Where tasks run: here unless more than one job, a scheduler or SLURM is asked for.

    Attributes
    ----------
    jobs : int
        Tasks at once on this machine, each in a process of its own, or with `slurm` the number of SLURM jobs.
    scheduler : str or None
        Address of a running dask scheduler, e.g. ``"tcp://10.0.0.1:8786"``, whose workers are used instead.
    slurm : Slurm or None
        Have SLURM start the workers, by dask-jobqueue.
    isolated : bool
        Also with one job, give tasks a process of their own, so that one which crashes costs only itself.
    """

    jobs: int = 1
    scheduler: str | None = None
    slurm: Slurm | None = None
    isolated: bool = False

    @property
    def on_cluster(self) -> bool:
        """Whether tasks run on workers that may see other disks than this process."""
        return self.scheduler is not None or self.slurm is not None
