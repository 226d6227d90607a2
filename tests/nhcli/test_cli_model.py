"""``nhmodel`` as a shell sees it: from a store to scores."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

Run = Callable[..., Result]
SMALL = [
    *("--set", "model.dim=16", "--set", "model.depth=1", "--set", "model.latents_per_step=2"),
    *("--set", "train.max_steps=6", "--set", "train.validate_every=3", "--set", "train.threads=1"),
]
ONE = "select unit_id from units where session_id like '%000'"


@pytest.fixture(scope="module")
def trained(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the first of two sessions."""
    from click.testing import CliRunner

    from nhcli.model import cli

    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("cli-run") / "run"
    done = CliRunner().invoke(cli, ["train", "--store", str(small_store), "--out", str(run), "--select", ONE, *SMALL])
    assert done.exit_code == 0, done.output
    return run


def test_evaluate_prints_every_model_and_every_way(
    trained: Path, small_store: Path, nhmodel_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nhmodel.evaluation.identity.MAX_STEPS", 20)
    args = ("evaluate", "--run", trained, "--store", small_store, "--select", "select unit_id from units")
    args += ("--reference-s", "30", "--baseline", "ewma", "--baseline", "rrr")
    done = nhmodel_run(*args)
    assert done.exit_code == 0, done.output
    for line in ("seen sessions", "sessions never seen", "neurohorizon, adapted", "neurohorizon, zero-shot", "rrr"):
        assert line in done.stdout
    value = json.loads(nhmodel_run(*args, "--regime", "zero-shot", "--json").stdout)
    assert {row["regime"] for row in value["scores"]} == {"seen", "zero-shot"}
    assert f"{value['n_windows']} windows" in done.stdout


def test_baselines_need_no_run(small_store: Path, nhmodel_run: Run, tmp_path: Path) -> None:
    args = ("baselines", "--store", small_store, "--baseline", "ewma", "--baseline", "psth")
    done = nhmodel_run(*args, "--html", tmp_path / "b.html")
    assert done.exit_code == 0, done.output
    assert "ewma" in done.stdout
    assert (tmp_path / "b.html").stat().st_size > 100_000
    value = json.loads(nhmodel_run(*args, "--set", "data.horizon_s=0.24", "--json").stdout)
    assert (value["schema"], value["horizon_s"]) == (1, 0.24)
    assert [row["model"] for row in value["scores"]] == ["null", "flat", "true_rate", "ewma", "psth"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--set", "data.horizon_s=0.25"), "horizon_s=0.25 is 12.5 bins of 0.02 s: use 0.24 or 0.26"),
        (("--select", "select unit_id from units where rate_hz > 1e9"), "no unit of"),
        (("--baseline", "magic"), "unknown baseline 'magic': choose from mean, "),
        (("--reference-s", "-1"), "a reference of -1.0 s"),
        (("--set", "data.history_s=100"), "no window of 100.0 + 0.5 s fits"),
    ],
)
def test_what_baselines_cannot_do_is_one_line(
    args: tuple[str, ...], message: str, small_store: Path, nhmodel_run: Run
) -> None:
    done = nhmodel_run("baselines", "--store", small_store, *args)
    assert done.exit_code == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_predict_and_embed_write_files(trained: Path, small_store: Path, nhmodel_run: Run, tmp_path: Path) -> None:
    every = "select unit_id from units"
    args = ("--run", trained, "--store", small_store, "--select", every, "--reference-s", "30", "--json")
    done = nhmodel_run("predict", *args, "--out", tmp_path / "rates.zarr", "--regime", "zero-shot")
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["session_ids"]) == 2
    again = nhmodel_run("predict", *args, "--out", tmp_path / "rates.zarr")
    assert (again.exit_code, again.stderr.count("\n")) == (1, 1)
    done = nhmodel_run("embed", *args, "--out", tmp_path / "units.parquet")
    assert json.loads(done.stdout) == {"schema": 1, "out": str(tmp_path / "units.parquet"), "n_units": 24, "dim": 16}


def test_train_prints_how_many_parameters_there_are(trained: Path, small_store: Path, nhmodel_run: Run) -> None:
    done = nhmodel_run("train", "--store", small_store, "--out", trained, "--select", ONE, *SMALL, "--resume", "--json")
    assert done.exit_code == 0, done.output
    n = json.loads(done.stdout)["n_parameters"]
    assert f"tiny: {n:,} parameters" in done.stderr
    assert 10_000 < n < 50_000


def test_report_of_a_run(trained: Path, small_store: Path, nhmodel_run: Run, tmp_path: Path) -> None:
    done = nhmodel_run("report", "--run", trained, "--out", tmp_path / "r.html", "--json")
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert (value["schema"], value["run"], value["store"]) == (1, str(trained), None)
    assert value["bytes"] == (tmp_path / "r.html").stat().st_size < 3_000_000
    done = nhmodel_run("report", "--run", trained, "--store", small_store, "--out", tmp_path / "scored.html")
    assert done.stdout == f"{tmp_path / 'scored.html'}\n"
    assert "reduced-rank ridge" in (tmp_path / "scored.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "scored.html"]


def test_what_cannot_be_reported_is_one_line(
    trained: Path, small_store: Path, nhmodel_run: Run, tmp_path: Path
) -> None:
    for run, out in ((tmp_path, "r.html"), (trained, "no/r.html")):
        done = nhmodel_run("report", "--run", run, "--store", small_store, "--out", tmp_path / out)
        assert done.exit_code == 1
        assert done.stderr.count("\n") == 1
    done = nhmodel_run("evaluate", "--run", trained, "--store", small_store, "--html", tmp_path / "no" / "r.html")
    assert (done.exit_code, done.stdout) == (1, "")
    assert not list(tmp_path.iterdir())
