"""What is scored reaches nothing that is learnt from or known before: not weights, normalisers, means nor baselines."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nhdata.loading.selection import select_units
from nhdata.recording import Recording
from nhdata.store.store import open_store
from nhmodel.checkpoint import last_checkpoint
from nhmodel.config import Config
from nhmodel.evaluation.session import ScoredSession, baseline_forecasts
from nhmodel.training import train

TEST_S, VALID_S, TRAIN_S = 73.0, 71.0, 62.0
"""When the test windows begin, and a second before the other splits end."""

Stores = Callable[[str, Sequence[Recording]], Path]
Futures = Callable[[Recording, float], Recording]


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(last_checkpoint(run) / "weights.safetensors") | {
        f"best.{name}": weight for name, weight in load_file(run / "best.safetensors").items()
    }


def test_training_is_the_same_whatever_the_test_split_holds(
    recordings: list[Recording],
    make_store: Stores,
    with_other_future: Futures,
    make_config: Callable[..., Config],
    metrics: Callable[[Path], list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    config = make_config("train.max_steps=4", "train.validate_every=2")

    def trained(name: str, recording: Recording) -> Path:
        train(make_store(f"{name}.zarr", [recording]), config, tmp_path / name)
        return tmp_path / name

    run = trained("whole", recordings[0])
    for from_s, same_weights, same_metrics in ((TEST_S, True, True), (VALID_S, True, False), (TRAIN_S, False, False)):
        other = trained(f"from {from_s:g} s", with_other_future(recordings[0], from_s))
        found, expected = weights(other), weights(run)
        learnt = [name for name in expected if not name.startswith("best.") and name != "shrinkage"]
        assert all(torch.equal(found[name], expected[name]) for name in learnt) == same_weights, from_s
        assert (metrics(other) == metrics(run)) == same_metrics, from_s
        if same_metrics:
            assert all(torch.equal(found[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize("baseline", ["mean", "ewma", "rrr"])
def test_what_a_session_of_training_is_known_by_is_the_same_whatever_the_test_split_holds(
    baseline: str, recordings: list[Recording], make_store: Stores, with_other_future: Futures, run_config: Config
) -> None:
    """Null, features, baselines and how well they were tuned; the first forecast is of the same past."""

    def opened(name: str, recording: Recording) -> ScoredSession:
        path = make_store(name, [recording])
        return ScoredSession.open(path, select_units(open_store(path)), run_config, "test", None)

    before = opened("whole", recordings[0])
    after = opened("other", with_other_future(recordings[0], before.truth.t_s[0]))
    assert before.truth.t_s[0] == TEST_S + 0.5
    assert (after.truth.counts != before.truth.counts).any()
    np.testing.assert_array_equal(after.null, before.null)
    for mine, theirs in zip(after.strangers, before.strangers, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    (mine,), (theirs,) = (list(baseline_forecasts(session, [baseline])) for session in (after, before))
    assert mine.tuned_loss == theirs.tuned_loss
    np.testing.assert_array_equal(mine.expected[0], theirs.expected[0])
