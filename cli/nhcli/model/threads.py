"""Number of torch threads of a command."""

from __future__ import annotations

import os


def set_threads(threads: int | None) -> None:
    """Set the number of torch threads of this process.

    Parameters
    ----------
    threads : int or None
        None: ``OMP_NUM_THREADS`` where it is set, as by torchrun; else all processors that the process may run on.
    """
    import torch

    from nhmodel.threads import usable_threads

    if threads is not None:
        torch.set_num_threads(threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_threads())
