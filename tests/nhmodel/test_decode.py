"""Behaviour read from a trained encoder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from nhcatalog.errors import UserError
from nhdata.loading import WindowBatch, WindowDataset
from nhdata.recording import Recording
from nhdata.store.session import Session
from nhdata.store.store import open_store
from nhmodel.config import Config
from nhmodel.decode import _target, balanced_accuracy, decode
from nhmodel.model import NeuroHorizon, UnitTable
from nhmodel.training import train


def test_the_wheel_is_read_better_than_by_chance_and_beside_the_spikes(run: Path, store: Path) -> None:
    found = decode(run, store, "wheel_velocity")
    assert [one.session_id for one in found] == [f"sim-n12-t90-s0-00{k}" for k in range(3)]
    for one in found:
        assert (one.kind, one.n_windows) == ("r2", 33)
        assert one.chance <= 0
    assert np.mean([one.encoder for one in found]) > 0.1
    assert np.mean([one.spikes for one in found]) > 0.1


def test_labels_of_trials_are_scored_by_balanced_accuracy(run: Path, store: Path) -> None:
    found = decode(run, store, "trials.choice")
    assert {one.kind for one in found} == {"balanced_accuracy"}
    assert {one.chance for one in found} == {0.5}
    assert all(0 <= score <= 1 for one in found for score in (one.encoder, one.spikes))
    assert all(1 < one.n_windows < 8 for one in found)  # 18 s of trials of 3.5 to 5.5 s


def test_balanced_accuracy_is_sklearns() -> None:
    rng = np.random.default_rng(0)
    labels, said = rng.choice(["a", "b", "c"], 60, p=[0.7, 0.2, 0.1]), rng.choice(["a", "b", "c"], 60)
    assert balanced_accuracy(labels, said) == pytest.approx(balanced_accuracy_score(labels, said))


def test_a_series_is_its_mean_over_the_last_100_ms(store: Path) -> None:
    session = open_store(store).session("sim-n12-t90-s0-000")
    mean, (time_s, value, _) = _target(session, "wheel_velocity"), session.series()["wheel_velocity"]
    assert mean is not None
    for at_s in (1.0, 33.33):
        inside = (time_s >= at_s - 0.1) & (time_s < at_s)
        assert mean(np.array([at_s]), 0.5)[0] == pytest.approx(value[inside].mean(), rel=1e-6)
    assert np.isnan(mean(np.array([-5.0]), 0.5)[0])


def test_a_trial_is_read_from_the_first_window_after_it(store: Path) -> None:
    session: Session = open_store(store).session("sim-n12-t90-s0-000")
    of_trial, trials = _target(session, "trials.choice"), session.intervals()["trials"]
    assert of_trial is not None
    at_s = np.arange(1.0, 89.0, 0.5)
    found = of_trial(at_s, 0.5)
    for onset_s, choice in zip(trials["stim_on_s"], trials["choice"], strict=True):
        first = at_s[at_s >= onset_s + 0.5]
        if len(first):
            assert found[at_s == first[0]] == [str(choice)]
    assert (found != "").sum() <= len(trials["choice"])


@torch.no_grad()
def test_states_look_at_the_past_alone(
    store: Path, open_windows: Callable[..., WindowDataset], awake: Callable[..., NeuroHorizon], units: UnitTable
) -> None:
    model, batch = awake(), next(iter(open_windows(store)))
    states = model.states(batch, units)
    assert states.shape == (8, 5, 16)
    other: WindowBatch = replace(batch, counts=torch.full_like(batch.counts, 9), ema_hz=batch.ema_hz + 9)
    assert torch.equal(model.states(other, units), states)


@pytest.mark.parametrize("target", ["smell", "trials.smell", "licks.start_s"])
def test_what_no_session_has_is_named(target: str, run: Path, store: Path) -> None:
    with pytest.raises(UserError, match=f"no session of the run has '{target}'"):
        decode(run, store, target)


@pytest.mark.parametrize("target", ["true_rate_hz", "true_rate_hz.x", "true_rate_hz.999"])
def test_a_series_of_several_columns_wants_one_of_them(target: str, run: Path, store: Path) -> None:
    with pytest.raises(UserError, match=r"true_rate_hz has \d+ columns: name one: true_rate_hz\.0, true_rate_hz\.1"):
        decode(run, store, target)


def test_moments_that_were_not_measured_cost_no_others() -> None:
    time_s = np.arange(100) * 0.01
    value = np.column_stack([np.arange(100.0), -np.arange(100.0)])
    value[30] = np.nan
    value[60:80] = np.nan
    series = {"position": (time_s, value, "px")}
    session = SimpleNamespace(series=lambda: series, intervals=dict)
    of = _target(session, "position.1")
    np.testing.assert_allclose(of(np.array([0.105, 0.355, 0.795, 0.995]), 0.5), [-5.5, -275 / 9, np.nan, -94.5])


def test_a_session_without_it_is_left_out_and_named(
    recordings: list[Recording],
    make_store: Callable[..., Path],
    make_config: Callable[..., Config],
    tmp_path: Path,
) -> None:
    skipped: list[tuple[str, str]] = []
    path = make_store("mixed", [recordings[0], replace(recordings[1], series={})])
    train(path, make_config("train.max_steps=1"), tmp_path / "run")
    found = decode(tmp_path / "run", path, "wheel_velocity", on_skip=lambda *why: skipped.append(why))
    assert [one.session_id for one in found] == [recordings[0].session_id]
    assert skipped == [(recordings[1].session_id, "it has no wheel_velocity")]
