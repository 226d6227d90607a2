"""The page of a run and of scores: whole, of what was kept, and hostile text stays text."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nhcatalog.errors import UserError
from nhdata.report.page import to_html
from nhmodel.baselines import BASELINES
from nhmodel.card import add_scores, write_card
from nhmodel.evaluation import evaluate, evaluate_baselines
from nhmodel.evaluation.result import Evaluation
from nhmodel.report.draw_scores import LABELS, verdicts
from nhmodel.report.kept import Curves, KeptRun
from nhmodel.report.pages import RunFolder, run_page, scores_page
from nhmodel.run import RunInfo


@pytest.fixture(scope="module")
def scored(run: Path, store: Path) -> Evaluation:
    return evaluate(run, store)


@pytest.fixture(scope="module")
def value(scored: Evaluation) -> dict:
    """What is kept of an evaluation, as it comes back from a file."""
    return json.loads(json.dumps(scored.to_json("run") | scored.pictures(), allow_nan=False))


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_that_was_scored(run: Path, value: dict) -> None:
    page = to_html(run_page(KeptRun.read(run), value))
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    assert len(page) < 3_000_000
    for heading in (
        "Scores, seen",
        "How far ahead",
        "By region",
        "By session",
        "Predicted against",
        "Training",
        "Data",
    ):
        assert f"<h2>{heading}" in page, heading
    for name in BASELINES:
        assert f'<td class="l">{LABELS[name]}</td>' in page or name == "psth", name
    info = RunInfo.read(run)
    assert all(digest[:16] in page for digest in (*info.content_hash.values(), *info.windows_hash.values()))
    (mine,) = (row for row in value["scores"] if row["model"] == "neurohorizon")
    assert f'<td class="r">{mine["fp_bps"]:.3f}'.replace("-", "−") in page


def test_a_run_that_was_not(run: Path) -> None:
    page = run_page(KeptRun.read(run))
    assert page.panels[0].title == "Training"
    assert "--store" in page.notes[0]


def test_what_covariates_are_worth_is_shown(run: Path, value: dict) -> None:
    part = {"fp_bps": 0.5, "fp_bps_without": 0.25, "delta_fp_bps": 0.25, "ci95": [None, None], "n_units": 7}
    row = {"covariate": "<b>wheel", "regime": "seen", "n_sessions": 1, **part, "regions": [{"region": "CA1", **part}]}
    page = run_page(KeptRun.read(run), value | {"covariates": [row, row | {"regime": "zero-shot"}]})
    (panel,) = (panel for panel in page.panels if panel.title == "Covariates")
    assert panel.table is not None
    assert panel.table.rows[1] == ("<b>wheel", "seen", "CA1", 7, "0.500", "0.250", "0.250", "–")
    assert len(panel.table.rows) == 4
    assert "<b>wheel" not in to_html(page)


def test_a_split_that_is_no_test_is_called_so(run: Path, value: dict) -> None:
    assert not any("no fair test" in note for note in run_page(KeptRun.read(run), value).notes)
    assert "no fair test" in run_page(KeptRun.read(run), value | {"split": "valid"}).notes[-1]


def test_scores_are_kept_with_a_run_and_told_when_stale(copied: Path, value: dict) -> None:
    add_scores(copied, value)
    kept = run_page(KeptRun.read(copied))
    assert kept.panels[0].title == "Scores, seen sessions"
    assert kept.notes == verdicts(value)
    (copied / "best.safetensors").unlink()
    assert "other weights" in run_page(KeptRun.read(copied)).notes[-1]


def test_baselines_alone_make_a_page(store: Path, run: Path) -> None:
    result = evaluate_baselines(store, RunInfo.read(run).config, baselines=["mean", "ewma"])
    page = to_html(scores_page(result.to_json(None) | result.pictures()))
    assert f'<td class="l">{LABELS["ewma"]}</td>' in page
    assert "NeuroHorizon" not in re.sub(r"<script>.*?</script>", "", page, flags=re.S)


EVIL = "</script><script>document.title='owned'</script>"


def test_hostile_names_stay_text(run: Path, value: dict) -> None:
    text = (
        json.dumps(value).replace("sim-n12-t90-s0-000", json.dumps(EVIL)[1:-1]).replace("CA1", json.dumps(EVIL)[1:-1])
    )
    page = to_html(run_page(KeptRun.read(run), json.loads(text)))
    assert EVIL not in page
    assert page.count("</script>") == 2


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("run.json", "{", "run.json"),
        ("run.json", '{"schema": 1}', "not of schema"),
        ("metrics.jsonl", '{"step": 1}\n{"st\n', "line 2 is damaged"),
        ("metrics.jsonl", "7\n8\n", "line 1 is damaged"),
        ("scores.json", "{", "scores.json is damaged"),
        ("scores.json", '{"schema": 9}', "not of schema"),
        ("scores.json", '{"schema": 1}', "are damaged"),
        ("scores.json", '{"schema": 1, "scores": [7]}', "are damaged"),
    ],
)
def test_what_is_damaged_is_one_line(copied: Path, name: str, content: str, problem: str) -> None:
    (copied / name).write_text(content)
    with pytest.raises(UserError, match=problem) as told:
        run_page(KeptRun.read(copied))
    assert "\n" not in told.value.problem
    overview = RunFolder(copied.parent).overview()
    assert overview.panels[0].table is not None
    assert overview.panels[0].table.rows[0][0] == "run"


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "m").write_text('{"step": 0, "minutes": 0, "loss": null, "valid_fp_bps": 0.5}\n{"step": 10, "lo')
    curves = Curves.read(tmp_path / "m")
    assert curves.step == [0]
    assert (curves.deciding, curves.best) == ([0.5], 0)
    assert Curves.read(tmp_path / "none").best is None


def test_what_chose_the_weights_is_the_best(tmp_path: Path) -> None:
    rows = [{"step": k, "minutes": k, "loss": 1.0, "valid_fp_bps": k, "unseen_fp_bps": -k} for k in range(3)]
    (tmp_path / "m").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curves = Curves.read(tmp_path / "m")
    assert (curves.deciding, curves.best) == ([0, -1, -2], 0)


def test_a_folder_of_runs(copied: Path, value: dict) -> None:
    add_scores(copied, value)
    runs = RunFolder(copied.parent)
    table = runs.overview().panels[0].table
    assert table is not None
    ((name, fp_bps, *_),) = table.rows
    (mine,) = (row for row in value["scores"] if row["model"] == "neurohorizon")
    assert (name, fp_bps) == ("run", mine["fp_bps"])
    assert runs.page("run").title == "run"
    assert list(RunFolder(copied).found()) == ["run"]
    for other in ("../run", "run/", "", "none"):
        with pytest.raises(UserError, match="no run"):
            runs.page(other)


def test_hostile_names_stay_text_in_the_card(copied: Path) -> None:
    info = RunInfo.read(copied)
    hashes = {"a|b\n# <b>[x](y)": "0" * 64}
    replace(info, content_hash=hashes, query="select 1\n# title").write(copied)
    write_card(copied, 1, {"step": 1, "fp_bps": 0.5})
    card = (copied / "README.md").read_text()
    assert r"| a\|b \# \<b\>\[x\](y) |" in card
    assert "    select 1\n    # title\n" in card


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path, make_config: Callable) -> None:
    assert "nhmodel train" in RunFolder(tmp_path).overview().notes[0]
