"""One table of what asv measured last: each of ours beside its peers.

    python benchmarks/table.py            # from this folder's .asv; also written to .asv/table.md

A class of benchmarks is one piece of work. Its methods are named ``<time|track|peakmem>_<who>``: ``ours`` or
``ours_<variant>``, and peers by their names. Every one of ours is put beside every peer that was measured in the same
way; the ratio says how many times as much the peer needs. A dash: skipped, or failed, as what is not installed does;
where all of a line was skipped, it is left out.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from asv.util import human_value

RESULTS = Path(__file__).with_name(".asv") / "results"
GROUPS = {
    "ingest": ("bench_ingest",),
    "catalog": ("bench_catalog", "bench_sql"),
    "features": ("bench_features", "bench_kernels"),
    "loader": ("bench_loader",),
    "training step": ("bench_training",),
    "start-up": ("bench_startup",),
    "report": ("bench_report",),
    "S3": ("bench_s3",),
}
HEAD = ("work", "ours", "peer", "", "peer / ours")


class Measured(NamedTuple):
    """One number: who needed how much for which work; `value` is NaN where it was skipped, None where it failed."""

    module: str
    work: str
    kind: str
    who: str
    params: str
    unit: str
    value: float | None

    @property
    def is_ours(self) -> bool:
        return self.who.partition(" ")[0] == "ours"


def read(results: Path) -> tuple[str, list[Measured]]:
    """What the latest run left in asv's folder of results: a line on the machine, and all that was measured.

    Raises
    ------
    FileNotFoundError
        If nothing was run.
    """
    runs = [path for path in results.glob("*/*.json") if path.name != "machine.json"]
    if not runs:
        raise FileNotFoundError(f"no results in {results}: make bench")
    latest = max(runs, key=lambda path: path.stat().st_mtime)
    run = json.loads(latest.read_text())
    known = json.loads((results / "benchmarks.json").read_text())
    machine = json.loads(latest.with_name("machine.json").read_text())
    line = f"{machine['num_cpu']} × {machine['cpu']}, Python {run['params']['python']}, commit {run['commit_hash'][:8]}"
    found = []
    for name, row in run["results"].items():
        about = known[name]
        values, params = dict(zip(run["result_columns"], row, strict=False))["result"], about["params"]
        module, work, method = name.split(".")
        kind, _, who = method.partition("_")
        labels = [", ".join(f"{n} {v}" for n, v in zip(about["param_names"], p, strict=True)) for p in product(*params)]
        for label, value in zip(labels, values or [None] * len(labels), strict=True):
            found.append(Measured(module, _words(work), kind, _words(who), label, about["unit"], value))
    return line, found


def rows(found: Sequence[Measured]) -> Iterator[tuple[str, ...]]:
    """The cells of `HEAD`: each of ours beside each peer, or by itself where it has none."""
    for ours in found:
        if not ours.is_ours:
            continue
        peers = [
            peer
            for peer in found
            if not peer.is_ours and (peer[:3], peer.params) == (ours[:3], ours.params)  # module, work and kind
        ]
        variant = ours.who.removeprefix("ours").strip()
        memory = "memory" if ours.kind == "peakmem" and "memory" not in ours.work else ""
        work = ", ".join(part for part in (ours.work, variant, memory, ours.params) if part)
        for peer in peers or [None]:
            if skipped(ours) and (peer is None or skipped(peer)):
                continue
            yield (
                work,
                shown(ours.value, ours.unit),
                peer.who if peer else "–",
                shown(peer.value, peer.unit) if peer else "–",
                ratio(peer.value, ours.value) if peer else "–",
            )


def table(found: Sequence[Measured]) -> str:
    """Markdown, with one part for each of `GROUPS`."""
    parts: list[tuple[str, ...]] = []
    for group, modules in GROUPS.items():
        inside = list(rows([one for one in found if one.module in modules]))
        parts += [(f"**{group}**", "", "", "", ""), *inside] if inside else []
    width = [max(map(len, column)) for column in zip(HEAD, *parts, strict=True)]
    lines = [" | ".join(cell.ljust(w) for cell, w in zip(line, width, strict=True)) for line in (HEAD, *parts)]
    rule = " | ".join("-" * w for w in width)
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:])) + "\n"


def skipped(one: Measured) -> bool:
    """Whether nobody asked for this number, or it cannot be had here; a failure is something else."""
    return one.value is not None and math.isnan(one.value)


def shown(value: float | None, unit: str) -> str:
    """Three digits, in the unit that suits."""
    if value is None or math.isnan(value):
        return "–"
    return human_value(value, unit) if unit in ("seconds", "bytes") else f"{value:.3g} {unit}"


def ratio(peer: float | None, ours: float | None) -> str:
    """How many times as much the peer needs."""
    if not peer or not ours or math.isnan(peer) or math.isnan(ours):
        return "–"
    return f"{peer / ours:.2g}×" if peer < 100 * ours else f"{peer / ours:,.0f}×"


def _words(name: str) -> str:
    """``ReferenceFeatures`` and ``loader_with_averages`` as words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name).replace("_", " ").lower()


def main(results: Path = RESULTS) -> int:
    """Print the table; 1 where one of ours failed."""
    line, found = read(results)
    text = table(found)
    print(f"\n{text}\n{line}")
    (results.parent / "table.md").write_text(f"{text}\n{line}\n")
    failed = [f"{one.module}, {one.work}, {one.who}" for one in found if one.is_ours and one.value is None]
    for one in failed:
        print(f"failed: {one}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
