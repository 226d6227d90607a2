"""The model of co-smoothing: what units do that are not heard, from what all others do at the same time."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nhdata.loading import WindowBatch
from nhmodel.config import Config, DataConfig, ModelConfig
from nhmodel.layers.covariates import Shape
from nhmodel.layers.identity import UnitIdentity
from nhmodel.loss import PoissonNLLLoss
from nhmodel.model import MAX_LOG_GAIN, NeuroHorizon, UnitTable

HELD_OUT = 0.25
"""Share of the units that are held out at a step of training."""


class CoSmoother(nn.Module):
    """The population path of `NeuroHorizon` for every bin of a window, from averages that look both ways.

    ``log rate of n = log reference mean + offset + ⟨Σ_m B(U_m) x_m / √N, A U_n⟩`` over the units m that are heard,
    where x are log ratios of counts smoothed at several widths. Units are known by their embeddings, learnt by
    masking: other units are held out in every window. It works for any set of units, and starts as the null.

    An encoder of spikes beside this path was measured to add nothing within minutes of training, at twenty times the
    cost of a step; and embeddings that vary within a batch, by dropout, to cost a tenth of the score.

    Parameters
    ----------
    config : ModelConfig
        Of which `dim`, `identity` and `table_dropout` count; the last is the share of batches in which all units are
        known by their features alone.
    data : DataConfig
        Decides the number of bins and widths.
    n_units : int
        Units of training: rows of the learned table.
    """

    covariates = None
    shrinkage: Tensor

    def __init__(self, config: ModelConfig, data: DataConfig, n_units: int) -> None:
        super().__init__()
        self.config, self.bin_s, self.n_widths = config, data.bin_s, len(data.ema_tau_s)
        dim = config.dim
        self.identity = UnitIdentity(config.identity, n_units, dim, dropout=0.0, table_dropout=0.0)
        self.norm = nn.LayerNorm(dim)
        self.heard = nn.Linear(dim, self.n_widths * dim, bias=False)
        self.told = nn.Linear(dim, dim, bias=False)
        self.offset = nn.Linear(dim, 1, bias=False)
        for last in (self.told, self.offset):
            nn.init.zeros_(last.weight)
        self.loss = PoissonNLLLoss()
        self.register_buffer("shrinkage", torch.ones(()))

    @property
    def n_parameters(self) -> int:
        """Trainable numbers, the table of units included."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def forward(self, batch: WindowBatch, units: UnitTable, *, held_out: Tensor | None = None) -> Tensor:
        """Log expected counts over the history.

        Parameters
        ----------
        batch : WindowBatch
            Of which only the counts of the history are looked at.
        units : UnitTable
            Of the data set that `batch` came from.
        held_out : (B, N) bool, optional
            Units whose spikes are not heard. What is said of the others hears their own spikes too.

        Returns
        -------
        (B, H, N) float32
        """
        unit, unit_of = torch.unique(batch.unit_id.clamp(min=0), return_inverse=True)
        row = units.row[unit]
        if self.training and self.config.identity == "both" and torch.rand(()) < self.config.table_dropout:
            row = torch.full_like(row, -1)
        embedding = self.norm(self.identity(units.features[unit], row))
        log_mean = units.log_mean[unit][unit_of]
        heard = batch.unit_mask if held_out is None else batch.unit_mask & ~held_out
        weight = self.heard(embedding).unflatten(-1, (self.n_widths, -1))[unit_of]
        total = torch.einsum("bhmn,bnmr->bhr", self._log_ratios(batch, log_mean) * heard[:, None, None], weight)
        state = total / heard.sum(1).clamp(min=1).sqrt()[:, None, None]
        gain = torch.einsum("bhr,bnr->bhn", state, self.told(embedding)[unit_of])
        gain = gain + self.offset(embedding)[unit_of].transpose(1, 2)
        log_rate: Tensor = log_mean[:, None] + self.shrinkage * gain.float().clamp(-MAX_LOG_GAIN, MAX_LOG_GAIN)
        return log_rate

    def _log_ratios(self, batch: WindowBatch, log_mean: Tensor) -> Tensor:
        """(B, H, M, N) log of smoothed counts over the mean, with a floor."""
        mean = log_mean.exp()[:, None, None]
        floor = 0.2 * mean + 0.02 * self.bin_s
        return torch.log((smooth(batch.history.float(), self.n_widths) + floor) / (mean + floor))

    def compute_loss(self, batch: WindowBatch, units: UnitTable) -> Tensor:
        """Mean Poisson loss over the bins of random units, which are not heard."""
        held_out = torch.rand(batch.unit_mask.shape, device=batch.unit_mask.device) < HELD_OUT
        weight = (held_out & batch.unit_mask)[:, None]
        loss: Tensor = self.loss(self(batch, units, held_out=held_out), batch.history, weight)
        return loss


Model = NeuroHorizon | CoSmoother


def make_model(config: Config, n_units: int, covariates: Mapping[str, Shape]) -> Model:
    """The model of the task that `config` sets."""
    if config.data.task == "co-smoothing":
        return CoSmoother(config.model, config.data, n_units)
    return NeuroHorizon(config.model, config.data, n_units, covariates)


def smooth(counts: Tensor, n_widths: int) -> Tensor:
    """Counts (B, H, N) averaged about each bin by Gaussians of 0.7, 1.4, 2.8, … bins: (B, H, n_widths, N)."""
    bins = torch.arange(counts.shape[1], device=counts.device)
    width = 0.7 * 2.0 ** torch.arange(n_widths, device=counts.device)
    weight = torch.exp(-0.5 * ((bins[:, None] - bins) / width[:, None, None]) ** 2)
    return torch.einsum("whk,bkn->bhwn", weight / weight.sum(-1, keepdim=True), counts)
