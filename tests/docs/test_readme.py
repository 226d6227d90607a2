"""The README's commands and code run as they stand, on a small recording."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nhdata.sources.synthetic import simulate

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``sorted/``: 12 simulated units of two minutes, as Kilosort writes them."""
    folder = tmp_path_factory.mktemp("readme")
    recording = simulate(np.random.default_rng(0), "readme", 0, 12, 120.0)
    (folder / "sorted").mkdir()
    order = np.argsort(recording.spikes.time, kind="stable")
    np.save(folder / "sorted" / "spike_times.npy", recording.spikes.time[order])
    np.save(folder / "sorted" / "spike_clusters.npy", recording.spikes.unit[order].astype(np.int32))
    rows = "".join(f"{k}\tgood\n" for k in range(12))
    (folder / "sorted" / "cluster_group.tsv").write_text(f"cluster_id\tgroup\n{rows}")
    return folder


def run(script: str, folder: Path, *shell: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*shell, script], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_blocks_run(folder: Path) -> None:
    (commands,) = blocks("bash")
    assert "train.max_minutes=4" in commands
    said = run(commands.replace("train.max_minutes=4", "train.max_steps=10"), folder, "bash", "-ec")
    assert "neurohorizon" in said
    assert "glm_coupled" in said
    assert (folder / "first.html").stat().st_size > 100_000
    (code,) = blocks("python")
    run(
        code + "\nassert len(batch) == 64 and counts.shape[1] == 12 and len(features.feature) == 33\n",
        folder,
        sys.executable,
        "-c",
    )


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
