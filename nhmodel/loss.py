"""The loss of counts under predicted rates."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PoissonNLLLoss(nn.Module):
    """Mean Poisson negative log likelihood of counts, without the term that no forecast can change.

    For a log expected count l and a count y this is ``exp(l) - y l``.
    """

    def forward(self, log_rate: Tensor, counts: Tensor, weight: Tensor | None = None) -> Tensor:
        """Loss of log expected counts.

        Parameters
        ----------
        log_rate : (…,)
            Log of the expected count, in nats.
        counts : (…,)
            Observed counts.
        weight : (…,) or broadcastable, optional
            Weights of the mean, e.g. 0 for padding.

        Returns
        -------
        () float32
        """
        log_rate = log_rate.float()
        nll = log_rate.exp() - counts * log_rate
        if weight is None:
            return nll.mean()
        weight = weight.to(nll.dtype).expand_as(nll)
        return (nll * weight).sum() / torch.clamp(weight.sum(), min=1)
