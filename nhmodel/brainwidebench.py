"""Forecasts in the format of BrainWideBench (IBL 2026; PyPI ``ibl-bwb-eval``), task suite 2: forecasting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from nhcatalog.errors import UserError
from nhmodel.forecasts import Forecast, staged

BINS, BIN_S, WINDOW_S = 5, 0.02, 1.0


def write_brainwidebench(found: Iterator[Forecast], path: Path, label: str, seed: int, history_s: float) -> list[str]:
    """Log rates as ``ibl_bwb_eval`` scores them (task suite 2, forecasting), and the counts as its ground truth.

    The files are ``PATH/predictions/<label>/ts2-forecasting/<session>/seed_<seed>.safetensors`` and
    ``PATH/ground_truth/ts2-forecasting/<session>/ground_truth.safetensors``. A window is named by its start, a second
    before the end of its horizon, as in that benchmark.

    Raises
    ------
    UserError
        If the windows are not the benchmark's: 5 bins of 20 ms, after a history of at least 0.9 s.
    """
    session_ids = []
    with staged(path) as folder:
        for forecast in found:
            n_bins = forecast.expected.shape[1]
            if n_bins != BINS or forecast.bin_s != BIN_S or history_s < WINDOW_S - BINS * BIN_S:
                raise UserError(
                    f"the run forecasts {n_bins} bins of {forecast.bin_s} s from {history_s} s; BrainWideBench scores "
                    f"{BINS} bins of {BIN_S} s after at least 0.9 s",
                    "train with --set data.horizon_s=0.1 --set data.history_s=0.9",
                )
            start_s = torch.from_numpy(forecast.t_s - (WINDOW_S - BINS * BIN_S))
            log_rate = torch.from_numpy(np.log(forecast.expected))
            task = Path("ts2-forecasting") / forecast.session_id
            header = {"label": label, "task": "ts2-forecasting", "seed": str(seed), "recording_id": forecast.session_id}
            _save(
                folder / "predictions" / label / task / f"seed_{seed}.safetensors",
                {"predictions": log_rate, "window_timestamps": start_s, "unit_ids": _ascii(forecast.unit_ids)},
                header,
            )
            targets = torch.from_numpy(forecast.counts.astype(np.float32))
            _save(
                folder / "ground_truth" / task / "ground_truth.safetensors",
                {"targets": targets, "window_timestamps": start_s},
                {"task": "ts2-forecasting", "recording_id": forecast.session_id},
            )
            session_ids.append(forecast.session_id)
    return session_ids


def _save(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    path.parent.mkdir(parents=True)
    save_file(tensors, path, header)


def _ascii(names: tuple[str, ...]) -> Tensor:
    """(n, width) uint8: names padded with zeros, since safetensors holds no text."""
    rows = [name.encode("ascii", "backslashreplace") for name in names]
    out = np.zeros((len(rows), max(map(len, rows))), np.uint8)
    for row, name in zip(out, rows, strict=True):
        row[: len(name)] = np.frombuffer(name, np.uint8)
    return torch.from_numpy(out)
