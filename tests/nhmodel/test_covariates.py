"""What a model is told besides spikes: of the past alone, there or not there, and nothing where it is not asked for."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nhcatalog.errors import UserError
from nhdata.loading import WindowBatch, WindowDataset
from nhdata.loading.selection import select_units
from nhdata.recording import Recording, Series
from nhdata.store.commit import add_session
from nhdata.store.encode import encode
from nhdata.store.store import open_store
from nhmodel.config import Config, load_config
from nhmodel.covariates import read_embeddings
from nhmodel.data import open_windows
from nhmodel.layers.covariates import Covariate
from nhmodel.model import NeuroHorizon, UnitTable
from nhmodel.run import RunInfo, load
from nhmodel.training import train
from nhmodel.units import rows_by_id, unit_table

NAMES = ("wheel_velocity", "trials.contrast@stim_on_s", "movie.frame")
END_S = 80.0
FRAMES = np.random.default_rng(1).normal(size=(9, 5)) * 3 + 7


@pytest.fixture(scope="module")
def told(recordings: list[Recording]) -> list[Recording]:
    """A session that has all covariates, and one that has none."""
    start_s = np.arange(0, 89, 0.125)
    movie = {"start_s": start_s, "stop_s": start_s + 0.125, "frame": np.arange(len(start_s)) % 10 - 1}  # -1 is none
    first = replace(recordings[0], intervals={**recordings[0].intervals, "movie": movie})
    return [first, replace(recordings[1], series={}, intervals={})]


@pytest.fixture(scope="module")
def config(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Config:
    path = tmp_path_factory.mktemp("frames") / "frames.npy"
    np.save(path, FRAMES)
    return make_config(
        *("train.max_steps=16", "train.validate_every=8", "train.lr=0.01", f"data.covariates={list(NAMES)}"),
        f"data.embeddings={{'movie.frame' = '{path}'}}",
    )


@pytest.fixture(scope="module")
def told_store(told: list[Recording], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("told") / "data.zarr"
    for recording in told:
        add_session(path, encode(recording))
    return path


@pytest.fixture(scope="module")
def told_run(told_store: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "told"
    train(told_store, config, folder)
    return folder


def opened(store: Path, config: Config, split: str = "all", where: str = "true") -> WindowDataset:
    found = open_store(store)
    return open_windows(found.path, select_units(found, f"select unit_id from units where {where}"), config, split)


@pytest.fixture(scope="module")
def model(told_run: Path) -> NeuroHorizon:
    return load(told_run)


@pytest.fixture(scope="module")
def known(told_store: Path, config: Config) -> UnitTable:
    windows = opened(told_store, config, "train")
    return unit_table(windows, rows_by_id(windows.unit_ids))


@torch.no_grad()
def until_end(model: NeuroHorizon, windows: WindowDataset, known: UnitTable) -> Tensor:
    """Forecasts of the first session's windows whose history ends by `END_S`; that of the last ends there."""
    marks = windows.plan().windows
    batch = windows.collate(marks[(marks[:, 0] == 0) & (marks[:, 1] <= END_S * 30000)])
    assert batch.t_s[-1] == END_S
    return model(batch, known)


def with_other_future(recording: Recording) -> Recording:
    """The same spikes; from `END_S` on, that very moment included, all covariates are others."""
    wheel, trials, movie = recording.series["wheel_velocity"], *map(recording.intervals.get, ("trials", "movie"))
    assert trials is not None
    assert movie is not None
    trials = {name: np.append(values, values[-1:]) for name, values in trials.items()}
    trials["stim_on_s"][-1] = END_S
    at = wheel.time_s >= END_S, trials["stim_on_s"] >= END_S, movie["start_s"] >= END_S
    assert END_S in wheel.time_s
    assert END_S in movie["start_s"]
    return replace(
        recording,
        series={"wheel_velocity": Series(wheel.time_s, np.where(at[0], 99.0, wheel.value), "rad/s")},
        intervals={
            "trials": {**trials, "contrast": np.where(at[1], 5.0, trials["contrast"])},
            "movie": {**movie, "frame": np.where(at[2], 7 - movie["frame"], movie["frame"])},
        },
    )


class Leaky(WindowDataset):
    """A loader whose covariates are those of a bin later."""

    def collate(self, windows: NDArray[np.int64]) -> WindowBatch:
        return replace(super().collate(windows), covariates=self.covariates(windows + np.array([0, 600]))[0])


def test_the_future_of_covariates_cannot_reach_the_forecast(
    model: NeuroHorizon, config: Config, told: list[Recording], known: UnitTable, make_store: Callable[..., Path]
) -> None:
    """And a loader that leaks them is found out."""
    stores = make_store("a", told), make_store("b", [with_other_future(told[0]), told[1]])
    before, after = (opened(store, config) for store in stores)
    assert torch.equal(until_end(model, before, known), until_end(model, after, known))
    for windows in (before, after):
        windows.__class__ = Leaky
    assert not torch.equal(until_end(model, before, known), until_end(model, after, known))


@torch.no_grad()
def test_each_covariate_is_used_and_can_be_left_out(
    model: NeuroHorizon, config: Config, told_store: Path, known: UnitTable
) -> None:
    batch = next(iter(opened(told_store, config, "test", "session_id like '%000'")))
    full = model(batch, known)
    for name in NAMES:
        without = model(batch, known, without=[name])
        assert not torch.equal(without, full)
        other = replace(batch, covariates=batch.covariates | {name: batch.covariates[name] + 1})
        assert not torch.equal(model(other, known), full)
        assert torch.equal(model(other, known, without=[name]), without)
        masked = replace(
            batch, covariates_mask=batch.covariates_mask | {name: torch.zeros_like(batch.covariates_mask[name])}
        )
        torch.testing.assert_close(model(masked, known), without, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_session_without_covariates_is_forecast_as_if_all_were_left_out(
    model: NeuroHorizon, config: Config, told_store: Path, known: UnitTable
) -> None:
    alone = opened(told_store, config, "test", "session_id like '%001'")
    batch = next(iter(alone))
    assert batch.covariates == {}, "none of its sessions has one"
    theirs = UnitTable(*(x[12:] for x in known))
    assert torch.equal(model(batch, theirs), model(batch, theirs, without=NAMES))
    both = opened(told_store, config, "test")
    marks = both.plan().windows
    mixed = both.collate(marks[marks[:, 0] == 1][: len(batch)])
    assert set(mixed.covariates) == set(NAMES)
    torch.testing.assert_close(model(mixed, known), model(batch, theirs), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_readouts_of_behaviour_hear_spikes_alone(
    model: NeuroHorizon, config: Config, told_store: Path, known: UnitTable
) -> None:
    batch = next(iter(opened(told_store, config, "test")))
    other = replace(batch, covariates={name: value + 1 for name, value in batch.covariates.items()})
    assert torch.equal(model.states(other, known), model.states(batch, known))


def test_statistics_are_those_of_training_windows_and_travel_in_the_weights(
    model: NeuroHorizon, config: Config, told_store: Path, told_run: Path
) -> None:
    assert f"Told besides spikes: {', '.join(NAMES)}." in (told_run / "README.md").read_text()
    assert RunInfo.read(told_run).covariates == {NAMES[0]: (1,), NAMES[1]: (4,), NAMES[2]: (9, 5)}
    windows = opened(told_store, config, "train")
    batches = list(windows)
    assert model.covariates is not None
    for covariate, name in zip(model.covariates.each, NAMES, strict=True):
        assert isinstance(covariate, Covariate)
        mask = torch.cat([b.covariates_mask[name] for b in batches])
        values = torch.cat([b.covariates[name] for b in batches])[mask].numpy()
        if name == "movie.frame":
            assert values.min() == -1
            values = FRAMES[values[values[:, 0] >= 0, 0].astype(int)]
            np.testing.assert_array_equal(covariate.table, FRAMES.astype(np.float32))
        np.testing.assert_allclose(covariate.mean, values.mean(0), rtol=1e-4, atol=1e-5)
        expected = np.where(values.std(0) > 1e-6 * (1 + abs(values.mean(0))), values.std(0), 1)
        np.testing.assert_allclose(covariate.std, expected, rtol=1e-4)


def test_a_run_goes_on_where_it_was_left(told_store: Path, told_run: Path, config: Config, tmp_path: Path) -> None:
    """Half of it and the rest are the whole, dropout of covariates included."""
    half = config.model_copy(update={"train": config.train.model_copy(update={"patience": 1})})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nhmodel.training.loop._finished", lambda standing, settings: standing.step >= 8)
        train(told_store, half, tmp_path / "run")
    train(told_store, config, tmp_path / "run", resume=True)
    whole, resumed = (load(run, "last").state_dict() for run in (told_run, tmp_path / "run"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_run_of_before_covariates_loads_and_says_the_same(
    run: Path, store: Path, run_config: Config, tmp_path: Path
) -> None:
    """Its settings and its weights know nothing of them."""
    old = shutil.copytree(run, tmp_path / "old")
    values = json.loads((old / "run.json").read_text())
    del values["covariates"]
    for section, names in (("data", ("covariates", "embeddings")), ("model", ("covariate_dropout",))):
        for name in names:
            del values["config"][section][name]
    (old / "run.json").write_text(json.dumps(values))
    assert RunInfo.read(old) == RunInfo.read(run)
    model = load(old)
    for shape in ([0], [1, 2, 3], "x", [-1]):
        (old / "run.json").write_text(json.dumps(values | {"covariates": {"a": shape}}))
        with pytest.raises(UserError, match="is damaged"):
            load(old)
    (old / "run.json").write_text(json.dumps(values))
    assert not any("covariate" in name for name in model.state_dict())
    train(store, run_config, old, resume=True)


def test_one_that_is_not_used_changes_no_number_of_training(make_config: Callable[..., Config]) -> None:
    """The same seed makes the same weights, with and without."""
    weights = []
    for covariates in (None, {"wheel_velocity": (1,)}):
        torch.manual_seed(0)
        config = make_config()
        weights.append(NeuroHorizon(config.model, config.data, 5, covariates).state_dict())
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())
    assert len(weights[1]) > len(weights[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros(3), r"is no array of numbers \(frames, dim\)"),
        (np.array([["a"]]), "is no array of numbers"),
        (np.array([[1.0, np.nan]]), "holds values that are not finite"),
        (np.zeros((0, 4)), "is no array of numbers"),
        (np.array([[{}]], dtype=object), "allow_pickle"),
    ],
)
def test_an_array_that_is_none_is_refused(content: NDArray[np.generic], message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", content)
    with pytest.raises(UserError, match=message):
        read_embeddings(str(tmp_path / "frames.npy"))


def test_settings_that_make_no_sense_are_named(
    told_store: Path, config: Config, tmp_path: Path, make_config: Callable[..., Config]
) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_embeddings(str(tmp_path / "nowhere.npy"))
    with pytest.raises(UserError, match="a covariate is named twice"):
        load_config("tiny", ["data.covariates=['a', 'a']"])
    with pytest.raises(UserError, match="covariates are for forecasts alone"):
        load_config("tiny", ["data.task=co-smoothing", "data.covariates=['a']"])
    with pytest.raises(UserError, match=r"'a.b' is no column among data.covariates"):
        load_config("tiny", ["data.embeddings={'a.b' = 'x.npy'}"])
    with pytest.raises(UserError, match="no selected session has a series 'wheel_velocty'"):
        train(told_store, make_config("data.covariates=['wheel_velocty']"), tmp_path / "run")
    np.save(tmp_path / "few.npy", FRAMES[:4])
    short = config.data.model_copy(update={"embeddings": {"movie.frame": str(tmp_path / "few.npy")}})
    with pytest.raises(UserError, match=r"movie.frame is 8, of an array of 4 frames"):
        train(told_store, config.model_copy(update={"data": short}), tmp_path / "run")
