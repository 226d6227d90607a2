"""Errors of a rank whose peers ended or hang."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed

from nhcatalog.errors import UserError

_COLLECTIVE = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "timed out")


@contextmanager
def report_lost_ranks() -> Iterator[None]:
    """Raise UserError where a collective operation fails because another rank ended or does not answer."""
    try:
        yield
    except RuntimeError as error:
        # DistError is raised by c10d, a plain RuntimeError by gloo
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            raise
        message = str(error).lower()
        lost = isinstance(error, torch.distributed.DistError) or any(word in message for word in _COLLECTIVE)
        if isinstance(error, UserError) or not lost:
            raise
        raise UserError(
            "another process of this training ended or does not answer", "run it again with --resume"
        ) from None
