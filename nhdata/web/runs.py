"""Training runs in a folder, from the plain JSON that they leave: nothing of a model is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_RUNS = 200
MAX_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run: how long it trained, and its validation score (fp-bps) over steps."""

    name: str
    n_units: int
    n_sessions: int
    query: str
    minutes: float | None
    steps: list[int]
    valid_fp_bps: list[float]

    @property
    def best(self) -> float | None:
        """The best validation score; None before the first."""
        return max(self.valid_fp_bps, default=None)


def list_runs(folder: Path) -> list[RunRow]:
    """Runs in `folder` and one folder below, newest first; what is no run, or damaged, is left out."""
    found = [*folder.glob("run.json"), *folder.glob("*/run.json"), *folder.glob("*/*/run.json")]
    found.sort(key=lambda path: -path.stat().st_mtime)
    rows = (_read(path.parent, folder) for path in found[:MAX_RUNS])
    return [row for row in rows if row is not None]


def _read(run: Path, folder: Path) -> RunRow | None:
    try:
        info = _json(run / "run.json")
        lines = [json.loads(line) for line in _text(run / "metrics.jsonl").splitlines() if line.strip()]
        scored = [line for line in lines if isinstance(line.get("valid_fp_bps"), int | float)]
        return RunRow(
            name=run.name if run == folder else str(run.relative_to(folder)),
            n_units=len(info["unit_ids"]),
            n_sessions=len(info["content_hash"]),
            query=str(info["query"]),
            minutes=float(lines[-1]["minutes"]) if lines else None,
            steps=[int(line["step"]) for line in scored],
            valid_fp_bps=[float(line["valid_fp_bps"]) for line in scored],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(_text(path))
    return value


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is too large")
    return path.read_text()
