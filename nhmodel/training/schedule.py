"""How far training is, and how fast it should learn there. Pure functions."""

from __future__ import annotations

import hashlib
import math


def progress(step: int, minutes: float, max_steps: int, max_minutes: float | None) -> float:
    """Share of training that is done, in [0, 1]: by steps or by the clock, whichever is further."""
    by_clock = minutes / max_minutes if max_minutes else 0.0
    return min(max(step / max_steps, by_clock), 1.0)


def one_cycle(done: float, warmup: float) -> float:
    """Learning rate as a share of its peak: a rise over `warmup`, then half a cosine down to 1 %.

    The shape of OneCycle (Smith & Topin 2018, arXiv:1708.07120) as a function of progress, so that it
    ends when a limit of time does.
    """
    if done < warmup:
        return 0.04 + 0.96 * done / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def noise_seed(seed: int, step: int, part: int, rank: int) -> int:
    """What seeds the dropout of one forward pass: the same after a resumption, another on every rank."""
    digest = hashlib.sha256(f"{seed} {step} {part} {rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
