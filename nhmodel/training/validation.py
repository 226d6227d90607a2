"""How good a model is while it learns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning_fabric
import torch
from torch import Tensor

from nhdata.loading import WindowDataset
from nhmodel.checkpoint import save_weights, write_bytes
from nhmodel.cosmoother import CoSmoother, Model
from nhmodel.cosmoothing import held_out_units
from nhmodel.likelihood import bits
from nhmodel.model import UnitTable
from nhmodel.training.signals import defer_signals
from nhmodel.training.standing import Standing

SHRINKAGES = (1.0, 0.875, 0.75, 0.625, 0.5, 0.25)
"""How far log rates may be drawn towards the mean: what has learnt too much of a short recording is too sure."""


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
    shrinkages: Sequence[float] = (1.0,),
) -> tuple[float, ...]:
    """Forward-prediction bits per spike over all windows, against the null that the model starts from.

    One score for each of several factors that all log ratios of rate and mean are multiplied by, on top of the
    model's own: the slope of a forecast that is too sure is below 1 (Copas 1983, J. R. Stat. Soc. B 45:311).

    Parameters
    ----------
    model : Model
    windows : WindowDataset
        Unshuffled; of distributed training, this rank's share.
    units : UnitTable
        On the model's device.
    reduce : callable
        Adds up the sums float64 of all ranks.
    shrinkages : sequence of float
    """
    model.eval()
    device = units.log_mean.device
    sums = torch.zeros(2 + len(shrinkages), dtype=torch.float64, device=device)
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
        rates = (torch.lerp(log_null, log_rate, factor) for factor in (0.0, *shrinkages))
        nll = [((x.exp() - counts * x) * mask[:, None]).sum() for x in rates]
        sums += torch.stack([(counts * mask[:, None]).sum().double(), *nll])
    n_spikes, null, *shrunk = reduce(sums).tolist()
    return tuple(bits(one, null, n_spikes) or 0.0 for one in shrunk)


class Validator:
    """Scores of the weights, the shrinkage they choose, the best weights so far, and the log."""

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
        self.line: dict[str, Any] | None = None
        self.board: Any = None
        if tensorboard and fabric.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder / "tensorboard")

    def validate(self, standing: Standing) -> None:
        """Score the weights, and update `standing` and `line`; nothing is written yet."""
        self.model.shrinkage.fill_(1.0)
        seen, unseen = self._scores(self.seen), None if self.unseen is None else self._scores(self.unseen)
        deciding = seen if unseen is None else unseen
        score = max(deciding)
        chosen = deciding.index(score)
        with defer_signals():
            self.model.shrinkage.fill_(SHRINKAGES[chosen])
            standing.valid_fp_bps, standing.valid_step = seen[chosen], standing.step
            if unseen is not None:
                standing.unseen_fp_bps = score
            if score > standing.best:
                standing.best, standing.best_step = score, standing.step
            self.line = {
                "step": standing.step,
                "minutes": round(standing.minutes, 3),
                "loss": standing.loss if math.isfinite(standing.loss) else None,
                "valid_fp_bps": standing.valid_fp_bps,
                "shrinkage": SHRINKAGES[chosen],
                **({} if self.unseen is None else {"unseen_fp_bps": standing.unseen_fp_bps}),
            }

    def write(self, standing: Standing) -> None:
        """On the first rank, write the weights if they are the best so far, and the last line of ``metrics.jsonl``.

        This follows the checkpoint that holds both, and is repeated on resumption: lines after those of the
        checkpoint are removed, and none is written twice.
        """
        if not self.fabric.is_global_zero:
            return
        if standing.best_step == standing.step == standing.valid_step:
            save_weights(self.folder / "best.safetensors", self.model)
        path = self.folder / "metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        lines = [line for line in text.splitlines() if _step(line) < standing.valid_step]
        if self.line is None:  # a run of an older version
            lines += [line for line in text.splitlines() if _step(line) == standing.valid_step][:1]
        else:
            lines.append(json.dumps(self.line))
        write_bytes(path, "".join(line + "\n" for line in lines).encode())
        if self.board is not None and self.line is not None:
            for name in ("loss", "valid_fp_bps", "unseen_fp_bps"):
                if self.line.get(name) is not None:
                    self.board.add_scalar(name, self.line[name], self.line["step"])
            self.board.flush()

    def _scores(self, validation: Validation) -> tuple[float, ...]:
        def reduce(sums: torch.Tensor) -> torch.Tensor:
            total = self.fabric.all_reduce(sums, reduce_op="sum")
            assert isinstance(total, Tensor)  # as what was given
            return total

        units = validation.units.to(self.fabric.device)
        return validation_fp_bps(self.model, validation.windows, units, reduce, SHRINKAGES)


def _step(line: str) -> float:
    """Step of a line of ``metrics.jsonl``; infinite for a damaged line, which a crash in older versions could leave."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
