"""Who a unit is: an embedding made from its reference features, and what was learnt of it besides."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

N_FEATURES = 34
LOG_COLUMNS = (0, 32)  # rate and Fano factor span decades


class IDEncoder(nn.Module):
    """Embedding of a unit from its 33 reference features and its population coupling.

    Three times linear, GELU, layer norm. Features are standardised by the statistics of the training units, which
    are part of the weights: a unit means the same whatever else is in a store. A feature that is not a
    number counts as the training mean.

    Parameters
    ----------
    dim : int
        Size of the embedding.
    dropout : float
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(N_FEATURES))
        self.register_buffer("std", torch.ones(N_FEATURES))
        layers: list[nn.Module] = []
        for size in (N_FEATURES, dim, dim):
            layers += [nn.Linear(size, dim), nn.GELU(), nn.LayerNorm(dim), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers[:-1])

    def fit_normaliser(self, features: NDArray[np.float64]) -> None:
        """Take mean and standard deviation from the (U, 34) features of the training units."""
        x = _compress(torch.from_numpy(np.asarray(features, np.float64)))
        mean = x.nanmean(0)
        std = (x - mean).square().nanmean(0).sqrt()
        self.mean.copy_(mean.nan_to_num(0.0))
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)).nan_to_num(1.0))

    def compute_embeddings(self, features: Tensor) -> Tensor:
        """(U, 34) raw features to (U, dim) embeddings."""
        z = ((_compress(features.double()) - self.mean) / self.std).nan_to_num(0.0).clamp(-5, 5)
        embeddings: Tensor = self.layers(z.to(next(self.layers.parameters()).dtype))
        return embeddings

    def forward(self, features: Tensor, index: Tensor) -> Tensor:
        """Embeddings of the units at `index` (any shape) among (U, 34) `features`: (…, dim)."""
        return self.compute_embeddings(features)[index]


def _compress(features: Tensor) -> Tensor:
    """Logarithm of the features that span decades."""
    out = features.clone()
    out[:, LOG_COLUMNS] = torch.log(out[:, LOG_COLUMNS] + 0.01)
    return out


class UnitIdentity(nn.Module):
    """IDEncoder, a learned table, or their sum.

    With both, a unit never seen gets the encoder's embedding alone; in training the table is left out for a
    random share of the units, so that the encoder learns to do without it.

    Parameters
    ----------
    kind : {"features", "table", "both"}
    n_units : int
        Rows of the table: the units of training.
    dim : int
    dropout : float
    table_dropout : float
        Share of units whose learned part is left out at a step of training.
    """

    def __init__(self, kind: str, n_units: int, dim: int, dropout: float, table_dropout: float) -> None:
        super().__init__()
        self.kind, self.table_dropout = kind, table_dropout if kind == "both" else 0.0
        self.encoder = IDEncoder(dim, dropout) if kind != "table" else None
        self.table = nn.Parameter(0.1 * torch.randn(n_units, dim)) if kind != "features" else None
        self.dim = dim

    def forward(self, features: Tensor, row: Tensor) -> Tensor:
        """Embeddings (U, dim) of units with (U, 34) features and (U,) rows of the table, -1 for none."""
        out = features.new_zeros(len(features), self.dim, dtype=torch.float32)
        if self.encoder is not None:
            out = out + self.encoder.compute_embeddings(features)
        if self.table is not None:
            known = row >= 0
            if self.training and self.table_dropout:
                known = known & (torch.rand(row.shape, device=row.device) >= self.table_dropout)
            out = out + self.table[row.clamp(min=0)] * known[:, None]
        return out
