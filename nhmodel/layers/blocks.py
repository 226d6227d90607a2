"""Attention and feed-forward blocks, all pre-norm and residual."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nhmodel.layers.ragged import ragged_cross_attention
from nhmodel.layers.rotary import rotate


class FeedForward(nn.Module):
    """GEGLU feed-forward (Shazeer 2020, arXiv:2002.05202), `mult` times as wide as its input."""

    def __init__(self, dim: int, dropout: float, mult: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 2 * mult * dim)
        self.down = nn.Linear(mult * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.up(self.norm(x)).chunk(2, dim=-1)
        added: Tensor = self.dropout(self.down(value * F.gelu(gate)))
        return x + added


class SpikeAttention(nn.Module):
    """Latents read spikes.

    A spike is nothing but its unit and its time, and time enters by rotation alone: keys and values are made
    once per unit and turned by each spike's time.
    """

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_q, self.norm_kv = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        x_angle: Tensor,
        unit: Tensor,
        token_row: Tensor,
        token_angle: Tensor,
        cu_seqlens: Tensor,
    ) -> Tensor:
        """Update latents.

        Parameters
        ----------
        x : (B, L, dim)
        x_angle : (L, A)
        unit : (U, dim)
            Embeddings of the units in the batch.
        token_row : (S,) int64
            Row of `unit` of each spike.
        token_angle : (S, A)
        cu_seqlens : (B + 1,) int32
        """
        b, n, dim = x.shape
        q = rotate(self.q(self.norm_q(x)).view(b, n, self.n_heads, -1), x_angle)
        k, v = self.kv(self.norm_kv(unit)).view(len(unit), 2, self.n_heads, -1).unbind(1)
        k, v = rotate(k[token_row], token_angle), rotate(v[token_row], token_angle)
        read = rotate(ragged_cross_attention(q, k, v, cu_seqlens), -x_angle)
        added: Tensor = self.dropout(self.out(read.reshape(b, n, dim)))
        return x + added


class Attention(nn.Module):
    """Attention from `x` to `y` (to itself where y is not given), with rotary time on both.

    Parameters
    ----------
    dim, n_heads : int
    dropout : float
    causal : bool
        Position i sees positions up to i only; for self-attention.
    """

    def __init__(self, dim: int, n_heads: int, dropout: float, *, causal: bool = False) -> None:
        super().__init__()
        self.n_heads, self.causal = n_heads, causal
        self.norm_q, self.norm_kv = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        x_angle: Tensor,
        y: Tensor | None = None,
        y_angle: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """``x`` (B, L, dim) reads ``y`` (B, M, dim), or what a ``mask`` (B, M) leaves; angles are (L, A) and (M, A)."""
        y, y_angle = (x, x_angle) if y is None or y_angle is None else (y, y_angle)
        b, n, dim = x.shape
        q = rotate(self.q(self.norm_q(x)).view(b, n, self.n_heads, -1), x_angle)
        k, v = self.kv(self.norm_kv(y)).view(b, y.shape[1], 2, self.n_heads, -1).unbind(2)
        k, v = rotate(k, y_angle), rotate(v, y_angle)
        read = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=None if mask is None else mask[:, None, None],
            is_causal=self.causal,
        ).transpose(1, 2)
        added: Tensor = self.dropout(self.out(rotate(read, -x_angle).reshape(b, n, dim)))
        return x + added


class DecoderLayer(nn.Module):
    """Bins read the history, then the bins before them, then think."""

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.read = Attention(dim, n_heads, dropout)
        self.past = Attention(dim, n_heads, dropout, causal=True)
        self.think = FeedForward(dim, dropout)

    def forward(self, bins: Tensor, bin_angle: Tensor, latents: Tensor, latent_angle: Tensor) -> Tensor:
        bins = self.read(bins, bin_angle, latents, latent_angle)
        thought: Tensor = self.think(self.past(bins, bin_angle))
        return thought
