"""A small store, and a way to run commands as a shell does."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nhcli.data import cli as nhdata_cli
from nhcli.model import cli as nhmodel_cli
from nhdata.ingest import ingest
from nhdata.sources import SourceOptions

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated sessions of twelve units over one minute."""
    path = tmp_path_factory.mktemp("cli") / "data.zarr"
    ingest(path, "synthetic", [], options=SourceOptions(n_sessions=2, n_units=12, duration_s=60.0))
    return path


@pytest.fixture
def nhdata_run() -> Run:
    """Run ``nhdata`` with arguments; stdout and stderr are kept apart."""
    return lambda *args: CliRunner().invoke(nhdata_cli, [str(a) for a in args])


@pytest.fixture
def nhmodel_run() -> Run:
    """Run ``nhmodel`` with arguments."""
    return lambda *args: CliRunner().invoke(nhmodel_cli, [str(a) for a in args])
