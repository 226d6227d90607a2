"""What the loader yields: many windows as one set of tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch


@dataclass(frozen=True)
class WindowBatch:
    """B windows of one or more sessions, units padded to the largest number N.

    Attributes
    ----------
    token_time_s : (S,) float32
        Time of each history spike relative to the end of its window's history: always below 0.
    token_unit : (S,) int32
        Its unit's place among the units of its window: a column of `counts` and of `unit_id`.
    cu_seqlens : (B + 1,) int32
        Tokens of window b are ``cu_seqlens[b]:cu_seqlens[b + 1]``.
    history : (B, H, N) int16
        Counts of the history in bins, oldest first; H is 0 without ``count_history``.
    ema_hz : (B, M, N) float32
        Moving averages of the rate at the end of the history, one per time constant.
    counts : (B, T, N) int16
        The target: counts of the horizon in bins.
    unit_mask : (B, N) bool
        False where a column is padding, its unit was dropped from the window, or the window touches time in which the
        unit was not observed.
    unit_id : (B, N) int64
        Position in ``WindowDataset.unit_ids``; -1 where `unit_mask` is False.
    session_id : (B,) int64
        Position in ``WindowDataset.session_ids``.
    t_s : (B,) float64
        End of the history, seconds on the session's clock.
    series : dict of str to (B, T) or (B, T, K) float32
        Continuous signals resampled to the bins of the horizon, by name; 0 where nothing is known.
    series_mask : dict of str to (B, T) bool
        Whether something is.
    covariates : dict of str to (B, S, K) float32
        What was known of each covariate at the end of each step of the history, oldest first; 0 where nothing.
    covariates_mask : dict of str to (B, S) bool
        Whether something was.
    """

    token_time_s: torch.Tensor
    token_unit: torch.Tensor
    cu_seqlens: torch.Tensor
    history: torch.Tensor
    ema_hz: torch.Tensor
    counts: torch.Tensor
    unit_mask: torch.Tensor
    unit_id: torch.Tensor
    session_id: torch.Tensor
    t_s: torch.Tensor
    series: dict[str, torch.Tensor] = field(default_factory=dict)
    series_mask: dict[str, torch.Tensor] = field(default_factory=dict)
    covariates: dict[str, torch.Tensor] = field(default_factory=dict)
    covariates_mask: dict[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.session_id.shape[0]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The same batch on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory; the DataLoader calls this when asked to pin."""
        return self._each(torch.Tensor.pin_memory)

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory of this batch from being used again before `stream` is done with it."""

        def record(tensor: torch.Tensor) -> torch.Tensor:
            tensor.record_stream(stream)
            return tensor

        self._each(record)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        def changed(value: Any) -> Any:
            return {k: change(v) for k, v in value.items()} if isinstance(value, dict) else change(value)

        return replace(self, **{f.name: changed(getattr(self, f.name)) for f in fields(self)})
