"""Cross-attention from a fixed number of queries to a ragged number of keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

N_BUCKETS = 4


def ragged_cross_attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
    """Attend from every window's queries to that window's own keys.

    Parameters
    ----------
    q : (B, L, H, D)
    k, v : (S, H, D)
        Keys and values of all windows, one window after another.
    cu_seqlens : (B + 1,) int32
        Window b holds ``k[cu_seqlens[b]:cu_seqlens[b + 1]]``.

    Returns
    -------
    (B, L, H, D)
        Zero for a window without keys.

    Notes
    -----
    On CUDA in half precision this is one variable-length kernel; elsewhere windows of similar length are padded
    together, which is also the reference that the kernel is tested against.
    """
    if q.is_cuda and q.dtype in (torch.float16, torch.bfloat16):
        return _varlen(q, k, v, cu_seqlens)
    return _bucketed(q, k, v, cu_seqlens)


def _varlen(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    b, n, h, d = q.shape
    cu_q = torch.arange(0, (b + 1) * n, n, dtype=torch.int32, device=q.device)
    longest = int(cu_seqlens.diff().max())
    if longest == 0:
        return torch.zeros_like(q)
    out = varlen_attn(q.reshape(b * n, h, d), k, v, cu_q, cu_seqlens, n, longest)
    assert isinstance(out, Tensor)  # nothing but the answer was asked for
    out = out.reshape(q.shape)
    return torch.where((cu_seqlens.diff() > 0)[:, None, None, None], out, torch.zeros_like(out))


def _bucketed(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
    length = cu_seqlens.diff()
    out = torch.zeros_like(q)
    for rows in length.argsort().tensor_split(N_BUCKETS):
        longest = int(length[rows].max()) if rows.numel() else 0
        if longest == 0:
            continue
        place = torch.arange(longest, device=q.device)
        there = place < length[rows, None]
        index = torch.where(there, cu_seqlens[rows, None] + place, 0)
        # a window without keys attends to one stranger, and the answer is struck out below
        mask = there | (place == 0)
        part = F.scaled_dot_product_attention(
            q[rows].transpose(1, 2),
            k[index].transpose(1, 2),
            v[index].transpose(1, 2),
            attn_mask=mask[:, None, None, :],
        ).transpose(1, 2)
        out = out.index_copy(0, rows, part * (length[rows] > 0)[:, None, None, None])
    return out
