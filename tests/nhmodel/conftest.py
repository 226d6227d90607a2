"""One small simulated store, stores that differ in chosen spikes, and a small model that says something."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from nhcatalog.catalog import Catalog
from nhdata.ingest import ingest
from nhdata.loading import WindowDataset
from nhdata.recording import Recording
from nhdata.sources import SourceOptions
from nhdata.sources.synthetic import SyntheticSource
from nhdata.store.rows import catalog_rows
from nhdata.store.session import Session
from nhdata.store.write import create_store, publish, staged, write_session
from nhmodel.config import Config, DataConfig, load_config
from nhmodel.model import NeuroHorizon, UnitTable
from nhmodel.units import rows_by_id, unit_table

OPTIONS = SourceOptions(n_sessions=3, n_units=12, duration_s=90.0)
SMALL = (
    *("model.dim=16", "model.depth=1", "model.latent_step_s=0.1", "model.latents_per_step=2"),
    *("model.head_hidden=16", "model.rank=4", "train.threads=1"),
)


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


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[[str, Sequence[Recording]], Path]:
    """Write recordings, edited or not, to a new store."""

    def make(name: str, recordings: Sequence[Recording]) -> Path:
        root = tmp_path / name
        create_store(root)
        for recording in recordings:
            with staged(root) as folder:
                attributes = write_session(folder, recording)
                row, tables = catalog_rows(Session(folder))
                path = publish(root, folder, attributes)
            Catalog(root / "catalog").add(row, tables, path=path, content_hash=attributes["content_hash"])
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
