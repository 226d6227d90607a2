"""The one way to run tasks, wherever they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from nhdata.workers.where import WorkerDied, Workers

Item = TypeVar("Item")
Result = TypeVar("Result")


def _nothing(item: object) -> None:
    pass


def _raise(item: object, died: WorkerDied) -> None:
    raise died


def run_tasks(
    task: Callable[[Item], Result],
    items: Sequence[Item],
    workers: Workers | None = None,
    *,
    on_begin: Callable[[Item], None] = _nothing,
    on_death: Callable[[Item, WorkerDied], Result | None] = _raise,
    check: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Do `task` for each item and give the results as they come.

    Parameters
    ----------
    task : callable
        Of one argument; it, the items and the results must be picklable unless all run here.
    items : sequence
    workers : Workers, optional
    on_begin : callable
        Told each item as its task begins; on a dask cluster, which does not say so, as it is sent.
    on_death : callable
        Gives the result of an item whose process died (None for no result); by default the error is raised.
        The tasks beside and after it are done in any case.
    check : callable, optional
        Called on every worker of a cluster before any task is sent; raises UserError if the worker cannot do the tasks.
        Workers that join later are not checked.

    Yields
    ------
    Result
        In the order of completion. Left early, by an error or Ctrl-C, what has not begun is not begun, and what
        has begun on processes of this machine is stopped.

    Raises
    ------
    UserError
        If no scheduler answers at the address, SLURM or what it needs is not there, its jobs can never start, or
        `check` fails on a worker.
    SchedulerLost
        If the dask scheduler ends meanwhile.
    WorkerDied
        If a process died and `on_death` is not given.

    Examples
    --------
    >>> list(run_tasks(abs, [-1, 2]))
    [1, 2]
    """
    workers = workers or Workers()
    if workers.on_cluster:
        from nhdata.workers.cluster import on_cluster

        finished = on_cluster(task, items, workers, on_begin, check)
    elif len(items) > 1 and (workers.jobs > 1 or workers.isolated):
        from nhdata.workers.processes import on_processes

        finished = on_processes(task, items, workers.jobs, on_begin)
    else:
        for item in items:
            on_begin(item)
            yield task(item)
        return
    for item, result in finished:
        if isinstance(result, WorkerDied):
            instead = on_death(item, result)
            if instead is not None:
                yield instead
        else:
            yield result
