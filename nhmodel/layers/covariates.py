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


class Tokens(NamedTuple):
    """Covariates as the encoder takes them: (B, M, dim), M times in seconds, and (B, M) what there is."""

    token: Tensor
    time_s: Tensor
    mask: Tensor


class CovariateEncoder(nn.Module):
    """Latents read covariates.

    Statistics to normalise by, and arrays of embeddings, are part of the weights. A value that is not known
    is no token; beside all others stands one that is always there, so that there is something to read.

    Parameters
    ----------
    shapes : mapping of str to Shape
    dim, n_heads : int
    dropout : float
    covariate_dropout : float
        Share of the covariates of each window that are left out at a step of training, so that the model learns to do
        without each.
    """

    def __init__(
        self, shapes: Mapping[str, Shape], dim: int, n_heads: int, dropout: float, covariate_dropout: float
    ) -> None:
        super().__init__()
        self.names, self.covariate_dropout = tuple(shapes), covariate_dropout
        self.embed = nn.ModuleList(Covariate(name, shape, dim) for name, shape in shapes.items())
        self.nothing = nn.Parameter(0.1 * torch.randn(dim))
        self.read = Attention(dim, n_heads, dropout)

    def tokens(self, batch: WindowBatch, step_time_s: Tensor, without: Collection[str] = ()) -> Tokens:
        """The covariates of a batch, but for some; `step_time_s` (S,) is the middle of each step."""
        b, n_steps = len(batch), len(step_time_s)
        tokens, masks = [self.nothing.expand(b, 1, -1)], [torch.ones(b, 1, dtype=torch.bool, device=step_time_s.device)]
        for name, covariate in zip(self.names, self.embed, strict=True):
            if name in without or name not in batch.covariates:
                continue
            token, there = covariate(batch.covariates[name])
            mask = batch.covariates_mask[name] & there
            if self.training and self.covariate_dropout:
                mask = mask & (torch.rand(b, 1, device=mask.device) >= self.covariate_dropout)
            tokens.append(token)
            masks.append(mask)
        time_s = torch.cat([step_time_s.new_zeros(1), step_time_s.repeat(len(tokens) - 1)])
        assert time_s.shape[0] == 1 + n_steps * (len(tokens) - 1)
        return Tokens(torch.cat(tokens, dim=1), time_s, torch.cat(masks, dim=1))

    def forward(self, x: Tensor, x_angle: Tensor, tokens: Tokens, token_angle: Tensor) -> Tensor:
        """Latents (B, L, dim) that have read the tokens."""
        read: Tensor = self.read(x, x_angle, tokens.token, token_angle, tokens.mask)
        return read


class Covariate(nn.Module):
    """One covariate: its values normalised and embedded, all in one direction that is learnt, its type."""

    mean: Tensor
    std: Tensor
    table: Tensor

    def __init__(self, name: str, shape: Shape, dim: int) -> None:
        super().__init__()
        self.name, self.shape = name, shape
        self.register_buffer("mean", torch.zeros(shape[-1]))
        self.register_buffer("std", torch.ones(shape[-1]))
        if len(shape) > 1:
            self.register_buffer("table", torch.zeros(shape))
        self.embed = nn.Linear(shape[-1], dim)

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

    def forward(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, S, dim), and (B, S) whether each is one."""
        values, there = self.values(value)
        return self.embed(((values - self.mean) / self.std).clamp(-5, 5)), there
