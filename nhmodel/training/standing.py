"""Where training stands, on disk and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning_fabric

from nhcatalog.errors import UserError
from nhmodel.checkpoint import last_checkpoint, load_state, load_weights, save_checkpoint
from nhmodel.config import Config
from nhmodel.cosmoother import Model
from nhmodel.run import RunInfo
from nhmodel.training.signals import defer_signals


@dataclass
class Standing:
    """Where training stands.

    Attributes
    ----------
    step : int
        Updates made.
    minutes : float
        Time spent, over all resumptions.
    best, best_step : float, int
        Highest validation fp-bps so far, and when.
    loss : float
        Of the last step.
    valid_fp_bps : float
        Of the last validation, on later windows of the sessions of training.
    unseen_fp_bps : float
        The same on sessions that are held out, zero-shot; it chooses the weights where there are any.
    valid_step : int
        When that was.
    done : float
        Share of training that is done.
    n_spikes : int
        Spikes that this process has read.
    """

    step: int = 0
    minutes: float = 0.0
    best: float = -math.inf
    best_step: int = 0
    loss: float = math.nan
    valid_fp_bps: float = math.nan
    unseen_fp_bps: float = math.nan
    valid_step: int = 0
    done: float = 0.0
    n_spikes: int = 0


def save(
    folder: Path,
    fabric: lightning_fabric.Fabric,
    standing: Standing,
    model: Model,
    average: Model,
    optimizer: Any,
    read: dict[str, int],
    line: dict[str, Any] | None,
) -> None:
    """Write a checkpoint: the averaged weights to use, and the state to go on from.

    `read` is the state of the loader at the last step, `line` that of the last validation in ``metrics.jsonl``.
    """
    if fabric.is_global_zero:
        state = {
            "standing": vars(standing),
            "weights": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "loader": read,
            "line": line,
        }
        with defer_signals():
            save_checkpoint(folder, average, state)


def resume_at(
    folder: Path,
    info: RunInfo,
    standing: Standing,
    model: Model,
    average: Model,
    optimizer: Any,
    loader: Any,
    write: bool,
) -> dict[str, Any] | None:
    """Restore the state of the last checkpoint; return the line of its last validation (None in older runs).

    Settings that may change take effect from here on, and are recorded in ``run.json`` if `write`.

    Raises
    ------
    UserError
        If the data, or settings that cannot change, are not those of the run, or the checkpoint is damaged.
    """
    before = RunInfo.read(folder)
    if (before.unit_ids, before.content_hash) != (info.unit_ids, info.content_hash):
        raise UserError(f"the units or sessions behind {folder} have changed", "train anew with another --out")
    if _fixed(before.config) != _fixed(info.config):
        raise UserError(
            f"{folder} was begun with other settings of the model, the windows or the batches",
            "resume with the same preset and settings, or train anew with another --out",
        )
    checkpoint = last_checkpoint(folder)
    state = load_state(checkpoint)
    load_weights(checkpoint / "weights.safetensors", average)
    rates = [(group["peak_lr"], group["weight_decay"]) for group in optimizer.param_groups]
    try:
        model.load_state_dict(state["weights"])
        vars(standing).update(state["standing"])
        optimizer.load_state_dict(state["optimizer"])
        loader.load_state_dict(state["loader"])
        line: dict[str, Any] | None = state.get("line")
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{checkpoint / 'state.pt'} is not a state of this version ({type(error).__name__})",
            "train anew with another --out",
        ) from None
    for group, (peak_lr, weight_decay) in zip(optimizer.param_groups, rates, strict=True):
        group["peak_lr"], group["weight_decay"] = peak_lr, weight_decay
    if write and before.config != info.config:
        before.changed(info.config, standing.step).write(folder)
    return line


def has_started(folder: Path) -> bool:
    """Return False if the run at `folder` ended before its first checkpoint, so that there is nothing to resume.

    Raises
    ------
    UserError
        If there is no run at `folder`.
    """
    RunInfo.read(folder)
    metrics = folder / "metrics.jsonl"
    return any(folder.glob("checkpoint-*")) or (metrics.exists() and metrics.stat().st_size > 0)


def _fixed(config: Config) -> tuple[object, ...]:
    """The settings that a resumed run cannot change."""
    data = config.data.model_dump(exclude={"num_workers", "memory_budget_mb"})
    train = config.train
    return config.model, data, train.seed, train.batch_size, train.accumulate, train.unseen_sessions, train.average
