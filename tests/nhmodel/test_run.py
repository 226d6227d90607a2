"""The folder of a run: what is written is read back, and what is damaged is one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import nhmodel
from nhcatalog.errors import UserError
from nhmodel.checkpoint import last_checkpoint, load_state, save_checkpoint, save_weights, write_bytes
from nhmodel.config import Config
from nhmodel.model import NeuroHorizon, UnitTable
from nhmodel.run import RunInfo, load


@pytest.fixture
def info(make_config: Callable[..., Config], units: UnitTable) -> RunInfo:
    return RunInfo(
        config=make_config(),
        query="select unit_id from units where region = 'CA1'",
        position=3,
        selection_hash="ab",
        unit_ids=tuple(f"unit {k}" for k in range(len(units.row))),
        content_hash={"one": "cd"},
        fingerprint={"one": "ef"},
        windows_hash={"train": "ef", "valid": "01"},
        split_hash={"train": "23", "valid": "45"},
    )


@pytest.fixture
def model(awake: Callable[..., NeuroHorizon]) -> NeuroHorizon:
    return awake()


@pytest.fixture
def run(info: RunInfo, model: NeuroHorizon, tmp_path: Path) -> Path:
    """A run with its best weights."""
    info.write(tmp_path)
    save_weights(tmp_path / "best.safetensors", model)
    return tmp_path


def assert_refused(run: Path, match: str) -> None:
    with pytest.raises(UserError, match=match) as error:
        load(run)
    assert "\n" not in str(error.value)


def test_run_json_is_read_as_it_was_written(run: Path, info: RunInfo) -> None:
    assert RunInfo.read(run) == info
    assert json.loads((run / "run.json").read_text())["schema"] == 3


def test_nothing_but_the_run_is_left_in_its_folder(run: Path, model: NeuroHorizon) -> None:
    for step in (1, 2, 3):
        save_checkpoint(run, model, {"step": step})
    write_bytes(run / "metrics.jsonl", b"")
    assert sorted(path.name for path in run.iterdir()) == [
        "best.safetensors",
        "checkpoint-3",
        "metrics.jsonl",
        "run.json",
    ]
    assert last_checkpoint(run).name == "checkpoint-3"
    assert load_state(last_checkpoint(run)) == {"step": 3}


def test_a_checkpoint_that_was_not_finished_does_not_count(
    run: Path, model: NeuroHorizon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between weights and state: both are those of the checkpoint before."""
    save_checkpoint(run, model, {"step": 1})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(run, model, {"step": 2})
    monkeypatch.undo()
    assert load_state(last_checkpoint(run)) == {"step": 1}
    save_checkpoint(run, model, {"step": 2})
    assert load_state(last_checkpoint(run)) == {"step": 2}


def test_a_loaded_model_is_the_saved_one_ready_to_forecast(run: Path, model: NeuroHorizon) -> None:
    loaded = nhmodel.load(run)
    assert not loaded.training
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    assert loaded.identity.encoder is not None
    assert (loaded.identity.encoder.std != 1).any()


def test_there_is_no_run_in_an_empty_folder(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none", "no run at .*none: make one with 'nhmodel train")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", r"run\.json: .*train again"),
        (b'{"schema": 1', r"run\.json: "),
        (b"\xff\xfe", r"run\.json: "),
        (b"[]", r"run\.json is not of schema 3"),
        (b'{"schema": 2}', r"run\.json is not of schema 3: use the version of neurohorizon that wrote it"),
        (b'{"schema": 3}', r"run\.json is damaged"),
    ],
)
def test_a_damaged_run_json_is_named(content: bytes, match: str, run: Path) -> None:
    (run / "run.json").write_bytes(content)
    assert_refused(run, match)


@pytest.mark.parametrize(
    ("key", "value"), [("config", {"model": {"dim": "wide"}}), ("config", 3), ("unit_ids", None), ("query", ...)]
)
def test_a_run_json_with_a_wrong_or_missing_value_is_damaged(key: str, value: object, run: Path) -> None:
    values = json.loads((run / "run.json").read_text())
    values[key] = value
    if value is ...:
        del values[key]
    (run / "run.json").write_text(json.dumps(values))
    assert_refused(run, r"run\.json is damaged")


def test_weights_that_are_not_there_are_named(run: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        load(run, "last")
    (run / "best.safetensors").unlink()
    assert_refused(run, r"best\.safetensors is not there: train until the first validation")
    with pytest.raises(UserError, match="unknown weights 'worst': choose best or last"):
        load(run, "worst")


@pytest.mark.parametrize("size", [0, 4, 200, -1])
def test_weights_cut_short_are_named(size: int, run: Path) -> None:
    path = run / "best.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert_refused(run, r"best\.safetensors: .*the file is damaged")


@pytest.mark.parametrize("place", [-1, -5000])
def test_a_single_changed_byte_of_a_weight_is_found(place: int, run: Path) -> None:
    path = run / "best.safetensors"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert_refused(run, r"best\.safetensors: the weights are not those that were written: the file is damaged")


def test_weights_of_another_version_are_refused(run: Path) -> None:
    weights = load_file(run / "best.safetensors")
    save_file(weights, run / "best.safetensors", {"schema": "0"})
    assert_refused(run, r"best\.safetensors holds weights of schema 0, not 1: the file is .* of another version")
    save_file(weights, run / "best.safetensors")
    assert_refused(run, r"best\.safetensors holds weights of schema None")


def test_weights_of_another_shape_are_named_with_their_tensor(run: Path, awake: Callable[..., NeuroHorizon]) -> None:
    save_weights(run / "best.safetensors", awake("model.rank=5"))
    assert_refused(run, r"best\.safetensors: size mismatch for head\.pop_.*the file is damaged or of another version")


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_of_another_model_are_named_with_their_tensor(change: str, run: Path, model: NeuroHorizon) -> None:
    if change == "unexpected":
        model.surplus = torch.nn.Parameter(torch.zeros(1))
    else:
        del model.bins
    save_weights(run / "best.safetensors", model)
    assert_refused(run, "Unexpected key.*surplus" if change == "unexpected" else "Missing key.*bins")


def test_a_state_is_read_as_it_was_written(tmp_path: Path, model: NeuroHorizon) -> None:
    state = {"step": 3, "loss": float("nan"), "name": "x", "rng": [torch.get_rng_state()]}
    save_checkpoint(tmp_path, model, state)
    found = load_state(last_checkpoint(tmp_path))
    assert found["rng"][0].equal(state["rng"][0])
    assert found["loss"] != found["loss"]
    assert (found["step"], found["name"]) == (3, "x")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02K", bytes(range(256))])
@pytest.mark.parametrize("name", ["state.pt", "state.json"])
def test_a_state_of_any_bytes_is_one_line(name: str, content: bytes, tmp_path: Path, model: NeuroHorizon) -> None:
    save_checkpoint(tmp_path, model, {"step": 1})
    (last_checkpoint(tmp_path) / name).write_bytes(content)
    with pytest.raises(UserError, match=r"state\.pt is damaged") as error:
        load_state(last_checkpoint(tmp_path))
    assert "\n" not in str(error.value)
