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
) -> None:
    """Write a checkpoint: the averaged weights to use, and the state to go on from.

    `read` is the state of the loader at the last step.
    """
    if fabric.is_global_zero:
        state = {
            "standing": vars(standing),
            "weights": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "loader": read,
        }
        save_checkpoint(folder, average, state)


def resume_at(
    folder: Path,
    info: RunInfo,
    standing: Standing,
    model: Model,
    average: Model,
    optimizer: Any,
    loader: Any,
) -> None:
    """Put everything back where it was left; refuses if the data or the model have changed since."""
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
    try:
        model.load_state_dict(state["weights"])
        vars(standing).update(state["standing"])
        optimizer.load_state_dict(state["optimizer"])
        loader.load_state_dict(state["loader"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{checkpoint / 'state.pt'} is not a state of this version ({type(error).__name__})",
            "train anew with another --out",
        ) from None


def _fixed(config: Config) -> tuple[object, ...]:
    """The settings that a resumed run cannot change."""
    data = config.data.model_dump(exclude={"num_workers", "memory_budget_mb"})
    train = config.train
    return config.model, data, train.seed, train.batch_size, train.accumulate, train.unseen_sessions, train.average
