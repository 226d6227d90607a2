"""Rotary embedding of continuous time: attention sees time differences only, to a tenth of a millisecond.

RoFormer (Su et al. 2021, arXiv:2104.09864), with time stamps for positions as in POYO (Azabou et al. 2023,
arXiv:2310.16046): half of each head turns, with periods spaced evenly in log time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MIN_PERIOD_S = 1e-4
MAX_PERIOD_S = 2.06


class RotaryTime(nn.Module):
    """Angles of time stamps.

    Parameters
    ----------
    head_dim : int
        Size of one head; half of it turns, so it must be a multiple of 4.
    """

    omega: Tensor

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        n = head_dim // 4
        period_s = torch.logspace(math.log10(MIN_PERIOD_S), math.log10(MAX_PERIOD_S), n)
        self.register_buffer("omega", 2 * math.pi / period_s, persistent=False)

    def forward(self, time_s: Tensor) -> Tensor:
        """(…,) seconds to (…, head_dim / 4) angles, in float32 whatever the precision of the rest."""
        return time_s.float()[..., None] * self.omega


def rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Turn the first half of each head.

    Parameters
    ----------
    x : (…, heads, head_dim)
    angle : (…, head_dim / 4)
        One set for all heads; negative angles turn back.
    """
    n = angle.shape[-1]
    cos, sin = angle.cos()[..., None, :].to(x.dtype), angle.sin()[..., None, :].to(x.dtype)
    a, b, rest = x[..., :n], x[..., n : 2 * n], x[..., 2 * n :]
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], dim=-1)
