"""Every benchmark runs once on little data, and peers that say what they found agree, so that none of them rots."""

import importlib
import inspect
import json
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
        assert methods, f"{bench.__name__} measures nothing"
        folder = tmp_path / bench.__name__
        folder.mkdir()
        monkeypatch.chdir(folder)
        cached = (bench().setup_cache(),) if hasattr(bench, "setup_cache") else ()
        cached += (bench.params[0],) if hasattr(bench, "params") else ()
        said = []
        for method in methods:
            one = bench()
            try:
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
