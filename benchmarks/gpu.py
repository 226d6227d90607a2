"""Training on one CUDA device: spikes/s and model-FLOP utilisation, beside torch_brain's POYO of the same size.

    python benchmarks/gpu.py --preset small --preset base

Prints one JSON object per model and stops at once where there is no CUDA device. Utilisation is the floating-point
operations that the step needs (those of torch's counter, and attention over the true number of spikes; three times
those of a forward pass) over what the device could do, from its data sheet (dense bf16), or ``--peak-tflops``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from benchmarks.poyo import Step, poyo
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nhdata.loading import WindowBatch
from nhmodel.config import Config, load_config
from nhmodel.layers.identity import N_FEATURES
from nhmodel.model import NeuroHorizon, UnitTable

PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "4090": 165, "L40S": 362, "L4": 121}
N_UNITS, RATE_HZ = 256, 8.0


def made_up_batch(config: Config, n_windows: int, device: torch.device) -> tuple[WindowBatch, UnitTable]:
    """Poisson spikes of 256 units at 8 Hz: what a step costs does not depend on what they say."""
    data, g = config.data, torch.Generator().manual_seed(0)
    lengths = torch.poisson(torch.full((n_windows,), N_UNITS * RATE_HZ * data.history_s), g).int()
    edges = torch.cat([torch.zeros(1, dtype=torch.int32), lengths.cumsum(0).int()])
    n_spikes, n_history, n_bins = int(edges[-1]), round(data.history_s / data.bin_s), round(data.horizon_s / data.bin_s)
    mean = RATE_HZ * data.bin_s
    batch = WindowBatch(
        token_time_s=-data.history_s * torch.rand(n_spikes, generator=g),
        token_unit=torch.randint(N_UNITS, (n_spikes,), generator=g).int(),
        cu_seqlens=edges,
        history=torch.poisson(torch.full((n_windows, n_history, N_UNITS), mean), g).short(),
        ema_hz=RATE_HZ * torch.rand(n_windows, len(data.ema_tau_s), N_UNITS, generator=g),
        counts=torch.poisson(torch.full((n_windows, n_bins, N_UNITS), mean), g).short(),
        unit_mask=torch.ones(n_windows, N_UNITS, dtype=torch.bool),
        unit_id=torch.arange(N_UNITS).expand(n_windows, -1).contiguous(),
        session_id=torch.zeros(n_windows, dtype=torch.int64),
        t_s=torch.arange(n_windows, dtype=torch.float64),
    )
    features = torch.rand(N_UNITS, N_FEATURES, dtype=torch.float64, generator=g)
    log_mean = torch.full((N_UNITS,), mean).log()
    return batch.to(device), UnitTable(features, log_mean, torch.arange(N_UNITS)).to(device)


def neurohorizon(config: Config, batch: WindowBatch, units: UnitTable, *, compiled: bool) -> tuple[nn.Module, Step]:
    """The model, and its loss on the batch."""
    model = NeuroHorizon(config.model, config.data, N_UNITS).to(batch.counts.device)
    if compiled:
        model.think = torch.compile(model.think)
    return model, lambda: model.compute_loss(batch, units)


def measured(model: nn.Module, step: Step, batch: WindowBatch, n_steps: int) -> dict[str, float]:
    """Seconds and spikes/s of whole steps: forward, backward, update."""
    device = batch.counts.device
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-4)
    bf16 = device.type == "cuda"

    def one() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = step()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(max(n_steps // 4, 1)):
        one()
    if bf16:
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(n_steps):
        one()
    if bf16:
        torch.cuda.synchronize()
    step_s = (time.perf_counter() - began) / n_steps
    return {"step_s": step_s, "spikes_per_s": len(batch.token_unit) / step_s}


def step_flops(config: Config, batch: WindowBatch, units: UnitTable) -> float:
    """Operations of a step: all but the attention over spikes as counted, that from the true numbers of spikes."""
    model = NeuroHorizon(config.model, config.data, N_UNITS).to(batch.counts.device).eval()
    silent = WindowBatch(**{**vars(batch), "cu_seqlens": torch.zeros_like(batch.cu_seqlens)})
    silent = WindowBatch(**{**vars(silent), "token_time_s": batch.token_time_s[:0], "token_unit": batch.token_unit[:0]})
    with FlopCounterMode(display=False) as counter:
        model(silent, units)
    read = 4 * len(model.latent_time_s) * len(batch.token_unit) * config.model.dim
    return 3.0 * (counter.get_total_flops() + read)


def results(presets: list[str], device: torch.device, n_windows: int, n_steps: int, peak: float) -> Iterator[Any]:
    """One dict per model."""
    for preset in presets:
        config = load_config(preset)
        batch, units = made_up_batch(config, n_windows, device)
        flops = step_flops(config, batch, units)
        for compiled in (False, True) if device.type == "cuda" else (False,):
            model, step = neurohorizon(config, batch, units, compiled=compiled)
            found = measured(model, step, batch, n_steps)
            yield {
                "model": f"neurohorizon {preset}{', compiled' if compiled else ''}",
                "n_parameters": sum(p.numel() for p in model.parameters()),
                **found,
                "tflop_per_step": flops / 1e12,
                "mfu": flops / found["step_s"] / peak / 1e12 if peak else None,
            }
        try:
            model, step = poyo(config, batch, N_UNITS)
        except ImportError:
            continue
        n_parameters = sum(p.numel() for p in model.parameters())
        yield {"model": f"POYO as {preset}", "n_parameters": n_parameters, **measured(model, step, batch, n_steps)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", action="append", help="may be repeated; by default small and base")
    parser.add_argument("--windows", type=int, default=64, help="windows in a batch")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--peak-tflops", type=float, help="dense bf16, of the data sheet")
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: nothing is measured", file=sys.stderr)
        return
    device = torch.device(given.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    peak = given.peak_tflops or next((tflops for key, tflops in PEAK_TFLOPS.items() if key in name), 0.0)
    for found in results(given.preset or ["small", "base"], device, given.windows, given.steps, peak):
        print(json.dumps({"device": name, "torch": torch.__version__, **found}), flush=True)


if __name__ == "__main__":
    main()
