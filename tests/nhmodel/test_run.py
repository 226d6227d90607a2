"""The folder of a run: what is written is read back, and what is damaged is one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import nhmodel
from nhcatalog.errors import UserError
from nhmodel.config import Config
from nhmodel.model import NeuroHorizon, UnitTable
from nhmodel.run import RunInfo, load, load_state, save_state, save_weights, write_bytes


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
    assert json.loads((run / "run.json").read_text())["schema"] == 1


def test_nothing_but_the_run_is_left_in_its_folder(run: Path) -> None:
    save_state(run / "state.pt", {"step": 1})
    write_bytes(run / "metrics.jsonl", b"")
    assert sorted(path.name for path in run.iterdir()) == [
        "best.safetensors",
        "metrics.jsonl",
        "run.json",
        "state.pt",
    ]


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
        (b"[]", r"run\.json is not of schema 1"),
        (b'{"schema": 2}', r"run\.json is not of schema 1: use the version of neurohorizon that wrote it"),
        (b'{"schema": 1}', r"run\.json is damaged"),
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
    with pytest.raises(UserError, match=r"last\.safetensors is not there: train until the first validation"):
        load(run, "last")


@pytest.mark.parametrize("size", [0, 4, 200, -1])
def test_weights_cut_short_are_named(size: int, run: Path) -> None:
    path = run / "best.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert_refused(run, r"best\.safetensors: .*the file is damaged")


def test_weights_of_another_shape_are_named_with_their_tensor(run: Path, awake: Callable[..., NeuroHorizon]) -> None:
    save_weights(run / "best.safetensors", awake("model.rank=5"))
    assert_refused(run, r"best\.safetensors: size mismatch for head\.pop_.*the file is damaged or of another version")


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_of_another_model_are_named_with_their_tensor(change: str, run: Path) -> None:
    weights = load_file(run / "best.safetensors")
    weights["surplus" if change == "unexpected" else "bins"] = torch.zeros(1)
    if change == "missing":
        del weights["bins"]
    save_file(weights, run / "best.safetensors")
    assert_refused(run, "Unexpected key.*surplus" if change == "unexpected" else "Missing key.*bins")


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = {"step": 3, "loss": float("nan"), "name": "x", "rng": [torch.get_rng_state()]}
    save_state(tmp_path / "state.pt", state)
    found = load_state(tmp_path / "state.pt")
    assert found["rng"][0].equal(state["rng"][0])
    assert found["loss"] != found["loss"]
    assert (found["step"], found["name"]) == (3, "x")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02K", bytes(range(256))])
def test_a_state_of_any_bytes_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"state\.pt is damaged") as error:
        load_state(tmp_path / "state.pt")
    assert "\n" not in str(error.value)
