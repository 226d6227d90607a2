"""Training: it learns, it stops, it says what went wrong, and it leaves the store alone."""

import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from nhcatalog.errors import UserError
from nhdata.loading import WindowBatch, WindowDataset
from nhdata.loading.selection import select_units
from nhdata.recording import Recording
from nhdata.store.store import open_store
from nhmodel import data
from nhmodel.checkpoint import last_checkpoint
from nhmodel.config import Config
from nhmodel.model import NeuroHorizon, UnitTable
from nhmodel.run import RunInfo, load
from nhmodel.training import train, validation
from nhmodel.training.setup import split_sessions, unseen_validation
from nhmodel.training.validation import validation_fp_bps
from nhmodel.units import rows_by_id, unit_table

Metrics = Callable[[Path], list[dict[str, Any]]]
SMALL = (
    *("model.dim=16", "model.depth=1", "model.latent_step_s=0.1", "model.latents_per_step=2"),
    *("model.head_hidden=16", "model.rank=4", "train.threads=1", "train.tensorboard=false"),
)


def last_weights(run: Path) -> dict[str, Tensor]:
    return load_file(last_checkpoint(run) / "weights.safetensors")


def tree_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


@pytest.mark.parametrize(
    "erased",
    [
        pytest.param((), id="all"),
        pytest.param(("history", "ema_hz"), id="spikes"),  # by way of latents and bins; the same for all windows: 0.55
    ],
)
def test_a_model_learns_one_batch_by_heart(
    erased: tuple[str, ...],
    store: Path,
    open_windows: Callable[..., WindowDataset],
    awake: Callable[..., NeuroHorizon],
    units: UnitTable,
) -> None:
    model = awake("model.dropout=0", "model.unit_dropout=0", "model.table_dropout=0")
    batch = next(iter(open_windows(store, "train")))
    batch = replace(batch, **{name: torch.zeros_like(getattr(batch, name)) for name in erased})
    log_null = units.log_mean[batch.unit_id][:, None].expand_as(batch.counts)
    null = model.loss(log_null, batch.counts)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=0.003)
    for _ in range(120):
        optimizer.zero_grad()
        loss = model.compute_loss(batch, units)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    gain = float(null - loss.detach()) * batch.counts.numel() / int(batch.counts.sum()) / math.log(2)
    assert gain > 0.8  # bits per spike; an honest forecast of these units gains about 0.25


def test_a_short_run_beats_the_mean_on_validation(run: Path, metrics: Metrics) -> None:
    assert max(line["valid_fp_bps"] for line in metrics(run)) > 0.1


def test_every_validation_is_a_line_of_metrics(run: Path, metrics: Metrics) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 8, 16, 24, 30]
    assert lines[0]["loss"] is None
    assert lines[0]["valid_fp_bps"] == pytest.approx(0.0, abs=1e-6)  # untrained, the model is the null
    for line in lines[1:]:
        assert set(line) == {"step", "minutes", "loss", "valid_fp_bps", "shrinkage"}
        assert all(math.isfinite(value) for value in line.values())


def test_the_best_and_the_last_weights_score_what_was_logged(
    run: Path, metrics: Metrics, store: Path, open_windows: Callable[..., WindowDataset], units: UnitTable
) -> None:
    logged = [line["valid_fp_bps"] for line in metrics(run)]
    for which, expected in (("best", max(logged)), ("last", logged[-1])):
        (found,) = validation_fp_bps(load(run, which), open_windows(store, "valid", batch_size=32), units)
        assert found == pytest.approx(expected, abs=1e-7), which


def test_a_shrunk_forecast_scores_what_the_model_scores_that_is_shrunk(
    run: Path, store: Path, open_windows: Callable[..., WindowDataset], units: UnitTable
) -> None:
    model = load(run)
    windows = open_windows(store, "valid", batch_size=32)
    model.shrinkage.fill_(1.0)
    whole, half, none = validation_fp_bps(model, windows, units, shrinkages=(1.0, 0.5, 0.0))
    model.shrinkage.fill_(0.5)
    assert validation_fp_bps(model, windows, units) == (pytest.approx(half, abs=1e-7),)
    assert none == pytest.approx(0.0, abs=1e-9)
    assert whole != pytest.approx(half, abs=1e-3)


def test_the_shrinkage_that_validates_best_is_kept_with_the_weights(
    store: Path, make_config: Callable[..., Config], tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([(0.0, 0.0, 0.0), (0.1, 0.2, 0.3), (0.1, 0.2, 0.1)])
    monkeypatch.setattr(validation, "validation_fp_bps", lambda *_: next(scores))
    config = make_config("train.max_steps=4", "train.validate_every=2")
    standing = train(store, config, tmp_path / "run")
    assert (standing.best, standing.best_step) == (0.3, 2)
    assert [line["shrinkage"] for line in metrics(tmp_path / "run")] == [1.0, 0.75, 0.875]
    assert float(load(tmp_path / "run").shrinkage) == 0.75
    assert float(load(tmp_path / "run", "last").shrinkage) == 0.875


def test_training_only_reads_the_store(
    recordings: list[Recording],
    make_store: Callable[..., Path],
    make_config: Callable[..., Config],
    tmp_path: Path,
) -> None:
    path = make_store("data.zarr", recordings[:1])
    before = tree_hash(path)
    train(path, make_config("train.max_steps=3"), tmp_path / "run")
    assert tree_hash(path) == before


def test_a_run_says_what_it_was_trained_on(run: Path, store: Path, run_config: Config) -> None:
    info, selection = RunInfo.read(run), select_units(open_store(store))
    assert info.config == run_config
    assert info.unit_ids == selection.unit_ids
    assert info.selection_hash == selection.hash
    assert set(info.content_hash) == {s.session_id for s in selection.sessions}
    assert set(info.windows_hash) == set(info.split_hash) == {"train", "valid"}
    assert info.split_hash["train"] != info.split_hash["valid"]


def poisoned(step: int, harm: Callable[[NeuroHorizon, Tensor], Tensor]) -> Callable[..., Tensor]:
    """`NeuroHorizon.compute_loss`, harmed at one step."""
    calls, honest = itertools.count(1), NeuroHorizon.compute_loss

    def compute_loss(self: NeuroHorizon, batch: WindowBatch, units: UnitTable) -> Tensor:
        loss = honest(self, batch, units)
        return harm(self, loss) if next(calls) == step else loss

    return compute_loss


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda model, loss: loss * math.nan, id="loss"),
        pytest.param(lambda model, loss: loss + (0 * model.bins.sum()).sqrt(), id="gradient"),
    ],
)
def test_a_loss_or_gradient_that_is_not_a_number_names_the_sessions_and_spoils_no_weights(
    harm: Callable[[NeuroHorizon, Tensor], Tensor],
    store: Path,
    make_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(NeuroHorizon, "compute_loss", poisoned(4, harm))
    one = "data.select=select unit_id from units where session_id like '%001'"
    config = make_config("train.max_steps=6", one)
    with pytest.raises(UserError, match=r"nan at step 4, in batch 4 of epoch 0 \(windows at [0-9., ]+… s\) of sim-n12"):
        train(store, config, tmp_path / "run")
    assert all(weight.isfinite().all() for weight in last_weights(tmp_path / "run").values())
    monkeypatch.undo()
    assert train(store, config, tmp_path / "run", resume=True).step == 6


def test_a_folder_that_holds_a_run_is_not_written_over(run: Path, store: Path, run_config: Config) -> None:
    before = tree_hash(run)
    with pytest.raises(UserError, match="holds a run: name another --out, or add --resume"):
        train(store, run_config, run)
    assert tree_hash(run) == before


@pytest.mark.parametrize(("scores", "steps"), [([0.3, 0.2, 0.1, 0.0], 6), ([0.1, 0.2, 0.15, 0.1, 0.0], 8)])
def test_training_ends_when_validation_has_stopped_improving(
    scores: list[float],
    steps: int,
    store: Path,
    make_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    falling = iter([-1.0, *scores])
    monkeypatch.setattr(validation, "validation_fp_bps", lambda *_: (next(falling),))
    config = make_config("train.max_steps=50", "train.validate_every=2", "train.patience=2")
    standing = train(store, config, tmp_path / "run")
    assert (standing.step, standing.best_step, standing.best) == (steps, steps - 4, max(scores))


def test_training_ends_when_its_time_is_up(store: Path, make_config: Callable[..., Config], tmp_path: Path) -> None:
    standing = train(store, make_config("train.max_minutes=1e-9"), tmp_path / "run")
    assert (standing.step, standing.done, standing.valid_step) == (1, 1.0, 1)
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_a_selection_of_nothing_is_an_error(store: Path, make_config: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no unit of"):
        train(store, make_config("data.select=select unit_id from units where rate_hz > 1e9"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_sessions_that_are_held_out_choose_the_weights(
    store: Path, make_config: Callable[..., Config], tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("train.max_steps=4", "train.validate_every=2", "train.unseen_sessions=1")
    scores = iter([0.0, 0.0, 0.1, 0.5, 0.9, 0.4])  # on later windows, on the session held out; at steps 0, 2, 4
    monkeypatch.setattr(validation, "validation_fp_bps", lambda *_: (next(scores),))
    standing = train(store, config, tmp_path / "run")
    assert (standing.best, standing.best_step) == (0.5, 2)
    assert [line["unseen_fp_bps"] for line in metrics(tmp_path / "run")] == [0.0, 0.5, 0.4]
    info = RunInfo.read(tmp_path / "run")
    assert len(info.held_out) == 1
    assert len(info.content_hash) == 2
    assert not set(info.held_out) & set(info.content_hash)
    assert len(info.unit_ids) == 24


def test_a_session_held_out_is_known_by_its_first_minute_only(store: Path, make_config: Callable[..., Config]) -> None:
    selection = select_units(open_store(store))
    kept, (name,) = split_sessions(selection, 1, seed=0)
    assert len(kept.sessions) == 2
    held_out = unseen_validation(store, selection.only([name]), make_config())
    assert (held_out.units.row == -1).all()
    assert held_out.windows.spans_s[name] == (64.0, 72.0)
    again = split_sessions(selection, 1, seed=0)[1]
    assert again == (name,)
    assert len({split_sessions(selection, 1, seed=seed)[1] for seed in range(9)}) > 1
    with pytest.raises(UserError, match="leaves none to train on"):
        split_sessions(selection, 3, seed=0)


def test_tensorboard_gets_the_curves(store: Path, make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config("train.max_steps=4", "train.validate_every=2", "train.tensorboard=true")
    train(store, config, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("valid_fp_bps")] == [0, 2, 4]
    assert [event.step for event in events.Scalars("loss")] == [2, 4]


def test_the_compiled_part_is_the_same(store: Path, open_windows: Callable[..., WindowDataset], awake: Any) -> None:
    units = unit_table(open_windows(store, "train"))
    batch, model = next(iter(open_windows(store))), awake()
    with torch.no_grad():
        expected = model(batch, units)
        model.think = torch.compile(model.think, backend="eager")
        torch.testing.assert_close(model(batch, units), expected)


@pytest.mark.filterwarnings("ignore")
def test_two_processes_train_one_model(store: Path, make_config: Callable[..., Config], tmp_path: Path) -> None:
    """torchrun with two gloo ranks: each takes half of the batches, all agree on weights, scores and the end."""
    still = ["model.dropout=0", "model.unit_dropout=0", "model.table_dropout=0", "train.max_steps=3"]
    arguments = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    command = [sys.executable, *arguments, sys.executable, "-c", "from nhcli.model import cli; cli()"]
    command += ["train", "--store", str(store), "--out", str(tmp_path / "two"), "--json"]
    for setting in (*SMALL, *still, "train.batch_size=16"):
        command += ["--set", setting]
    root = Path(__file__).parents[2]
    path = os.pathsep.join(str(root / folder) for folder in (".", "catalog", "cli"))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (value,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert value["steps"] == 3
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 3]

    train(store, make_config(*still, "train.batch_size=16", "train.accumulate=2"), tmp_path / "one")
    one, two = last_weights(tmp_path / "one"), last_weights(tmp_path / "two")
    apart = torch.cat([(one[name] - two[name]).flatten() for name in one])
    assert apart.abs().max() < 1e-3  # the same batches in the same order: two ranks are two parts of a step
    (alone,) = validation_fp_bps(load(tmp_path / "two", "last"), *validation_of(store, tmp_path / "two"))
    assert lines[-1]["valid_fp_bps"] == pytest.approx(alone, abs=1e-7)


def validation_of(store: Path, run: Path) -> tuple[WindowDataset, UnitTable]:
    info = RunInfo.read(run)
    selection = select_units(open_store(store), info.query)
    known = data.open_windows(store, selection, info.config, "train")
    return data.open_windows(store, selection, info.config, "valid"), unit_table(known, rows_by_id(info.unit_ids))
