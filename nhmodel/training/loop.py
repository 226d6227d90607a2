"""Train a NeuroHorizon on a store."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from nhcatalog.errors import UserError
from nhdata.loading import WindowBatch, WindowDataset, make_loader
from nhdata.loading.selection import select_units
from nhdata.store.store import open_store
from nhmodel.card import write_card
from nhmodel.checkpoint import remove_leftovers, write_bytes
from nhmodel.config import Config, TrainConfig
from nhmodel.cosmoother import Model, make_model
from nhmodel.covariates import covariate_shapes, fit_covariates
from nhmodel.data import open_windows
from nhmodel.model import NeuroHorizon
from nhmodel.run import RunInfo
from nhmodel.training.average import follow
from nhmodel.training.ranks import report_lost_ranks
from nhmodel.training.schedule import noise_seed, one_cycle, progress
from nhmodel.training.setup import open_fabric, parameter_groups, split_sessions, unseen_validation
from nhmodel.training.signals import defer_signals
from nhmodel.training.standing import Standing, has_started, resume_at, save
from nhmodel.training.validation import Validation, Validator
from nhmodel.units import rows_by_id, unit_table


@report_lost_ranks()
def train(
    store_path: str | Path,
    config: Config,
    out: str | Path,
    *,
    resume: bool = False,
    on_start: Callable[[Model], None] = lambda model: None,
    on_step: Callable[[Standing], None] = lambda standing: None,
) -> Standing:
    """Train until a limit is reached or validation stops improving; the best weights on validation are kept.

    What is validated and kept is a moving average of the weights, which is steadier than they are.

    Under ``torchrun``, every process takes its share of each epoch's batches.

    SIGINT and SIGTERM do not interrupt an update of the weights or a save. An exception between two steps saves the
    state after the last one; one inside an update saves nothing, so that the checkpoint before stays the last.
    The number of torch threads is left as it is.

    Parameters
    ----------
    store_path : path
        Read only.
    config : Config
    out : path
        Folder of the run; must not hold one unless `resume`.
    resume : bool
        Continue the run at `out` where it was left.
    on_start : callable
        Told the model before the first step.
    on_step : callable
        Told the standing after every step.

    Returns
    -------
    Standing

    Raises
    ------
    UserError
        If the selection or the windows are empty, `out` is taken or cannot be resumed, or the loss or its gradient
        is not a number, or another rank ended or does not answer within ``train.timeout_minutes``.
    KeyboardInterrupt
        After saving, so that the run can be resumed.
    """
    folder, settings = Path(out), config.train
    if (folder / "run.json").exists() and not resume:
        raise UserError(f"{folder} holds a run", "name another --out, or add --resume")
    fabric = open_fabric(settings.timeout_minutes)
    fabric.seed_everything(settings.seed, verbose=False)

    store = open_store(store_path)
    selected = select_units(store, config.data.select)
    selection, held_out = split_sessions(selected, settings.unseen_sessions, settings.seed)
    windows = {
        split: open_windows(store.path, selection, config, split, shuffle=split == "train")
        for split in ("train", "valid")
    }
    known = open_windows(store.path, selection, config, "train", averages=False, sharded=False)
    units = unit_table(known, rows_by_id(selection.unit_ids))
    unseen = unseen_validation(store.path, selected.only(held_out), config) if held_out else None
    told = covariate_shapes(selection, config.data)
    model = make_model(config, len(selection.unit_ids), told)
    fit_covariates(model, known, config.data)
    if model.identity.encoder is not None:
        model.identity.encoder.fit_normaliser(units.features.numpy())
    loader = make_loader(windows["train"], num_workers=config.data.num_workers, pin_memory=fabric.device.type == "cuda")

    info = RunInfo.of(config, store, windows["train"], windows, held_out, told)
    optimizer = torch.optim.AdamW(parameter_groups(model, settings), weight_decay=settings.weight_decay)
    net, optimizer = fabric.setup(model, optimizer)
    net.mark_forward_method("compute_loss")
    average = copy.deepcopy(model)
    if settings.compile and isinstance(model, NeuroHorizon):
        vars(model)["think"] = torch.compile(model.think)
    units = units.to(fabric.device)
    validator = Validator(folder, fabric, average, Validation(windows["valid"], units), unseen, settings.tensorboard)
    standing = Standing()
    if resume and has_started(folder):
        validator.line = resume_at(folder, info, standing, model, average, optimizer, loader, fabric.is_global_zero)
        if fabric.is_global_zero:
            remove_leftovers(folder)
            validator.write(standing)
    elif fabric.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        info.write(folder)
        write_bytes(folder / "metrics.jsonl", b"")
    on_start(model)

    began = time.monotonic() - 60 * standing.minutes
    read = loader.state_dict()  # what has been learnt from, so that a batch that was not is read again
    micro, losses, updating = 0, 0.0, False

    def validate() -> None:
        validator.validate(standing)
        save(folder, fabric, standing, model, average, optimizer, read, validator.line)
        validator.write(standing)

    try:
        first = standing.step == 0 and not math.isfinite(standing.best)  # the null, which training must improve on
        if first or (standing.step % settings.validate_every == 0 and standing.valid_step != standing.step):
            validate()
        while not _finished(standing, settings):
            for batch in loader:
                batch = batch.to(fabric.device, non_blocking=True)
                torch.manual_seed(noise_seed(settings.seed, standing.step, micro, fabric.global_rank))
                micro += 1
                net.train()
                with fabric.no_backward_sync(net, enabled=micro < settings.accumulate):
                    loss = net.compute_loss(batch, units)
                    fabric.backward(loss / settings.accumulate)
                losses += float(loss.detach())
                standing.n_spikes += len(batch.token_unit)
                if micro < settings.accumulate and math.isfinite(losses):
                    continue
                norm = fabric.clip_gradients(net, optimizer, max_norm=settings.grad_clip, error_if_nonfinite=False)
                assert norm is not None  # as always where a norm is the limit
                if not math.isfinite(losses + float(norm)):
                    raise _not_a_number(standing, windows["train"], loader.state_dict(), batch, losses, float(norm))
                standing.minutes = fabric.broadcast((time.monotonic() - began) / 60)
                standing.done = progress(standing.step, standing.minutes, settings.max_steps, settings.max_minutes)
                for group in optimizer.param_groups:
                    group["lr"] = group["peak_lr"] * one_cycle(standing.done, settings.warmup)
                with defer_signals():
                    updating = True
                    optimizer.step()
                    optimizer.zero_grad()
                    follow(average, model, settings.average, standing.step)
                    standing.step += 1
                    standing.loss, read = losses / micro, loader.state_dict()
                    updating = False
                if standing.step % settings.validate_every == 0:
                    validate()
                on_step(standing)
                micro, losses = 0, 0.0
                if _finished(standing, settings):
                    break
            else:
                loader.set_epoch(windows["train"].epoch + 1)
        if standing.valid_step != standing.step:
            validate()
            on_step(standing)
    finally:
        if standing.step and not updating:
            save(folder, fabric, standing, model, average, optimizer, read, validator.line)
        if fabric.is_global_zero and math.isfinite(standing.best):
            write_card(folder, model.n_parameters, {"step": standing.best_step, "fp_bps": standing.best})
    return standing


def _finished(standing: Standing, settings: TrainConfig) -> bool:
    """Out of steps, out of time, or no better validation for `patience` of them."""
    stale = standing.step - standing.best_step >= settings.patience * settings.validate_every
    out_of_time = settings.max_minutes is not None and standing.minutes >= settings.max_minutes
    return standing.step >= settings.max_steps or out_of_time or (stale and math.isfinite(standing.best))


def _not_a_number(
    standing: Standing, windows: WindowDataset, read: dict[str, int], batch: WindowBatch, loss: float, norm: float
) -> UserError:
    """What to say of a batch that would spoil the weights."""
    sessions = [windows.session_ids[i] for i in batch.session_id.unique()]
    times = ", ".join(f"{t_s:.2f}" for t_s in batch.t_s[:3].tolist())
    return UserError(
        f"the loss is {loss} and its gradient {norm} at step {standing.step + 1}, in batch {read['batches']} of epoch "
        f"{read['epoch']} (windows at {times}, … s) of {', '.join(sessions)}",
        "lower train.lr, or look at these sessions with 'nhdata info'",
    )
