"""NeuroHorizon: past spikes in, the rate of every unit in every future bin out."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nhdata.loading import WindowBatch
from nhmodel.config import DataConfig, ModelConfig
from nhmodel.layers.blocks import Attention, DecoderLayer, FeedForward, SpikeAttention
from nhmodel.layers.covariates import CovariateEncoder, Shape, Told
from nhmodel.layers.head import RateHead
from nhmodel.layers.identity import UnitIdentity
from nhmodel.layers.rotary import RotaryTime
from nhmodel.loss import PoissonNLLLoss

MAX_LOG_GAIN = 6.0


class UnitTable(NamedTuple):
    """What the model knows of the units of a data set before it sees a window.

    Attributes
    ----------
    features : (U, 34) float64
        Reference features and population coupling; NaN where undefined.
    log_mean : (U,) float32
        Log of the mean count per bin in the reference.
    row : (U,) int64
        Row of the learned table, -1 for a unit that was not in training.
    """

    features: Tensor
    log_mean: Tensor
    row: Tensor

    def to(self, device: torch.device | str) -> UnitTable:
        """The same table on another device."""
        return UnitTable(*(x.to(device) for x in self))


class Tokens(NamedTuple):
    """The spikes of a batch as the encoder takes them; see `NeuroHorizon.tokenize`."""

    row: Tensor
    time_s: Tensor
    cu_seqlens: Tensor
    unit: Tensor
    unit_of: Tensor
    heard: Tensor


class NeuroHorizon(nn.Module):
    """A spike-token Perceiver with a causal decoder over future bins.

    Latents on a grid of past times read the spikes (one token each: its unit's embedding, its time by rotation),
    think among themselves, and are read by one query per future bin; a head turns bins and unit embeddings into
    rates. It works for any set of units in any order, and starts as the null: every unit at its reference mean.

    Parameters
    ----------
    config : ModelConfig
    data : DataConfig
        Decides the number of bins and moving averages.
    n_units : int
        Units of training: rows of the learned table.
    covariates : mapping of str to Shape, optional
        What there is besides spikes; see `nhmodel.covariates.covariate_shapes`.

    Attributes
    ----------
    shrinkage : () float32
        1 while it learns; less, where validation says so, draws every log rate towards the reference mean.
    """

    latent_time_s: Tensor
    bin_time_s: Tensor
    shrinkage: Tensor

    def __init__(
        self, config: ModelConfig, data: DataConfig, n_units: int, covariates: Mapping[str, Shape] | None = None
    ) -> None:
        super().__init__()
        self.config, self.data = config, data
        dim, heads, dropout = config.dim, config.n_heads, config.dropout
        n_history = round(data.history_s / data.bin_s)
        self.n_bins = round(data.horizon_s / data.bin_s)
        n_steps = latent_steps(config, data)
        n_ema = len(data.ema_tau_s)
        self.identity = UnitIdentity(config.identity, n_units, dim, dropout, config.table_dropout)
        self.rotary = RotaryTime(dim // heads)
        self.latents = nn.Parameter(0.1 * torch.randn(config.latents_per_step, dim))
        self.bins = nn.Parameter(0.1 * torch.randn(self.n_bins, dim))
        self.read = SpikeAttention(dim, heads, dropout)
        self.read_think = FeedForward(dim, dropout)
        self.process = nn.ModuleList(
            nn.ModuleList([Attention(dim, heads, dropout), FeedForward(dim, dropout)]) for _ in range(config.depth)
        )
        self.decode = nn.ModuleList(DecoderLayer(dim, heads, dropout) for _ in range(config.decoder_depth))
        self.head = RateHead(dim, self.n_bins, n_history, n_ema, config.head_hidden, config.rank, dropout)
        self.loss = PoissonNLLLoss()
        self.covariates: CovariateEncoder | None = None
        if covariates:  # the last to be drawn: without, all weights are the same
            self.covariates = CovariateEncoder(
                covariates,
                dim,
                heads,
                rank=config.rank,
                n_steps=n_steps,
                dropout=dropout,
                covariate_dropout=config.covariate_dropout,
            )
        step = torch.arange(n_steps) - n_steps + 0.5
        self.register_buffer(
            "latent_time_s",
            (step * data.history_s / n_steps).repeat_interleave(len(self.latents)),
            persistent=False,
        )
        self.register_buffer("shrinkage", torch.ones(()))
        self.register_buffer("bin_time_s", (torch.arange(self.n_bins) + 0.5) * data.bin_s, persistent=False)

    @property
    def n_parameters(self) -> int:
        """Trainable numbers, the table of units included."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def tokenize(self, batch: WindowBatch) -> Tokens:
        """Number the units of a batch and point its spikes at them.

        In training, random units of each window are not heard: their spikes are left out (they are still to be
        forecast), so that no forecast hangs on one neighbour.

        Returns
        -------
        Tokens
            ``row`` (S,) of each spike among ``unit`` (U,), the distinct units of the batch; ``time_s`` (S,);
            ``cu_seqlens`` (B + 1,); ``unit_of`` (B, N) rows of ``unit``; ``heard`` (B, N) bool.
        """
        unit, unit_of = torch.unique(batch.unit_id.clamp(min=0), return_inverse=True)
        heard = batch.unit_mask
        window = torch.repeat_interleave(
            torch.arange(len(batch), device=unit.device),
            batch.cu_seqlens.diff(),
            output_size=len(batch.token_unit),
        )
        row, time_s, cu_seqlens = unit_of[window, batch.token_unit], batch.token_time_s, batch.cu_seqlens
        if self.training and self.config.unit_dropout > 0:
            heard = heard & (torch.rand(heard.shape, device=unit.device) >= self.config.unit_dropout)
            kept = heard[window, batch.token_unit]
            row, time_s = row[kept], time_s[kept]
            lengths = torch.bincount(window[kept], minlength=len(batch))
            cu_seqlens = torch.cat([cu_seqlens[:1], lengths.cumsum(0).to(torch.int32)])
        return Tokens(row, time_s, cu_seqlens, unit, unit_of, heard)

    def forward(
        self,
        batch: WindowBatch,
        units: UnitTable,
        columns: Tensor | None = None,
        without: Collection[str] = (),
    ) -> Tensor:
        """Log expected counts.

        Parameters
        ----------
        batch : WindowBatch
            Its targets are not looked at.
        units : UnitTable
            Of the data set that `batch` came from.
        columns : (K,) int64, optional
            Forecast only these units of each window; all are heard.
        without : collection of str
            Covariates to leave out, to see what they are worth.

        Returns
        -------
        (B, T, N) float32
            Log of the expected count of each unit in each bin of the horizon, or (B, T, K) of some of them; columns of
            padding are meaningless.
        """
        tokens = self.tokenize(batch)
        embedding = self.identity(units.features[tokens.unit], units.row[tokens.unit])
        told = self._told(batch, without)
        angles = self.rotary(self.latent_time_s), self.rotary(self.bin_time_s)
        bins = self.think(self._listen(tokens, embedding, len(batch), told), *angles)
        log_mean = units.log_mean[tokens.unit][tokens.unit_of]
        own, ema = self._past(batch, log_mean)
        unit = embedding[tokens.unit_of]
        population = self.head.population(unit, ema, tokens.heard)
        if told is not None:
            population = population + told.state
        if columns is not None:
            unit, own, log_mean = unit[:, columns], own[:, columns], log_mean[:, columns]
        gain: Tensor = self.head(bins, unit, own, population)
        return log_mean[:, None] + self.shrinkage * gain.float().clamp(-MAX_LOG_GAIN, MAX_LOG_GAIN)

    def states(self, batch: WindowBatch, units: UnitTable) -> Tensor:
        """What the encoder makes of the spikes of each step: (B, steps of the latent grid, dim), for readouts.

        Of the spikes alone: behaviour that is a covariate must not be read from itself.
        """
        tokens = self.tokenize(batch)
        embedding = self.identity(units.features[tokens.unit], units.row[tokens.unit])
        told = self._told(batch, () if self.covariates is None else self.covariates.names)
        latents = self._settle(self._listen(tokens, embedding, len(batch), told), self.rotary(self.latent_time_s))
        states: Tensor = latents.unflatten(1, (-1, len(self.latents))).mean(2)
        return states

    def _told(self, batch: WindowBatch, without: Collection[str]) -> Told | None:
        """The covariates of a batch, but for some; None for a model that takes none."""
        if self.covariates is None:
            return None
        return self.covariates.tell(batch, self.latent_time_s[:: len(self.latents)], without)

    def _listen(self, tokens: Tokens, embedding: Tensor, n_windows: int, told: Told | None) -> Tensor:
        """Latents (B, L, dim) that have read the spikes, and what they are told besides."""
        n_steps = len(self.latent_time_s) // len(self.latents)
        x = self.latents.repeat(n_steps, 1).expand(n_windows, -1, -1)
        angle = self.rotary(self.latent_time_s)
        read: Tensor = self.read(x, angle, embedding, tokens.row, self.rotary(tokens.time_s), tokens.cu_seqlens)
        if self.covariates is not None and told is not None:
            read = self.covariates(read, angle, told, self.rotary(told.time_s))
        return read

    def _settle(self, x: Tensor, latent_angle: Tensor) -> Tensor:
        """Latents after they have thought among themselves."""
        x = self.read_think(x)
        for layer in self.process:
            assert isinstance(layer, nn.ModuleList)
            attend, think = layer
            x = think(attend(x, latent_angle))
        return x

    def think(self, x: Tensor, latent_angle: Tensor, bin_angle: Tensor) -> Tensor:
        """From latents that have read the spikes to states of bins: the part whose shapes never change."""
        x = self._settle(x, latent_angle)
        bins = self.bins.expand(len(x), -1, -1)
        for layer in self.decode:
            bins = layer(bins, bin_angle, x, latent_angle)
        return bins

    def _past(self, batch: WindowBatch, log_mean: Tensor) -> tuple[Tensor, Tensor]:
        """What the head is told of the units besides their embeddings.

        Returns
        -------
        own : (B, N, H + M)
            For the own-history path: counts, and moving averages at the end of the history.
        averages : (B, N, M)
            For the population path: the averages alone.
        """
        mean_hz = log_mean.exp()[:, None] / self.data.bin_s
        floor_hz = 0.2 * mean_hz + 0.02
        averages = torch.log((batch.ema_hz + floor_hz) / (mean_hz + floor_hz)) * batch.unit_mask[:, None]
        own = torch.cat([batch.history.sqrt(), averages], dim=1)
        return own.transpose(1, 2), averages.transpose(1, 2)

    def compute_loss(self, batch: WindowBatch, units: UnitTable) -> Tensor:
        """Mean Poisson loss over the valid (bin, unit) pairs of a batch.

        Where windows have more than ``config.loss_units`` units, a random choice of that many stands for all of
        them: the gradient is the same on average, and the cost of a step stops growing.
        """
        counts, mask, columns = batch.counts, batch.unit_mask[:, None], None
        if self.training and counts.shape[-1] > self.config.loss_units:
            columns = torch.randperm(counts.shape[-1], device=counts.device)[: self.config.loss_units]
            counts, mask = counts[..., columns], mask[..., columns]
        loss: Tensor = self.loss(self(batch, units, columns), counts, mask)
        return loss


def latent_steps(config: ModelConfig, data: DataConfig) -> int:
    """Steps of the grid that latents and covariates lie on, over the history."""
    history, step = (Fraction(repr(float(value))) for value in (data.history_s, config.latent_step_s))
    return math.ceil(history / step)
