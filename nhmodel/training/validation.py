"""How good a model is while it learns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning_fabric
import torch
from torch import Tensor

from nhdata.loading import WindowDataset
from nhmodel.checkpoint import save_weights
from nhmodel.cosmoother import CoSmoother, Model
from nhmodel.cosmoothing import held_out_units
from nhmodel.likelihood import bits
from nhmodel.model import UnitTable
from nhmodel.training.standing import Standing


@dataclass(frozen=True)
class Validation:
    """Windows to validate on, and what is known of their units."""

    windows: WindowDataset
    units: UnitTable


@torch.no_grad()
def validation_fp_bps(
    model: Model,
    windows: WindowDataset,
    units: UnitTable,
    reduce: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> float:
    """Forward-prediction bits per spike over all windows, against the null that the model starts from.

    Parameters
    ----------
    model : Model
    windows : WindowDataset
        Unshuffled; of distributed training, this rank's share.
    units : UnitTable
        On the model's device.
    reduce : callable
        Adds up the sums (3,) float64 of all ranks.
    """
    model.eval()
    device = units.log_mean.device
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for batch in windows:
        if len(batch) == 0:  # another rank had one batch more
            continue
        batch = batch.to(device)
        if isinstance(model, CoSmoother):
            held_out = held_out_units(batch.unit_mask.shape[1]).to(device).expand_as(batch.unit_mask)
            counts, mask = batch.history, batch.unit_mask & held_out
            log_rate = model(batch, units, held_out=held_out).double()
        else:
            counts, mask = batch.counts, batch.unit_mask
            log_rate = model(batch, units).double()
        log_null = units.log_mean[batch.unit_id.clamp(min=0)][:, None].double().expand_as(log_rate)
        nll, null = (((x.exp() - counts * x) * mask[:, None]).sum() for x in (log_rate, log_null))
        sums += torch.stack([nll, null, (counts * mask[:, None]).sum().double()])
    nll, null, n_spikes = reduce(sums).tolist()
    return bits(nll, null, n_spikes) or 0.0


class Validator:
    """Scores, keeps the weights if they are the best so far, and logs."""

    def __init__(
        self,
        folder: Path,
        fabric: lightning_fabric.Fabric,
        model: Model,
        seen: Validation,
        unseen: Validation | None,
        tensorboard: bool,
    ) -> None:
        self.folder, self.fabric, self.model, self.seen, self.unseen = folder, fabric, model, seen, unseen
        self.board: Any = None
        if tensorboard and fabric.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder / "tensorboard")

    def validate(self, standing: Standing) -> None:
        """Update `standing`; on the first rank, keep the weights if they are the best, and log a line."""
        standing.valid_fp_bps, standing.valid_step = self._score(self.seen), standing.step
        score = standing.valid_fp_bps
        if self.unseen is not None:
            score = standing.unseen_fp_bps = self._score(self.unseen)
        better = score > standing.best
        if better:
            standing.best, standing.best_step = score, standing.step
        if not self.fabric.is_global_zero:
            return
        if better:
            save_weights(self.folder / "best.safetensors", self.model)
        line = {
            "step": standing.step,
            "minutes": round(standing.minutes, 3),
            "loss": standing.loss if math.isfinite(standing.loss) else None,
            "valid_fp_bps": standing.valid_fp_bps,
            **({} if self.unseen is None else {"unseen_fp_bps": standing.unseen_fp_bps}),
        }
        with open(self.folder / "metrics.jsonl", "a") as log:
            log.write(json.dumps(line) + "\n")
        if self.board is not None:
            for name in ("loss", "valid_fp_bps", "unseen_fp_bps"):
                if line.get(name) is not None:
                    self.board.add_scalar(name, line[name], standing.step)
            self.board.flush()

    def _score(self, validation: Validation) -> float:
        def reduce(sums: torch.Tensor) -> torch.Tensor:
            total = self.fabric.all_reduce(sums, reduce_op="sum")
            assert isinstance(total, Tensor)  # as what was given
            return total

        return validation_fp_bps(self.model, validation.windows, validation.units.to(self.fabric.device), reduce)
