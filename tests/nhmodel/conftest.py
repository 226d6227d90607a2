"""One small simulated store, stores that differ in chosen spikes, and a small model that says something."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nhdata.ingest import ingest
from nhdata.loading import WindowDataset
from nhdata.recording import Recording
from nhdata.sources import SourceOptions
from nhdata.sources.synthetic import SyntheticSource
from nhdata.store.commit import add_session
from nhdata.store.encode import encode
from nhmodel.baselines.gru import Gru
from nhmodel.config import Config, DataConfig, load_config
from nhmodel.model import NeuroHorizon, UnitTable
from nhmodel.training import train
from nhmodel.units import rows_by_id, unit_table

OPTIONS = SourceOptions(n_sessions=3, n_units=12, duration_s=90.0)
SMALL = (
    *("model.dim=16", "model.depth=1", "model.latent_step_s=0.1", "model.latents_per_step=2"),
    *("model.head_hidden=16", "model.rank=4", "train.threads=1", "train.tensorboard=false"),
)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small models on busy machines: a second thread waits more than it works."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def brief_gru() -> Iterator[None]:
    """Enough steps of that baseline to find what is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gru, "max_steps", 200)
        patch.setattr(Gru, "patience_steps", 75)
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sessions of 12 units and 90 s."""
    path = tmp_path_factory.mktemp("store") / "data.zarr"
    assert len(ingest(path, "synthetic", [], options=OPTIONS).ingested) == 3
    return path


@pytest.fixture(scope="session")
def recordings() -> list[Recording]:
    """What is in `store`, in memory."""
    source = SyntheticSource(OPTIONS)
    return [source.load(ref) for ref in source.iter_sessions([])]


@pytest.fixture(scope="session")
def stranger() -> Recording:
    """A session that no run was trained on."""
    source = SyntheticSource(SourceOptions(n_sessions=1, n_units=10, duration_s=90.0, seed=7))
    (ref,) = source.iter_sessions([])
    return source.load(ref)


@pytest.fixture(scope="session")
def with_other_future() -> Callable[[Recording, float], Recording]:
    """The same recording until a time; from then on other spikes of other units, and twice as many."""

    def change(recording: Recording, from_s: float) -> Recording:
        rng = np.random.default_rng(0)
        time, unit = recording.spikes.time, recording.spikes.unit
        first, stop = round(from_s * 30000), round(recording.stop_s * 30000)
        kept = time < first
        n = 2 * int((~kept).sum())
        spikes = replace(
            recording.spikes,
            time=np.concatenate([time[kept], [first], rng.integers(first, stop, n)]),
            unit=np.concatenate([unit[kept], [0], rng.integers(0, recording.n_units, n)]),
        )
        return replace(recording, spikes=spikes)

    return change


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[[str, Sequence[Recording]], Path]:
    """Write recordings, edited or not, to a new store."""

    def make(name: str, recordings: Sequence[Recording]) -> Path:
        root = tmp_path / name
        for recording in recordings:
            add_session(root, encode(recording))
        return root

    return make


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    """Settings of a model that trains in seconds, changed by ``section.key=value``."""
    return lambda *settings: load_config("tiny", [*SMALL, *settings])


@pytest.fixture(scope="session")
def open_windows() -> Callable[..., WindowDataset]:
    """Unshuffled windows of a store, as evaluation reads them."""

    def make(
        store: Path, split: str = "test", *, kind: type[WindowDataset] = WindowDataset, **changes: Any
    ) -> WindowDataset:
        usual = {"split": split, "shuffle": False, "ema_tau_s": DataConfig().ema_tau_s, "batch_size": 8}
        return kind(store, **usual | changes)

    return make


@pytest.fixture(scope="session")
def units(store: Path, open_windows: Callable[..., WindowDataset]) -> UnitTable:
    """Features, means and rows of all 36 units of `store`."""
    known = open_windows(store, "train")
    return unit_table(known, rows_by_id(known.unit_ids))


@pytest.fixture(scope="session")
def awake(make_config: Callable[..., Config], units: UnitTable) -> Callable[..., NeuroHorizon]:
    """A model for `store` whose residual is not zero, so that its forecasts depend on what it is given."""

    def make(*settings: str) -> NeuroHorizon:
        torch.manual_seed(0)
        config = make_config(*settings)
        model = NeuroHorizon(config.model, config.data, len(units.row))
        if model.identity.encoder is not None:
            model.identity.encoder.fit_normaliser(units.features.numpy())
        with torch.no_grad():
            for weight in model.head.parameters():
                if not weight.any():
                    weight.normal_(0, 0.03)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def run_config(make_config: Callable[..., Config]) -> Config:
    """30 steps of training, over two epochs and a half."""
    return make_config("train.max_steps=30", "train.validate_every=8", "train.lr=0.01")


@pytest.fixture(scope="session")
def run(store: Path, run_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on `store` that nothing interrupted; not to be written to."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(store, run_config, folder)
    return folder


@pytest.fixture(scope="session")
def metrics() -> Callable[[Path], list[dict[str, Any]]]:
    """The lines of a run's ``metrics.jsonl``, but for the time they took."""

    def read(run: Path) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in line.items() if k != "minutes"} for line in lines]

    return read
