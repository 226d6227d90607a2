"""A store behind the web app, with a hostile region and 120 units, and a run."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from nhdata.recording import Provenance, Recording, Spikes
from nhdata.sources.synthetic import simulate
from nhdata.store.commit import add_session
from nhdata.store.encode import encode
from nhdata.web.app import make_app
from nhmodel.config import Config
from nhmodel.report.pages import RunFolder
from nhmodel.run import RunInfo

TOKEN = "a-token-of-the-tests"
PORT = 8765
EVIL = "<!--<script></script><script>document.title='owned'</script>"


@pytest.fixture(scope="session")
def web_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("web") / "data.zarr"
    add_session(root, encode(simulate(np.random.default_rng(0), "sim", 0, 20, 60.0)))
    rng = np.random.default_rng(1)
    evil = Recording(
        source="lab",
        session_id="evil",
        spikes=Spikes(np.sort(rng.uniform(0, 30, 3000)), rng.integers(0, 100, 3000)),
        units={
            "cluster_id": np.arange(100),
            "probe": np.array([EVIL] * 100, dtype=object),
            "region": np.array([EVIL] * 100, dtype=object),
        },
        stop_s=30.0,
        provenance=Provenance((), {}, EVIL, {}),
        subject=EVIL,
    )
    add_session(root, encode(evil))
    return root


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run that trains, by a hostile selection and a hostile folder; one damaged."""
    folder = tmp_path_factory.mktemp("runs")
    info = RunInfo(
        config=Config(),
        query=f"select '{EVIL}'",
        unit_ids=("a", "b"),
        content_hash={"sim": "x"},
        fingerprint={},
        windows_hash={EVIL: "x"},
        split_hash={},
        held_out=(EVIL,),
        position=1,
        selection_hash="x",
    )
    for name in ("first", f"<b>{EVIL.replace('/', '')}"):
        (folder / name).mkdir()
        info.write(folder / name)
        lines = [{"step": k * 100, "minutes": k / 2, "loss": 1.0, "valid_fp_bps": 0.1 * k} for k in range(4)]
        (folder / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "damaged").mkdir()
    (folder / "damaged" / "run.json").write_text("{")
    return folder


@pytest.fixture(scope="module")
def client(web_root: Path, runs: Path) -> Iterator[TestClient]:
    """A browser that has opened the printed address."""
    base = f"http://127.0.0.1:{PORT}"
    with TestClient(make_app(str(web_root), TOKEN, PORT, RunFolder(runs), limit_s=60.0), base_url=base) as client:
        assert client.get("/", params={"token": TOKEN}).status_code == 200
        yield client


@pytest.fixture
def token() -> str:
    return TOKEN


@pytest.fixture
def evil() -> str:
    return EVIL
