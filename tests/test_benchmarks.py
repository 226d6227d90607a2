"""Every benchmark runs once on little data, and peers that say what they found agree, so that none of them rots."""

import importlib
import inspect
import json
import math
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent / "benchmarks"
MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("bench_*.py"))


@pytest.fixture(scope="module")
def load() -> Iterator[Callable[[str], Any]]:
    """Import a module of benchmarks at a size of 20,000 spikes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NH_BENCH_SPIKES", "20000")
        patch.syspath_prepend(str(ROOT))
        yield lambda name: importlib.import_module(f"benchmarks.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", MODULES)
def test_every_benchmark_runs(
    name: str, load: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load(name)
    benches = [
        c for n, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__ and n[0] != "_"
    ]
    assert benches
    for bench in benches:
        methods = [n for n in dir(bench) if n.startswith(("time_", "track_", "peakmem_"))]
        assert any("_ours" in method for method in methods), f"{bench.__name__} measures nothing of ours"
        folder = tmp_path / bench.__name__
        folder.mkdir()
        monkeypatch.chdir(folder)
        cached = (bench().setup_cache(),) if hasattr(bench, "setup_cache") else ()
        cached += (bench.params[0],) if hasattr(bench, "params") else ()
        said = []
        for method in methods:
            one = bench()
            try:
                if hasattr(one, "setup"):
                    one.setup(*cached)
            except NotImplementedError:
                continue  # a peer that is not installed
            value = getattr(one, method)(*cached)
            if hasattr(one, "teardown"):
                one.teardown(*cached)
            if method.startswith("track_"):
                assert value > 0
            elif value is not None:
                said.append(value)
        for a, b in pairwise(said):
            if isinstance(a, list):
                assert a == b
            else:  # peers that count in float seconds move what lies on an edge
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=0.05)


RUN = {
    "commit_hash": "0123456789abcdef",
    "params": {"python": "3.11"},
    "result_columns": ["result", "params"],
    "results": {
        "bench_kernels.PopulationCoupling.time_numpy": [[0.5], []],
        "bench_kernels.PopulationCoupling.time_ours": [[0.002], []],
        "bench_kernels.PopulationCoupling.time_elephant": [None, []],
        "bench_ingest.FileSize.track_ours": [[2.0], []],
        "bench_ingest.FileSize.track_nwb_gzip": [[1.5], []],
        "bench_catalog.Count.peakmem_ours": [[2_000_000], []],
        "bench_loader.StreamOfABatch.time_ours": [[0.25, 0.5, math.nan], [["0", "1", "2"]]],
        "bench_loader.StreamOfABatch.time_torch_brain": [[1.0, math.nan, math.nan], [["0", "1", "2"]]],
    },
}


def results(folder: Path, run: dict[str, Any]) -> Path:
    """A folder of results as asv writes it."""
    (folder / "machine").mkdir()
    (folder / "machine" / "machine.json").write_text(json.dumps({"cpu": "made up", "num_cpu": "2"}))
    (folder / "machine" / "run.json").write_text(json.dumps(run))
    units = {"time": "seconds", "peakmem": "bytes", "track": "bytes/spike"}
    known = {
        name: {
            "params": params,
            "param_names": ["workers"] * len(params),
            "unit": units[name.split(".")[2].partition("_")[0]],
        }
        for name, (_, params) in run["results"].items()
    }
    (folder / "benchmarks.json").write_text(json.dumps(known | {"version": 2}))
    return folder


def test_the_table_pairs_ours_with_every_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    table = importlib.import_module("table")
    (tmp_path / "results").mkdir()
    assert table.main(results(tmp_path / "results", RUN)) == 0
    said = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if line[:1] == "|"]
    assert cells[2:] == [
        ["**ingest**", "", "", "", ""],
        ["file size", "2 bytes/spike", "nwb gzip", "1.5 bytes/spike", "0.75×"],
        ["**catalog**", "", "", "", ""],
        ["count, memory", "2M", "–", "–", "–"],
        ["**features**", "", "", "", ""],
        ["population coupling", "2.00ms", "numpy", "500ms", "250×"],
        ["population coupling", "2.00ms", "elephant", "–", "–"],
        ["**loader**", "", "", "", ""],
        ["stream of a batch, workers 0", "250ms", "torch brain", "1.00s", "4×"],
        ["stream of a batch, workers 1", "500ms", "torch brain", "–", "–"],
    ]
    assert (tmp_path / "table.md").read_text() == said.lstrip("\n")


def test_the_table_says_when_one_of_ours_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    table = importlib.import_module("table")
    with pytest.raises(FileNotFoundError, match="make bench"):
        table.main(tmp_path / "nowhere")
    (tmp_path / "results").mkdir()
    failed = {"bench_loader.Stream.time_ours": [None, [["0", "1"]]]}
    assert table.main(results(tmp_path / "results", RUN | {"results": failed})) == 1
    assert capsys.readouterr().err == "failed: bench_loader, stream, ours\n" * 2


def test_every_module_of_benchmarks_has_a_place_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    groups = importlib.import_module("table").GROUPS
    assert sorted(module for modules in groups.values() for module in modules) == MODULES


def test_the_gpu_benchmark_measures_both_models_and_skips_without_cuda(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    gpu = importlib.import_module("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    gpu.main()
    assert capsys.readouterr() == ("", "no CUDA device: nothing is measured\n")
    monkeypatch.setattr(
        sys,
        "argv",
        ["gpu.py", "--device", "cpu", "--preset", "tiny", "--windows", "2", "--steps", "1", "--peak-tflops", "1"],
    )
    gpu.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["model"] for row in rows] == ["neurohorizon tiny", "POYO as tiny"]
    assert all(row["spikes_per_s"] > 0 and row["n_parameters"] > 1e5 for row in rows)
    assert rows[0]["mfu"] == pytest.approx(rows[0]["tflop_per_step"] / rows[0]["step_s"])
