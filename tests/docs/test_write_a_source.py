"""The source of the how-to, installed as the how-to says, ingests the format that it invents."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "write-a-source.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What ``pip install .`` would leave of the package, on the path."""
    site = tmp_path / "site"
    info = site / "lab_spk-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "lab_spk.py").write_text(block("python"))
    project = tomllib.loads(block("toml"))["project"]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path]), "PATH": path}


def write_session(file: Path, seed: int) -> np.ndarray:
    """A session in the invented format; the counts of its units 1, 2 and 5."""
    rng = np.random.default_rng(seed)
    units = rng.choice([1, 2, 5], 500)
    head = block("text").split("\n0.0031")[0].replace("rat7-day3", f"rat7-day{seed}")
    lines = [f"{time:.4f} {unit}" for time, unit in zip(np.sort(rng.uniform(0, 60, 500)), units, strict=True)]
    file.write_text("\n".join([head, *lines]) + "\n")
    return np.bincount(units, minlength=6)[[1, 2, 5]]


def test_the_page_keeps_its_word(tmp_path: Path, environment: dict[str, str]) -> None:
    assert 55 <= len([line for line in block("python").splitlines() if line.strip()]) <= 75
    sessions = tmp_path / "sessions"
    sessions.mkdir()
    (sessions / "example.spk").write_text(block("text"))
    counts = {f"rat7-day{seed}": write_session(sessions / f"{seed}.spk", seed) for seed in (4, 5)}

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=environment, capture_output=True, text=True)

    ingest, sql = block("bash").strip().splitlines()
    done = run(ingest)
    assert done.returncode == 0, done.stderr
    rows = json.loads(run(f"{sql} --format json").stdout)
    expected = {name: int(of[0] + of[2]) for name, of in counts.items()} | {"rat7-day3": 2}
    assert {row["session_id"]: row["n_spikes"] for row in rows} == expected
    assert {(row["subject"], row["n_units"]) for row in rows} == {("rat7", 2)}
    info = json.loads(run("nhdata info rat7-day4 --store lab.zarr --json").stdout)
    assert info["provenance"]["dropped"] == {"rated mua": 1}
    assert [file["name"] for file in info["provenance"]["files"]] == ["4.spk"]

    write_session(sessions / "5.spk", 5)
    (sessions / "4.spk").write_text((sessions / "4.spk").read_text() + "59.9999 1\n")
    (sessions / "broken.spk").write_text("session = x\nunit one good CA1\n")
    again = run(f"{ingest} --existing refresh --json")
    assert again.returncode == 3
    report = json.loads(again.stdout)
    assert [one["session_id"] for one in report["ingested"]] == ["rat7-day4"]
    (failed,) = report["failed"]
    assert "broken.spk: not a whole .spk file" in failed["error"]
    assert "export the session again" in failed["error"]
