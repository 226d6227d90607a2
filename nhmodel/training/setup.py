"""What a training run needs before its first step."""

from __future__ import annotations

import os
import warnings
from datetime import timedelta
from typing import Any

import lightning_fabric
import numpy as np
import torch
from lightning_fabric.strategies.ddp import DDPStrategy

from nhcatalog.errors import UserError
from nhcatalog.place import Place
from nhdata.loading.selection import Selection
from nhmodel.config import Config, TrainConfig
from nhmodel.cosmoother import Model
from nhmodel.data import open_windows
from nhmodel.training.validation import Validation
from nhmodel.units import unit_table

REFERENCE_S = 60.0


def open_fabric(timeout_minutes: float) -> lightning_fabric.Fabric:
    """The device, or, under torchrun, this process's share of them: bf16 on CUDA, gloo between CPUs.

    A rank that waits for another for longer than `timeout_minutes` fails.
    """
    local, world = (int(os.environ.get(name, "1")) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    timeout = timedelta(minutes=timeout_minutes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The `srun` command is available")  # a single process is what is meant
        fabric = lightning_fabric.Fabric(
            accelerator="auto",
            devices=local,
            num_nodes=world // local,
            # a batch without spikes leaves the reading part unused
            strategy=DDPStrategy(find_unused_parameters=True, timeout=timeout) if world > 1 else "auto",
            precision="bf16-mixed" if torch.cuda.is_available() else "32-true",
        )
        fabric.launch()
    return fabric


def parameter_groups(model: Model, settings: TrainConfig) -> list[dict[str, Any]]:
    """All parameters, with the learned table of units at a rate of its own: a row learns only from its own windows."""
    table = [] if model.identity.table is None else [model.identity.table]
    rest = [p for p in model.parameters() if p.requires_grad and all(p is not row for row in table)]
    rates = ((rest, settings.lr), (table, settings.lr * settings.table_lr))
    return [{"params": params, "lr": lr, "peak_lr": lr} for params, lr in rates if params]


def split_sessions(selection: Selection, n_unseen: int, seed: int) -> tuple[Selection, tuple[str, ...]]:
    """Leave `n_unseen` sessions, drawn by `seed`, out of training.

    Raises
    ------
    UserError
        If no session would be left to train on.
    """
    session_ids = sorted(session.session_id for session in selection.sessions)
    if n_unseen >= len(session_ids):
        raise UserError(
            f"train.unseen_sessions={n_unseen} of {len(session_ids)} sessions leaves none to train on",
            "hold out fewer, or select more",
        )
    held_out = np.random.default_rng(seed).choice(len(session_ids), n_unseen, replace=False)
    names = tuple(sorted(session_ids[k] for k in held_out))
    return selection.only(set(session_ids) - set(names)), names


def unseen_validation(store: Place, selection: Selection, config: Config) -> Validation:
    """Sessions that are not trained on: known by their first minute, validated on as all others are."""
    reference = open_windows(
        store, selection, config, "reference", reference_s=REFERENCE_S, averages=False, sharded=False
    )
    return Validation(open_windows(store, selection, config, "valid"), unit_table(reference))
