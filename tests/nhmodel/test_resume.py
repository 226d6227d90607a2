"""A run that was stopped goes on exactly where it was, or says why it cannot."""

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nhcatalog.errors import UserError
from nhdata.recording import Recording
from nhmodel.config import Config
from nhmodel.run import load_state
from nhmodel.training import loop, train
from nhmodel.training.loop import Standing

STEPS = 30
Metrics = Callable[[Path], list[dict[str, Any]]]


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
    assert load_state(tmp_path / "run" / "state.pt")["loader"] == {"epoch": epoch, "batches": batches, "seed": 0}
    standing = train(store, run_config, tmp_path / "run", resume=True)
    assert standing.step == STEPS
    found, expected = load_file(tmp_path / "run" / "last.safetensors"), load_file(run / "last.safetensors")
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name
    assert metrics(tmp_path / "run") == metrics(run)


def test_a_run_that_is_done_stays_as_it_is_when_resumed(
    run: Path, metrics: Metrics, store: Path, run_config: Config, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    standing = train(store, run_config, tmp_path / "run", resume=True)
    assert standing.step == STEPS
    assert metrics(tmp_path / "run") == metrics(run)
    for name in ("best", "last"):
        found, expected = (load_file(folder / f"{name}.safetensors") for folder in (tmp_path / "run", run))
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_the_last_validation_is_remembered_when_more_steps_are_made(
    store: Path, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = iter([-1.0, 0.9, 0.8, 0.7])
    monkeypatch.setattr(loop, "validation_fp_bps", lambda *_: next(falling))
    first = train(store, make_config("train.max_steps=2"), tmp_path / "run")
    weights = load_file(tmp_path / "run" / "best.safetensors")
    second = train(store, make_config("train.max_steps=3"), tmp_path / "run", resume=True)
    assert (first.best, second.best, second.best_step, second.valid_fp_bps) == (0.9, 0.9, 2, 0.8)
    kept = load_file(tmp_path / "run" / "best.safetensors")
    assert all(torch.equal(kept[name], weights[name]) for name in weights)


def test_a_run_that_was_killed_goes_on_from_its_last_validation(
    store: Path, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: dict[str, bytes] = {}

    def remember(standing: Standing) -> None:
        if standing.step == 3:
            saved.update({path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()})

    config = make_config("train.max_steps=5", "train.validate_every=2")
    train(store, config, tmp_path / "run", on_step=remember)
    expected = load_file(tmp_path / "run" / "last.safetensors")
    for path in (tmp_path / "run").iterdir():
        path.unlink()
    for name, content in saved.items():
        (tmp_path / "run" / name).write_bytes(content)
    steps: list[int] = []
    train(store, config, tmp_path / "run", resume=True, on_step=lambda standing: steps.append(standing.step))
    found = load_file(tmp_path / "run" / "last.safetensors")
    assert steps[0] == 3
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_there_is_nothing_to_resume_where_no_run_is(store: Path, run_config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run at"):
        train(store, run_config, tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("setting", ["model.dim=24", "data.bin_s=0.05", "train.seed=1", "train.batch_size=16"])
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


@pytest.mark.parametrize("damage", ["payload", "plain pickle", "cut short", "empty", "other keys", "missing"])
def test_a_state_that_cannot_be_trusted_is_refused(
    damage: str, run: Path, store: Path, run_config: Config, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "state.pt"
    match damage:
        case "payload":
            torch.save({"standing": Payload()}, path)
        case "plain pickle":
            path.write_bytes(pickle.dumps(Payload(), protocol=2))
        case "cut short":
            path.write_bytes(path.read_bytes()[:-1000])
        case "empty":
            path.write_bytes(b"")
        case "other keys":
            torch.save({"standing": {}}, path)
        case "missing":
            path.unlink()
    with pytest.raises(UserError, match=r"state\.pt is .*train anew with another --out") as error:
        train(store, run_config, tmp_path / "run", resume=True)
    assert "\n" not in str(error.value)
