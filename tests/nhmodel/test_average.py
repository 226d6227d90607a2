"""The moving average of the weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from nhmodel.checkpoint import load_state
from nhmodel.config import Config
from nhmodel.run import load
from nhmodel.training import train
from nhmodel.training.average import follow


def filled(value: float) -> nn.Linear:
    layer = nn.Linear(2, 1)
    for weight in layer.parameters():
        nn.init.constant_(weight, value)
    return layer


def test_it_is_the_weighted_sum_of_what_was_there():
    values, average = torch.randn(40, dtype=torch.float64).tolist(), filled(0.0)
    expected = 0.0
    for step, value in enumerate(values):
        follow(average, filled(value), 0.9, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.weight[0, 0].item() == pytest.approx(expected, abs=1e-6)


def test_without_decay_it_is_a_copy():
    average = filled(0.0)
    follow(average, filled(3.0), 0.0, 7)
    assert torch.equal(average.weight, filled(3.0).weight)


def test_what_is_kept_is_the_average_and_what_goes_on_is_not(
    store: Path, make_config: Callable[..., Config], tmp_path: Path
):
    config = make_config("train.max_steps=6", "train.validate_every=3")
    train(store, config, tmp_path / "run")
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    kept, raw = load(tmp_path / "run", "last").state_dict(), load_state(checkpoint)["weights"]
    assert kept.keys() == raw.keys()
    assert raw.pop("shrinkage") == 1
    apart = torch.cat([(kept[name] - raw[name]).flatten() for name in raw]).abs()
    assert 0 < apart.max() < 0.1
