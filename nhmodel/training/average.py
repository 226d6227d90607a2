"""A moving average of the weights."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the weights of `average` towards those of `model`.

    An exponential moving average (Polyak & Juditsky 1992; Morales-Brotons et al. 2024, arXiv:2411.18704) whose memory
    grows to ``1 / (1 - decay)`` steps, so that the first weights, which are random, are soon forgotten.

    Parameters
    ----------
    average, model : Module
        Of the same shape.
    decay : float
        0 copies.
    step : int
        Updates that were averaged before this one.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
        mine.lerp_(theirs, share)
