"""From the decoder's bins to every unit's rate, along four paths.

``log rate = log reference mean + own history + factors + population``, where all but the mean start at zero: an
untrained network scores exactly what the null does, and everything it learns is gain.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RateHead(nn.Module):
    """Log rate of every unit in every bin, for any set of units in any order.

    Parameters
    ----------
    dim : int
        Size of bins and embeddings.
    n_bins, n_history, n_ema : int
        Bins of the horizon and of the history; moving averages per unit.
    hidden, rank : int
        Width of the own-history network; number of factors.
    dropout : float
    """

    def __init__(
        self, dim: int, n_bins: int, n_history: int, n_ema: int, hidden: int, rank: int, dropout: float
    ) -> None:
        super().__init__()
        n_own = n_history + n_ema
        self.norm_bin, self.norm_unit = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.from_bin, self.from_unit = nn.Linear(dim, hidden), nn.Linear(dim, hidden, bias=False)
        self.from_own = nn.Linear(n_own, hidden, bias=False)
        self.to_rate = nn.Linear(hidden, 1)
        self.factor_bin, self.factor_unit = nn.Linear(dim, rank), nn.Linear(dim, rank, bias=False)
        self.offset_unit = nn.Linear(dim, 1, bias=False)
        self.own_unit = nn.Linear(dim, n_own * 4, bias=False)
        self.own_bin = nn.Parameter(_decays(n_bins, 4))
        self.pop_in = nn.Linear(dim, n_ema * rank, bias=False)
        self.pop_bin = nn.Parameter(torch.eye(rank).repeat(n_bins, 1, 1) + 0.02 * torch.randn(n_bins, rank, rank))
        self.pop_out = nn.Linear(dim, rank, bias=False)
        self.dropout = nn.Dropout(dropout)
        for last in (self.to_rate, self.factor_unit, self.offset_unit, self.own_unit, self.pop_out):
            nn.init.zeros_(last.weight)
        nn.init.zeros_(self.to_rate.bias)

    def population(self, unit: Tensor, ema: Tensor, heard: Tensor) -> Tensor:
        """State of the whole population, whatever its size and order.

        Parameters
        ----------
        unit : (B, N, dim)
        ema : (B, N, n_ema)
            Log ratios of moving averages.
        heard : (B, N) bool
            False for units that are left out, padding among them.

        Returns
        -------
        (B, rank)
        """
        weight = self.pop_in(self.norm_unit(unit)).unflatten(-1, (ema.shape[-1], -1))
        total = torch.einsum("bnm,bnmr->br", ema * heard[..., None], weight)
        state: Tensor = self.dropout(total / heard.sum(1).clamp(min=1).sqrt()[:, None])
        return state

    def forward(self, bins: Tensor, unit: Tensor, own: Tensor, population: Tensor) -> Tensor:
        """Log of rate over reference mean.

        Parameters
        ----------
        bins : (B, T, dim)
        unit : (B, N, dim)
        own : (B, N, n_history + n_ema)
            The unit's own past: compressed counts, then log ratios of moving averages.
        population : (B, rank)
            From `population`.

        Returns
        -------
        (B, T, N)
        """
        bins, unit = self.norm_bin(bins), self.norm_unit(unit)
        per_unit = self.from_unit(unit) + self.from_own(self.dropout(own))
        hidden = F.gelu(self.from_bin(bins)[:, :, None] + per_unit[:, None])
        out: Tensor = self.to_rate(hidden).squeeze(-1)
        factor_bin = self.dropout(self.factor_bin(bins))
        out = out + torch.einsum("btr,bnr->btn", factor_bin, self.factor_unit(unit))
        out = out + self.offset_unit(unit).transpose(1, 2)
        gain = torch.einsum("bnf,bnfk->bnk", own, self.own_unit(unit).unflatten(-1, (own.shape[-1], -1)))
        out = out + torch.einsum("bnk,tk->btn", gain, self.own_bin)
        turned = torch.einsum("btr,trs->bts", population[:, None].expand(-1, bins.shape[1], -1), self.pop_bin)
        return out + torch.einsum("bts,bns->btn", turned, self.pop_out(unit))


def _decays(n_bins: int, n: int) -> Tensor:
    """(n_bins, n) shapes over the horizon: constant, and decays over an eighth, a half and twice of it."""
    t = torch.arange(n_bins) / n_bins
    return torch.stack([torch.ones(n_bins), *(torch.exp(-t / tau) for tau in (0.125, 0.5, 2.0))], dim=1)[:, :n]
