"""Several runs at once, the first part of the horizon, and forecasts on top of the best baseline."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nhcatalog.errors import UserError
from nhdata.report.page import to_html
from nhmodel.card import add_scores
from nhmodel.config import Config
from nhmodel.evaluation import evaluate
from nhmodel.evaluation.identity import WAYS
from nhmodel.evaluation.result import MODEL, Evaluation, tables
from nhmodel.metrics import ScoreSums, scores
from nhmodel.report.draw_scores import verdicts
from nhmodel.report.kept import KeptRun
from nhmodel.report.pages import run_page
from nhmodel.training import train

NAMES = ["ewma", "rrr"]


@pytest.fixture(scope="module")
def twin(store: Path, run_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the same data, from another seed."""
    folder = tmp_path_factory.mktemp("twin") / "run"
    train(store, run_config.model_copy(update={"train": run_config.train.model_copy(update={"seed": 5})}), folder)
    return folder


@pytest.fixture(scope="module")
def both(run: Path, twin: Path, store: Path) -> Evaluation:
    return evaluate([run, twin], store, baselines=NAMES, horizons_s=[0.24, 0.5], regimes=WAYS)


def test_the_score_of_several_runs_is_that_of_each_on_average(
    both: Evaluation, run: Path, twin: Path, store: Path
) -> None:
    alone = [evaluate(path, store, baselines=NAMES, regimes=WAYS) for path in (run, twin)]
    for regime in ("seen", "seen-hybrid"):
        each = [scores(one.sums[regime, MODEL])["fp_bps"] for one in alone]
        (row,) = (row for row in both.rows(regime) if row["model"] == MODEL)
        assert row["fp_bps_by_run"] == pytest.approx(each)
        assert row["fp_bps"] == pytest.approx(np.mean(each))
        assert each[0] != each[1]
    assert scores(both.sums["seen", "rrr"]) == scores(alone[0].sums["seen", "rrr"])
    assert both.windows_hash == alone[0].windows_hash


def test_the_first_part_of_the_horizon_is_its_first_bins(both: Evaluation) -> None:
    (shorter,) = both.shorter  # 0.5 s is all of it
    for key, sums in shorter.sums.items():
        whole = both.sums[key]
        for session_id, part in sums.sessions.items():
            np.testing.assert_allclose(part.bin_nll, whole.sessions[session_id].bin_nll[:12])
            np.testing.assert_array_equal(part.bin_spikes, whole.sessions[session_id].bin_spikes[:12])
    value = both.to_json("x")
    assert [part["horizon_s"] for part in value["horizons"]] == [0.24]
    near, far = (
        {(row["model"], row["regime"]): row["fp_bps"] for row in part["scores"]}
        for part in (value["horizons"][0], value)
    )
    assert near.keys() == far.keys()
    assert near[MODEL, "seen"] > far[MODEL, "seen"]


@pytest.mark.parametrize(("horizon_s", "message"), [(0.25, "0.24 or 0.26"), (0.6, "does not forecast 0.6 s ahead")])
def test_a_part_that_is_not_one_is_an_error(run: Path, store: Path, horizon_s: float, message: str) -> None:
    with pytest.raises(UserError) as error:
        evaluate(run, store, baselines=["mean"], horizons_s=[horizon_s])
    assert message in f"{error.value.problem}; {error.value.remedy}"


def test_runs_of_other_windows_are_not_scored_together(
    run: Path, store: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    train(store, make_config("train.max_steps=1", "data.history_s=0.3"), tmp_path / "other")
    with pytest.raises(UserError, match="not trained on the same"):
        evaluate([run, tmp_path / "other"], store, baselines=["mean"])


def test_on_top_of_the_best_baseline_is_no_worse_than_either(both: Evaluation) -> None:
    seen = {row["model"]: row["fp_bps"] for row in both.rows("seen")}
    blended = {row["model"]: row["fp_bps"] for row in both.rows("seen-hybrid")}
    assert blended[MODEL] > max(seen[name] for name in (MODEL, *NAMES)) - 0.01
    assert {name: blended[name] for name in NAMES} == {name: seen[name] for name in NAMES}
    ((title, rows),) = tables(both.to_json("x")).items()
    assert title == "seen sessions"
    assert {MODEL, f"{MODEL}, hybrid", *NAMES} <= set(rows)


def test_a_report_says_that_both_ways_are_of_sessions_of_training(both: Evaluation) -> None:
    alone, blended, _ = verdicts(both.to_json("x"))
    assert alone.startswith("On sessions it was trained on, the model is ")
    assert blended.startswith("On sessions it was trained on, hybrid, the model is ")


def test_nothing_is_blended_without_a_baseline_or_unless_asked(run: Path, store: Path) -> None:
    assert evaluate(run, store, baselines=[], regimes=WAYS).regimes == ["seen"]
    assert evaluate(run, store, baselines=["mean"]).regimes == ["seen"]


def test_the_mean_of_sums_is_that_of_their_likelihoods() -> None:
    rng = np.random.default_rng(0)
    counts, t_s, null = rng.poisson(0.5, (20, 5, 3)), np.arange(20.0), np.full(3, 0.5)
    models = [ScoreSums(), ScoreSums(), ScoreSums()]
    for sums in models:
        sums.add("a", t_s, counts, rng.gamma(2, 0.25, counts.shape), null)
    mean = ScoreSums.mean(models)
    for name in ("fp_bps", "unit_bps", "poisson_d2"):
        assert scores(mean)[name] == pytest.approx(np.mean([scores(sums)[name] for sums in models]))
    assert mean.sessions["a"].window_spikes.dtype == np.int64


def test_each_card_states_its_own_runs_score(
    both: Evaluation, run: Path, twin: Path, store: Path, tmp_path: Path
) -> None:
    """As if the run alone had been scored, its interval and its calibration included."""
    each = [both.of_run(k) for k in (0, 1)]
    alone = evaluate(twin, store, baselines=NAMES, horizons_s=[0.24], regimes=WAYS)
    found, expected = (one.to_json("twin") | one.pictures() for one in (each[1], alone))
    assert found.pop("examples") == []
    assert expected.pop("examples")
    assert found == expected
    assert each[0].pictures()["examples"] == both.pictures()["examples"]
    for one, path in zip(each, (run, twin), strict=True):
        folder = tmp_path / path.parent.name
        shutil.copytree(path, folder)
        add_scores(folder, one.to_json(str(folder)))
        (row,) = (row for row in one.rows("seen") if row["model"] == MODEL)
        assert f"\n| {MODEL} | {row['fp_bps']:.3f} |" in (folder / "README.md").read_text()


def test_a_report_shows_each_horizon_and_says_that_the_model_is_several_runs(both: Evaluation, run: Path) -> None:
    value = both.to_json("x") | both.pictures()
    page = run_page(KeptRun.read(run), value)
    (panel,) = (panel for panel in page.panels if panel.title == "By horizon, seen sessions")
    assert panel.table is not None
    assert panel.table.head[1:] == ("first 0.24 s", "all")
    shown = {row[0]: row[1:] for row in panel.table.rows}
    for k, sums in enumerate((both.shorter[0].sums, both.sums)):
        assert shown["reduced-rank ridge"][k] == f"{scores(sums['seen', 'rrr'])['fp_bps']:.3f}"
        assert shown["NeuroHorizon"][k] == f"{scores(sums['seen', MODEL])['fp_bps']:.3f}"
    (each,) = (note for note in page.notes if "mean of 2 runs" in note)
    for sums in both.by_run["seen"]:
        assert f"{scores(sums)['fp_bps']:.3f}" in each
    assert "By horizon" in to_html(page)
    one = both.of_run(0)
    one.shorter.clear()
    page = run_page(KeptRun.read(run), one.to_json("x"))
    assert not any(panel.title.startswith("By horizon") for panel in page.panels)
    assert not any("mean of" in note for note in page.notes)
