"""The model card: what a run is, where it comes from and how good it is, as Markdown in its folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from textwrap import indent
from typing import Any

import torch

from nhmodel.checkpoint import weights_hash, write_bytes
from nhmodel.evaluation.result import tables
from nhmodel.run import RunInfo

PACKAGES = ("neurohorizon", "numpy", "zarr", "duckdb")
COLUMNS = {
    "fp_bps": "fp-bps",
    "unit_bps": "per unit",
    "poisson_d2": "Poisson D²",
    "within_unit_r": "within-unit r",
}


def write_card(folder: Path, n_parameters: int, validation: Mapping[str, float | int]) -> None:
    """Write ``README.md`` of a run.

    Parameters
    ----------
    folder : path
    n_parameters : int
    validation : mapping
        ``step`` and ``fp_bps`` of the weights that were kept.
    """
    info = RunInfo.read(folder)
    data, model = info.config.data, info.config.model
    sessions = "\n".join(f"| {_plain(name)} | `{value[:16]}` |" for name, value in sorted(info.content_hash.items()))
    windows = "\n".join(f"| {split} | `{value[:16]}` |" for split, value in info.windows_hash.items())
    held_out = f"\nHeld out, to choose the weights: {', '.join(map(_plain, info.held_out))}.\n" if info.held_out else ""
    told = f"\nTold besides spikes: {', '.join(info.covariates)}.\n" if info.covariates else ""
    task = f"Forecasts the spike counts of {len(info.unit_ids)} units {data.horizon_s} s ahead"
    if data.task == "co-smoothing":
        task = f"Says what some of {len(info.unit_ids)} units do from the spikes of the others,"
    versions = ", ".join([*(f"{name} {version(name)}" for name in PACKAGES), f"torch {torch.__version__}"])
    lines = "".join(f"- {line}\n" for line in info.change_lines())
    changes = f"\nChanged on resumption:\n\n{lines}" if lines else ""
    text = f"""# NeuroHorizon, {n_parameters:,} parameters

{task} in bins of {data.bin_s} s, from
{data.history_s} s of spikes. Trained on {len(info.content_hash)} sessions; for research on such recordings only.

## Scores

Validation: {validation["fp_bps"]:.4f} bits per spike over each unit's training mean (step {validation["step"]}).
It chose the weights, so it is no test.
{_test_scores(folder)}
## Data

{indent(info.query, "    ")}

At position {info.position} of the catalog; hash of the units `{info.selection_hash[:16]}`. Of every session the
first 70 % were trained on, the next 10 % validated, the last 20 % are for tests, with a window's length between them.
{held_out}{told}
| session | content |
|---|---|
{sessions}

| windows | hash |
|---|---|
{windows}

## Settings

`{model.model_dump_json()}`

`{info.config.train.model_dump_json()}`
{changes}
{versions}
"""
    write_bytes(folder / "README.md", text.encode())


def add_scores(folder: Path, value: dict[str, Any]) -> None:
    """Keep an evaluation with a run, and show it in its card.

    Parameters
    ----------
    folder : path
    value : dict
        ``Evaluation.to_json(run) | Evaluation.pictures()``; the hash of the weights is kept with it.
    """
    kept = value | {"weights": weights_hash(folder / "best.safetensors")}
    write_bytes(folder / "scores.json", json.dumps(kept, allow_nan=False).encode())
    card = folder / "README.md"
    before, _, after = card.read_text().partition("\n## Data\n")
    head = before.split("\n### ")[0].rstrip()
    write_bytes(card, f"{head}\n{_test_scores(folder)}\n## Data\n{after}".encode())


def _test_scores(folder: Path) -> str:
    """Tables of the evaluation that is kept with a run, or nothing."""
    path = folder / "scores.json"
    if not path.exists():
        return ""
    value = json.loads(path.read_bytes())
    out = [""]
    for title, rows in tables(value).items():
        out += [f"### {title.capitalize()}, split {value['split']}", "", f"| | {' | '.join(COLUMNS.values())} |"]
        out += ["|---" * (1 + len(COLUMNS)) + "|"]
        for name, row in rows.items():
            cells = ("–" if row[key] is None else f"{row[key]:.3f}" for key in COLUMNS)
            out.append(f"| {name} | {' | '.join(cells)} |")
        out.append("")
    return "\n".join(out)


def _plain(name: str) -> str:
    """A name from a recording, so that Markdown shows it as it is."""
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", " ".join(name.split()))
