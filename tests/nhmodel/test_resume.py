"""A run that was stopped goes on exactly where it was, or says why it cannot."""

import hashlib
import itertools
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from faults import Operation, inject, record, sample
from safetensors.torch import load_file
from torch import Tensor

from nhcatalog.errors import UserError
from nhdata.recording import Recording
from nhmodel.checkpoint import last_checkpoint, load_state
from nhmodel.config import Config, DataConfig, ModelConfig
from nhmodel.evaluation import evaluate
from nhmodel.forecasts import forecasts
from nhmodel.model import NeuroHorizon, latent_steps
from nhmodel.run import RunInfo, load
from nhmodel.training import loop, train, validation
from nhmodel.training.schedule import one_cycle
from nhmodel.training.setup import parameter_groups
from nhmodel.training.signals import Terminated, raise_on_signals
from nhmodel.training.standing import Standing

STEPS = 30
Metrics = Callable[[Path], list[dict[str, Any]]]


def last_weights(run: Path) -> dict[str, Tensor]:
    return load_file(last_checkpoint(run) / "weights.safetensors")


def interrupt_at(step: int) -> Callable[[Standing], None]:
    def on_step(standing: Standing) -> None:
        if standing.step == step:
            raise KeyboardInterrupt

    return on_step


@pytest.mark.parametrize(("stop", "epoch", "batches"), [(5, 0, 5), (12, 0, 12), (16, 1, 4)])
def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(
    stop: int, epoch: int, batches: int, run: Path, metrics: Metrics, store: Path, run_config: Config, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(store, run_config, tmp_path / "run", on_step=interrupt_at(stop))
    loader = load_state(last_checkpoint(tmp_path / "run"))["loader"]
    assert {name: loader[name] for name in ("epoch", "batches", "seed")} == {
        "epoch": epoch,
        "batches": batches,
        "seed": 0,
    }
    standing = train(store, run_config, tmp_path / "run", resume=True)
    assert standing.step == STEPS
    found, expected = last_weights(tmp_path / "run"), last_weights(run)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name
    assert metrics(tmp_path / "run") == metrics(run)


def test_a_run_by_the_clock_goes_on_where_it_was_and_time_that_it_lay_still_does_not_count(
    store: Path, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that makes steps of a hundredth of a minute; the learning rate follows it."""
    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 0.6 * next(ticks)))
    config = make_config("train.max_minutes=0.1", "train.validate_every=4")
    whole = train(store, config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(store, config, tmp_path / "run", on_step=interrupt_at(5))
    ticks = itertools.count(10_000)
    standing = train(store, config, tmp_path / "run", resume=True)
    assert (standing.step, standing.done) == (whole.step, whole.done) == (10, 1.0)
    assert standing.minutes == pytest.approx(whole.minutes)
    found, expected = last_weights(tmp_path / "run"), last_weights(tmp_path / "whole")
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, atol=1e-5, rtol=1e-4)


def test_a_run_that_is_done_stays_as_it_is_when_resumed(
    run: Path, metrics: Metrics, store: Path, run_config: Config, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    standing = train(store, run_config, tmp_path / "run", resume=True)
    assert standing.step == STEPS
    assert metrics(tmp_path / "run") == metrics(run)
    assert len(list((tmp_path / "run").glob("checkpoint-*"))) == 1
    for read in (last_weights, lambda folder: load_file(folder / "best.safetensors")):
        found, expected = (read(folder) for folder in (tmp_path / "run", run))
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_the_last_validation_is_remembered_when_more_steps_are_made(
    store: Path, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = iter([-1.0, 0.9, 0.8, 0.7])
    monkeypatch.setattr(validation, "validation_fp_bps", lambda *_: (next(falling),))
    first = train(store, make_config("train.max_steps=2"), tmp_path / "run")
    weights = load_file(tmp_path / "run" / "best.safetensors")
    second = train(store, make_config("train.max_steps=3"), tmp_path / "run", resume=True)
    assert (first.best, second.best, second.best_step, second.valid_fp_bps) == (0.9, 0.9, 2, 0.8)
    kept = load_file(tmp_path / "run" / "best.safetensors")
    assert all(torch.equal(kept[name], weights[name]) for name in weights)


def test_a_run_that_was_killed_goes_on_from_its_last_validation(
    store: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    def remember(standing: Standing) -> None:
        if standing.step == 3:
            shutil.copytree(tmp_path / "run", tmp_path / "killed")

    config = make_config("train.max_steps=5", "train.validate_every=2")
    train(store, config, tmp_path / "run", on_step=remember)
    expected = last_weights(tmp_path / "run")
    (tmp_path / "killed" / ".checkpoint-9.1").mkdir()  # what was being written when it was killed
    steps: list[int] = []
    train(store, config, tmp_path / "killed", resume=True, on_step=lambda standing: steps.append(standing.step))
    found = last_weights(tmp_path / "killed")
    assert steps[0] == 3
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_there_is_nothing_to_resume_where_no_run_is(store: Path, run_config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run at"):
        train(store, run_config, tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "setting", ["model.dim=24", "data.bin_s=0.05", "train.seed=1", "train.batch_size=16", "train.accumulate=2"]
)
def test_a_run_is_not_resumed_with_other_settings(
    setting: str, run: Path, store: Path, make_config: Callable[..., Config]
) -> None:
    with pytest.raises(UserError, match="begun with other settings"):
        train(store, make_config(setting), run, resume=True)


def test_a_run_is_not_resumed_on_other_data(
    run: Path, run_config: Config, recordings: list[Recording], make_store: Callable[..., Path]
) -> None:
    spikes = replace(recordings[2].spikes, time=recordings[2].spikes.time[1:], unit=recordings[2].spikes.unit[1:])
    path = make_store("other", [*recordings[:2], replace(recordings[2], spikes=spikes)])
    with pytest.raises(UserError, match="have changed: train anew with another --out"):
        train(path, run_config, run, resume=True)


class Payload:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("the state file ran code",)


@pytest.mark.parametrize(
    "damage", ["payload", "plain pickle", "cut short", "one byte", "empty", "other keys", "missing"]
)
def test_a_state_that_cannot_be_trusted_is_refused(
    damage: str, run: Path, store: Path, run_config: Config, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = last_checkpoint(tmp_path / "run") / "state.pt"
    match damage:
        case "payload":
            torch.save({"standing": Payload()}, path)
        case "plain pickle":
            path.write_bytes(pickle.dumps(Payload(), protocol=2))
        case "cut short":
            path.write_bytes(path.read_bytes()[:-1000])
        case "one byte":
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        case "empty":
            path.write_bytes(b"")
        case "other keys":
            torch.save({"standing": {}}, path)
        case "missing":
            path.unlink()
    if damage in ("payload", "plain pickle", "other keys"):  # whoever writes a state can write its hash
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_name("state.json").write_text(json.dumps({"sha256": digest}))
    with pytest.raises(UserError, match=r"state\.pt is .*train anew with another --out") as error:
        train(store, run_config, tmp_path / "run", resume=True)
    assert "\n" not in str(error.value)


def test_a_run_without_a_checkpoint_is_not_resumed(run: Path, store: Path, run_config: Config, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*"))
    with pytest.raises(UserError, match="holds no checkpoint"):
        train(store, run_config, tmp_path / "run", resume=True)


def test_a_step_of_several_batches_follows_the_mean_of_their_gradients(
    store: Path, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []
    honest = NeuroHorizon.compute_loss
    monkeypatch.setattr(NeuroHorizon, "compute_loss", lambda *args: (seen.append(args), honest(*args))[1])
    still = ("model.dropout=0", "model.unit_dropout=0", "model.table_dropout=0", "train.max_steps=1")
    config = make_config(*still, "train.batch_size=16", "train.accumulate=3", "train.patience=99", "train.average=0")
    with pytest.raises(KeyboardInterrupt):
        train(store, config, tmp_path / "run", on_step=interrupt_at(1))
    monkeypatch.undo()
    assert len(seen) == 3

    model, settings = load(tmp_path / "run"), config.train  # the best so far are the first
    lr = settings.lr * one_cycle(0.0, settings.warmup)
    groups = parameter_groups(model.train(), settings.model_copy(update={"lr": lr}))
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    torch.stack([model.compute_loss(batch, units) for _, batch, units in seen]).mean().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    optimizer.step()
    found = last_weights(tmp_path / "run")
    apart = torch.cat([(found[name] - weight).flatten() for name, weight in model.state_dict().items()])
    assert (apart.abs() < 0.02 * lr).float().mean() > 0.99  # but for gradients of rounding, whose sign Adam follows


@pytest.mark.parametrize("stop", [1, 3])
def test_a_run_that_accumulates_goes_on_as_if_it_had_not_been_interrupted(
    stop: int, store: Path, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted between the parts of a step: what was read for it is read again."""
    config = make_config("train.max_steps=4", "train.batch_size=16", "train.accumulate=3")
    train(store, config, tmp_path / "whole")
    calls, honest = itertools.count(), NeuroHorizon.compute_loss

    def interrupted(*args: Any) -> Tensor:
        if next(calls) == 3 * stop + 1:
            raise KeyboardInterrupt
        return honest(*args)

    monkeypatch.setattr(NeuroHorizon, "compute_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(store, config, tmp_path / "run")
    monkeypatch.undo()
    train(store, config, tmp_path / "run", resume=True)
    found, expected = last_weights(tmp_path / "run"), last_weights(tmp_path / "whole")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_update_that_fails_half_way_is_not_saved(
    run: Path, store: Path, run_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, honest = itertools.count(1), torch.optim.AdamW.step

    def half(optimizer: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        done = honest(optimizer, *args, **kwargs)
        if next(calls) == 11:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(torch.optim.AdamW, "step", half)
    with pytest.raises(KeyboardInterrupt):
        train(store, run_config, tmp_path / "run")
    monkeypatch.undo()
    assert load_state(last_checkpoint(tmp_path / "run"))["standing"]["step"] == 8
    train(store, run_config, tmp_path / "run", resume=True)
    found, expected = last_weights(tmp_path / "run"), last_weights(run)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_an_update_takes_effect_after_it(
    end: signal.Signals,
    store: Path,
    make_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = torch.optim.AdamW.step

    def signalled(optimizer: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(end)
        return honest(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", signalled)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as interrupt, raise_on_signals():
        train(store, make_config("train.max_steps=3"), tmp_path / "run")
    assert isinstance(interrupt.value, Terminated) == (end == signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    assert load_state(last_checkpoint(tmp_path / "run"))["standing"]["step"] == 1


def test_settings_changed_on_resumption_hold_and_are_recorded(
    store: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    old = make_config("train.max_steps=4", "train.validate_every=2")
    new = make_config(
        "train.max_steps=6", "train.validate_every=2", "train.lr=0.1", "train.weight_decay=0.5", "train.table_lr=2"
    )
    for name in ("as before", "changed"):
        with pytest.raises(KeyboardInterrupt):
            train(store, old, tmp_path / name, on_step=interrupt_at(3))
    train(store, old, tmp_path / "as before", resume=True)
    train(store, new, tmp_path / "changed", resume=True)
    groups = load_state(last_checkpoint(tmp_path / "changed"))["optimizer"]["param_groups"]
    assert [(group["peak_lr"], group["weight_decay"]) for group in groups] == [(0.1, 0.5), (0.2, 0.5)]
    info = RunInfo.read(tmp_path / "changed")
    assert info.config == new
    (change,) = info.changes
    assert change["step"] == 3
    assert change["settings"]["train.weight_decay"] == [0.02, 0.5]
    assert "from step 3: train.max_steps 4 → 6" in (tmp_path / "changed" / "README.md").read_text()
    assert RunInfo.read(tmp_path / "as before").changes == ()


def test_a_run_ends_with_the_same_bits_whatever_file_operation_fails(
    store: Path, make_config: Callable[..., Config], metrics: Metrics, tmp_path: Path
) -> None:
    config = make_config("train.max_steps=4", "train.validate_every=2", "train.lr=0.01", "train.batch_size=8")
    folder = tmp_path / "record"
    folder.mkdir()
    with record(folder) as operations:
        train(store, config, folder / "run")

    def label(operation: Operation) -> str:
        return re.sub(r"[0-9]+", "*", operation.label)

    for number, fault in enumerate(sample(operations, label)):
        root = tmp_path / str(number)
        root.mkdir()
        with suppress(KeyboardInterrupt, OSError, SystemExit, UserError), inject(fault, root) as state:
            train(store, config, root / "run")
        assert state.fired, fault
        train(store, config, root / "run", resume=(root / "run" / "run.json").exists())
        assert metrics(root / "run") == metrics(folder / "run"), fault
        for read in (last_weights, lambda run: load_file(run / "best.safetensors")):
            found, expected = read(root / "run"), read(folder / "run")
            assert all(torch.equal(found[name], expected[name]) for name in expected), fault
        assert not list((root / "run").glob(".*")), fault


def test_what_killed_processes_left_is_removed_on_resumption(
    run: Path, store: Path, run_config: Config, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "run" / f".checkpoint-9.{ended.pid}").mkdir()
    (tmp_path / "run" / f".run.json.{ended.pid}").touch()
    (tmp_path / "run" / f".run.json.{os.getppid()}").touch()
    train(store, run_config, tmp_path / "run", resume=True)
    assert [path.name for path in (tmp_path / "run").glob(".*")] == [f".run.json.{os.getppid()}"]


def test_sigterm_saves_and_the_resumed_run_ends_with_the_same_bits(
    run: Path, store: Path, run_config: Config, tmp_path: Path
) -> None:
    program = "import sys, os, signal; from nhmodel.training import loop; follow = loop.follow; n = 0\n"
    program += "def count(*args):\n    global n; follow(*args); n += 1\n"
    program += "    if n == 5: os.kill(os.getpid(), signal.SIGTERM)\n"
    program += "loop.follow = count; from nhcli.model import cli; cli()"
    command = [sys.executable, "-c", program, "train", "--store", str(store), "--out", str(tmp_path / "run")]
    settings = [
        f"{section}.{name}={json.dumps(value)}"
        for section, values in run_config
        for name, value in values
        if section != "data" and value is not None
    ]
    command += [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 143, done.stderr
    assert done.stderr.splitlines()[-1].startswith("interrupted; the state after step")
    assert "Traceback" not in done.stderr
    assert load_state(last_checkpoint(tmp_path / "run"))["standing"]["step"] == 5
    train(store, run_config, tmp_path / "run", resume=True)
    found, expected = last_weights(tmp_path / "run"), last_weights(run)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_number_of_threads_of_the_caller_stays(
    store: Path, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda n: pytest.fail("the number of threads was changed"))
    train(store, make_config("train.max_steps=1"), tmp_path / "run")
    evaluate(tmp_path / "run", store, baselines=[])
    next(forecasts(tmp_path / "run", store))


@pytest.mark.parametrize(("history_s", "steps"), [(0.14, 7), (0.28, 14), (0.56, 28), (0.15, 8)])
def test_steps_of_latents_are_counted_exactly(history_s: float, steps: int) -> None:
    assert latent_steps(ModelConfig(latent_step_s=0.02), DataConfig(history_s=history_s)) == steps


def test_a_run_with_a_latent_more_from_rounding_still_loads(
    store: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config("data.history_s=0.14", "model.latent_step_s=0.02", "train.max_steps=1")
    train(store, config, tmp_path / "run")
    assert len(load(tmp_path / "run").latent_time_s) == 7 * config.model.latents_per_step
    path = tmp_path / "run" / "run.json"
    values = json.loads(path.read_text())
    del values["changes"]  # as older versions wrote it, which counted 8
    path.write_text(json.dumps(values))
    assert len(load(tmp_path / "run").latent_time_s) == 8 * config.model.latents_per_step
