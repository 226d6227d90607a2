"""Train a NeuroHorizon on a store."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning_fabric
import torch

from nhcatalog.errors import UserError
from nhdata.loading import WindowDataset, make_loader
from nhdata.loading.selection import select_units
from nhdata.store.store import open_store
from nhmodel.config import Config, TrainConfig
from nhmodel.data import open_windows
from nhmodel.likelihood import bits
from nhmodel.model import NeuroHorizon, UnitTable
from nhmodel.run import RunInfo, load_state, load_weights, save_state, save_weights, write_bytes
from nhmodel.training.schedule import free_threads, one_cycle, progress
from nhmodel.units import rows_by_id, unit_table


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
        Of the last validation.
    valid_step : int
        When that was.
    done : float
        Share of training that is done.
    """

    step: int = 0
    minutes: float = 0.0
    best: float = -math.inf
    best_step: int = 0
    loss: float = math.nan
    valid_fp_bps: float = math.nan
    valid_step: int = 0
    done: float = 0.0


def train(
    store_path: str | Path,
    config: Config,
    out: str | Path,
    *,
    resume: bool = False,
    on_step: Callable[[Standing], None] = lambda standing: None,
) -> Standing:
    """Train until a limit is reached or validation stops improving; the best weights on validation are kept.

    Parameters
    ----------
    store_path : path
        Read only.
    config : Config
    out : path
        Folder of the run; must not hold one unless `resume`.
    resume : bool
        Continue the run at `out` where it was left.
    on_step : callable
        Told the standing after every step.

    Returns
    -------
    Standing

    Raises
    ------
    UserError
        If the selection or the windows are empty, `out` is taken or cannot be resumed, or the loss or its gradient
        is not a number.
    KeyboardInterrupt
        After saving, so that the run can be resumed.
    """
    folder = Path(out)
    if (folder / "run.json").exists() and not resume:
        raise UserError(f"{folder} holds a run", "name another --out, or add --resume")
    settings = config.train
    torch.set_num_threads(settings.threads or free_threads())
    fabric = lightning_fabric.Fabric(
        accelerator="auto", devices=1, precision="bf16-mixed" if torch.cuda.is_available() else "32-true"
    )
    fabric.seed_everything(settings.seed, verbose=False)

    store = open_store(store_path)
    selection = select_units(store, config.data.select)
    windows = {
        split: open_windows(store_path, selection, config, split, shuffle=split == "train")
        for split in ("train", "valid")
    }
    known = open_windows(store_path, selection, config, "train", averages=False)
    units = unit_table(known, rows_by_id(selection.unit_ids))
    model = NeuroHorizon(config.model, config.data, len(selection.unit_ids))
    if model.identity.encoder is not None:
        model.identity.encoder.fit_normaliser(units.features.numpy())
    loader = make_loader(windows["train"], num_workers=config.data.num_workers, pin_memory=fabric.device.type == "cuda")

    info = RunInfo.of(config, store, windows["train"], windows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    net, optimizer = fabric.setup(model, optimizer)
    net.mark_forward_method("compute_loss")
    units = units.to(fabric.device)
    standing = Standing()
    if resume:
        _resume(folder, info, standing, model, optimizer, loader)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        info.write(folder)
        write_bytes(folder / "metrics.jsonl", b"")

    began = time.monotonic() - 60 * standing.minutes
    if standing.valid_step == standing.step == 0:  # the null: what training must improve on to be kept
        _validate(folder, standing, model, windows["valid"], units)
        _save(folder, standing, model, optimizer, loader)
    try:
        while not _finished(standing, settings):
            for batch in loader:
                batch = batch.to(fabric.device, non_blocking=True)
                standing.minutes = (time.monotonic() - began) / 60
                standing.done = progress(standing.step, standing.minutes, settings.max_steps, settings.max_minutes)
                for group in optimizer.param_groups:
                    group["lr"] = settings.lr * one_cycle(standing.done, settings.warmup)
                net.train()
                loss = net.compute_loss(batch, units)
                optimizer.zero_grad()
                fabric.backward(loss)
                norm = fabric.clip_gradients(net, optimizer, max_norm=settings.grad_clip, error_if_nonfinite=False)
                standing.loss = float(loss.detach())
                if not math.isfinite(standing.loss + float(norm)):
                    sessions = [windows["train"].session_ids[i] for i in batch.session_id.unique()]
                    raise UserError(
                        f"the loss is {standing.loss} and its gradient {float(norm)} at step {standing.step + 1}, "
                        f"in a batch of {', '.join(sessions)}",
                        "lower train.lr, or look at these sessions with 'nhdata info'",
                    )
                optimizer.step()
                standing.step += 1
                if standing.step % settings.validate_every == 0:
                    _validate(folder, standing, model, windows["valid"], units)
                    _save(folder, standing, model, optimizer, loader)
                on_step(standing)
                if _finished(standing, settings):
                    break
            else:
                loader.set_epoch(windows["train"].epoch + 1)
        if standing.valid_step != standing.step:
            _validate(folder, standing, model, windows["valid"], units)
            on_step(standing)
    finally:
        if standing.step:
            _save(folder, standing, model, optimizer, loader)
    return standing


def _finished(standing: Standing, settings: TrainConfig) -> bool:
    """Out of steps, out of time, or no better validation for `patience` of them."""
    stale = standing.step - standing.best_step >= settings.patience * settings.validate_every
    out_of_time = settings.max_minutes is not None and standing.minutes >= settings.max_minutes
    return standing.step >= settings.max_steps or out_of_time or (stale and math.isfinite(standing.best))


@torch.no_grad()
def validation_fp_bps(model: NeuroHorizon, windows: WindowDataset, units: UnitTable) -> float:
    """Forward-prediction bits per spike over all windows, against the null that the model starts from."""
    model.eval()
    device = units.log_mean.device
    nll, nll_null, n_spikes = 0.0, 0.0, 0
    for batch in windows:
        batch = batch.to(device)
        log_rate, mask = model(batch, units).double(), batch.unit_mask[:, None]
        log_null = units.log_mean[batch.unit_id.clamp(min=0)][:, None].double().expand_as(log_rate)
        nll += float(((log_rate.exp() - batch.counts * log_rate) * mask).sum())
        nll_null += float(((log_null.exp() - batch.counts * log_null) * mask).sum())
        n_spikes += int(batch.counts.sum())
    return bits(nll, nll_null, n_spikes) or 0.0


def _validate(folder: Path, standing: Standing, model: NeuroHorizon, windows: WindowDataset, units: UnitTable) -> None:
    """Score, keep the weights if they are the best so far, and log one line."""
    standing.valid_fp_bps, standing.valid_step = validation_fp_bps(model, windows, units), standing.step
    if standing.valid_fp_bps > standing.best:
        standing.best, standing.best_step = standing.valid_fp_bps, standing.step
        save_weights(folder / "best.safetensors", model)
    line = {
        "step": standing.step,
        "minutes": round(standing.minutes, 3),
        "loss": standing.loss if math.isfinite(standing.loss) else None,
        "valid_fp_bps": standing.valid_fp_bps,
    }
    with open(folder / "metrics.jsonl", "a") as log:
        log.write(json.dumps(line) + "\n")


def _save(folder: Path, standing: Standing, model: NeuroHorizon, optimizer: Any, loader: Any) -> None:
    save_weights(folder / "last.safetensors", model)
    state = {
        "standing": vars(standing),
        "optimizer": optimizer.state_dict(),
        "loader": loader.state_dict(),
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all(),
    }
    save_state(folder / "state.pt", state)


def _resume(folder: Path, info: RunInfo, standing: Standing, model: NeuroHorizon, optimizer: Any, loader: Any) -> None:
    """Put everything back where it was left; refuses if the data or the model have changed since."""
    before = RunInfo.read(folder)
    if (before.unit_ids, before.content_hash) != (info.unit_ids, info.content_hash):
        raise UserError(f"the units or sessions behind {folder} have changed", "train anew with another --out")
    if _fixed(before.config) != _fixed(info.config):
        raise UserError(
            f"{folder} was begun with other settings of the model, the windows or the batches",
            "resume with the same preset and settings, or train anew with another --out",
        )
    state = load_state(folder / "state.pt")
    load_weights(folder / "last.safetensors", model)
    try:
        vars(standing).update(state["standing"])
        optimizer.load_state_dict(state["optimizer"])
        loader.load_state_dict(state["loader"])
        torch.set_rng_state(state["torch_rng"])
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder / 'state.pt'} is not a state of this version ({type(error).__name__})",
            "train anew with another --out",
        ) from None


def _fixed(config: Config) -> tuple[object, ...]:
    """The settings that a resumed run cannot change."""
    data = config.data.model_dump(exclude={"num_workers", "memory_budget_mb"})
    return config.model, data, config.train.seed, config.train.batch_size
