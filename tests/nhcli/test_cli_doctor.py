"""``nhdata doctor`` and ``nhdata completions``."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import zarr

from nhcli.data.doctor import Finding, _look


def test_a_sound_store(nhdata_run, small_store) -> None:
    result = nhdata_run("doctor", "--store", small_store, "--json")
    value = json.loads(result.stdout)
    assert value["schema"] == 1
    assert value["versions"]["zarr"] == zarr.__version__
    assert value["store"] == {
        "place": str(small_store), "sessions": 2, "log_position": 2, "checked": "structure", "problems": 0,
    }  # fmt: skip
    assert value["ok"] == (result.exit_code == 0) == (not value["findings"])
    said = nhdata_run("doctor", "--store", small_store)
    assert "torch_threads" in said.stdout
    assert "mend" in said.stderr


def test_a_damaged_store_is_found(nhdata_run, small_store, tmp_path) -> None:
    store = tmp_path / "data.zarr"
    shutil.copytree(small_store, store)
    shutil.rmtree(next((store / "sessions" / "synthetic").glob("sim*")))
    result = nhdata_run("doctor", "--store", store, "--json")
    value = json.loads(result.stdout)
    assert result.exit_code == 1
    assert any("missing" in finding["problem"] for finding in value["findings"])


def test_no_store_is_a_fault_only_where_one_was_named(nhdata_run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NHDATA_STORE", raising=False)
    value = json.loads(nhdata_run("doctor", "--json").stdout)
    assert value["store"]["sessions"] is None
    assert not any("no store" in finding["problem"] for finding in value["findings"])
    result = nhdata_run("doctor", "--store", "none.zarr", "--json")
    assert result.exit_code == 1
    assert any("no store" in finding["problem"] for finding in json.loads(result.stdout)["findings"])


def test_what_is_to_mend() -> None:
    sections = {
        "versions": {"zarr": None, "numpy": "2"},
        "machine": {"torch_threads": 8, "cpus_usable": 2},
        "disk": {"temporary_free_gb": 100.0, "store_free_gb": 1.0},
    }
    problems = [finding.problem for finding in _look(sections)]
    assert problems == [
        "the package zarr is not installed",
        "1.0 GB free on the disk (store_free_gb)",
        "torch uses 8 threads on 2 CPUs",
    ]
    assert _look(sections)[2] == Finding(problems[2], "set OMP_NUM_THREADS=2")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_for_both_commands(nhdata_run, shell) -> None:
    text = nhdata_run("completions", shell).stdout
    assert f"_NHDATA_COMPLETE={shell}_complete" in text
    assert f"_NHMODEL_COMPLETE={shell}_complete" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_takes_them(nhdata_run, shell, tmp_path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    script = tmp_path / "completions"
    script.write_text(nhdata_run("completions", shell).stdout)
    subprocess.run([shell, "-n", script], check=True)


def test_what_bash_is_told() -> None:
    env = os.environ | {"_NHDATA_COMPLETE": "bash_complete", "COMP_WORDS": "nhdata re", "COMP_CWORD": "1"}
    nhdata = Path(sys.executable).parent / "nhdata"
    told = subprocess.run([nhdata], env=env, capture_output=True, text=True, check=True).stdout
    assert told.split() == ["plain,report"]
