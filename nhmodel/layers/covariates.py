"""What was known besides spikes, as tokens: one for each covariate and step of the history."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nhcatalog.errors import UserError
from nhdata.loading import WindowBatch
from nhmodel.layers.blocks import Attention

Shape = tuple[int, ...]
"""(K,) components of a covariate; (F, D) of one that numbers the rows of an array of F embeddings."""


class Told(NamedTuple):
    """Covariates as the model takes them.

    Attributes
    ----------
    token : (B, M, dim)
        For the encoder.
    time_s : (M,)
    mask : (B, M) bool
        What there is.
    state : (B, rank)
        For the population path of the head: what was told is one member more of the population.
    """

    token: Tensor
    time_s: Tensor
    mask: Tensor
    state: Tensor


class CovariateEncoder(nn.Module):
    """Latents read covariates, and the head hears of them.

    Statistics to normalise by, and arrays of embeddings, are part of the weights. A value that is not known
    is no token; beside all others stands one that is always there, so that there is something to read.

    Parameters
    ----------
    shapes : mapping of str to Shape
    dim, n_heads : int
    rank : int
        Size of the state of the head's population path.
    n_steps : int
        Of the history.
    dropout : float
    covariate_dropout : float
        Share of the covariates of each window that are left out at a step of training, so that the model learns to do
        without each.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        dim: int,
        n_heads: int,
        *,
        rank: int,
        n_steps: int,
        dropout: float,
        covariate_dropout: float,
    ) -> None:
        super().__init__()
        self.names, self.covariate_dropout = tuple(shapes), covariate_dropout
        self.each = nn.ModuleList(Covariate(name, shape, dim, rank, n_steps) for name, shape in shapes.items())
        self.nothing = nn.Parameter(0.1 * torch.randn(dim))
        self.read = Attention(dim, n_heads, dropout)

    def tell(self, batch: WindowBatch, step_time_s: Tensor, without: Collection[str] = ()) -> Told:
        """The covariates of a batch, but for some; `step_time_s` (S,) is the middle of each step."""
        tokens = [self.nothing.expand(len(batch), 1, -1)]
        masks = [torch.ones(len(batch), 1, dtype=torch.bool, device=step_time_s.device)]
        states = []
        for covariate in self.each:
            assert isinstance(covariate, Covariate)
            if covariate.name in without or covariate.name not in batch.covariates:
                continue
            values, there = covariate.normalised(batch.covariates[covariate.name])
            mask = batch.covariates_mask[covariate.name] & there
            if self.training and self.covariate_dropout:
                mask = mask & (torch.rand(len(batch), 1, device=mask.device) >= self.covariate_dropout)
            tokens.append(covariate.embed(values))
            masks.append(mask)
            states.append(covariate.state((values * mask[..., None]).flatten(1)))
        time_s = torch.cat([step_time_s.new_zeros(1), step_time_s.repeat(len(states))])
        return Told(
            torch.cat(tokens, dim=1), time_s, torch.cat(masks, dim=1), sum(states, self.nothing.new_zeros(1, 1))
        )

    def forward(self, x: Tensor, x_angle: Tensor, told: Told, told_angle: Tensor) -> Tensor:
        """Latents (B, L, dim) that have read the tokens."""
        read: Tensor = self.read(x, x_angle, told.token, told_angle, told.mask)
        return read


class Covariate(nn.Module):
    """One covariate: its values normalised, and embedded along directions that are its own."""

    mean: Tensor
    std: Tensor
    table: Tensor

    def __init__(self, name: str, shape: Shape, dim: int, rank: int, n_steps: int) -> None:
        super().__init__()
        self.name, self.shape = name, shape
        self.register_buffer("mean", torch.zeros(shape[-1]))
        self.register_buffer("std", torch.ones(shape[-1]))
        if len(shape) > 1:
            self.register_buffer("table", torch.zeros(shape))
        self.embed = nn.Linear(shape[-1], dim)
        self.state = nn.Linear(n_steps * shape[-1], rank, bias=False)

    def values(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, K) values, or rows of the array, to (B, S, D) values and (B, S) whether there is such a row."""
        if len(self.shape) == 1:
            if value.shape[-1] != self.shape[0]:
                raise UserError(
                    f"covariate {self.name!r} has {value.shape[-1]} components, in training {self.shape[0]}",
                    "leave the session out of the selection",
                )
            return value, torch.ones(value.shape[:2], dtype=torch.bool, device=value.device)
        row = value[..., 0].round().long()
        there = (row >= 0) & (row < self.shape[0])
        return F.embedding(row.clamp(0, self.shape[0] - 1), self.table), there

    def normalised(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The same by the mean and standard deviation of training, five of which are the most."""
        values, there = self.values(value)
        return ((values - self.mean) / self.std).clamp(-5, 5), there
