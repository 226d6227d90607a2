"""What covariates are worth: one that tells of the future, one that tells nothing; where it matters, and where not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import poisson

from nhcli.scores import print_scores
from nhdata.recording import Recording, Series, Spikes
from nhdata.store.commit import add_session
from nhdata.store.encode import encode
from nhdata.store.store import open_store
from nhmodel.config import Config
from nhmodel.data import open_windows
from nhmodel.evaluation import evaluate
from nhmodel.evaluation.ablation import ALL
from nhmodel.evaluation.plan import plan_sessions
from nhmodel.evaluation.result import Evaluation
from nhmodel.report.pages import scores_page
from nhmodel.run import RunInfo, load
from nhmodel.training import train
from nhmodel.units import rows_by_id, unit_table

N_UNITS, DURATION_S = 10, 120.0


def cued(recording: Recording, seed: int) -> Recording:
    """Half of the units, those of CA1, do from 0.5 s on what a cue says now; a second cue says nothing."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(0, DURATION_S, 0.1)
    cue, noise = (np.repeat(rng.choice([-1.0, 1.0], len(time_s) // 5), 5) for _ in range(2))
    in_ca1 = np.arange(N_UNITS) < N_UNITS // 2
    rate_hz = 8 * np.exp(np.outer(np.roll(cue, 5), in_ca1))
    counts = rng.poisson(rate_hz * 0.1)
    step, unit = (np.repeat(index, counts[counts > 0]) for index in np.nonzero(counts))
    spikes = Spikes(((step + rng.uniform(size=len(step))) * 3000).astype(np.int64), unit, 30000.0)
    return replace(
        recording,
        spikes=spikes,
        units={**recording.units, "region": np.where(in_ca1, "CA1", "VISp").astype(object)},
        intervals={},
        series={"cue": Series(time_s, cue, ""), "noise": Series(time_s, noise, "")},
    )


@pytest.fixture(scope="module")
def cued_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions with cues, and one without."""
    from nhdata.sources import SourceOptions
    from nhdata.sources.synthetic import SyntheticSource

    source = SyntheticSource(SourceOptions(n_sessions=3, n_units=N_UNITS, duration_s=DURATION_S))
    path = tmp_path_factory.mktemp("cued") / "data.zarr"
    for k, ref in enumerate(source.iter_sessions([])):
        recording = cued(source.load(ref), k)
        add_session(path, encode(recording if k < 2 else replace(recording, series={})))
    return path


@pytest.fixture(scope="module")
def cued_run(cued_store: Path, make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = ("train.max_steps=150", "train.lr=0.01", "train.validate_every=50")
    folder = tmp_path_factory.mktemp("cued_runs") / "run"
    train(cued_store, make_config("data.covariates=['cue', 'noise']", *settings), folder)
    return folder


@pytest.fixture(scope="module")
def result(cued_run: Path, cued_store: Path) -> Evaluation:
    return evaluate(cued_run, cued_store, baselines=["mean"])


@pytest.fixture(scope="module")
def value(result: Evaluation) -> dict[str, Any]:
    return result.to_json("x")


def test_a_cue_is_worth_something_where_it_is_followed_and_noise_is_not(value: dict[str, Any]) -> None:
    rows = {row["covariate"]: row for row in value["covariates"]}
    assert list(rows) == ["cue", "noise", ALL]
    assert {(row["regime"], row["n_sessions"], row["n_units"]) for row in rows.values()} == {("seen", 2, 2 * N_UNITS)}
    assert rows["cue"]["ci95"][0] > 0.1
    assert abs(rows["noise"]["delta_fp_bps"]) < 0.01
    assert rows["noise"]["ci95"][0] < 0.01
    assert rows[ALL]["delta_fp_bps"] == pytest.approx(rows["cue"]["delta_fp_bps"], abs=0.03)
    in_region = {part["region"]: part for part in rows["cue"]["regions"]}
    assert in_region["CA1"]["ci95"][0] > 0.15
    assert abs(in_region["VISp"]["delta_fp_bps"]) < 0.02
    assert in_region["CA1"]["n_units"] == N_UNITS


def test_a_loss_is_that_of_the_likelihood_of_both_forecasts(
    value: dict[str, Any], cued_run: Path, cued_store: Path
) -> None:
    """Computed anew, window by window, from the model itself."""
    info, model, store = RunInfo.read(cued_run), load(cued_run), open_store(cued_store)
    gain, spikes = 0.0, 0
    for planned in plan_sessions(info, store, None)[:2]:
        known, scored = (open_windows(store.path, planned.selection, info.config, s) for s in ("train", "test"))
        units = unit_table(known, rows_by_id(info.unit_ids))
        for batch in scored:
            full, without = (model(batch, units, without=w).exp().detach().double().numpy() for w in ((), ("cue",)))
            counts = batch.counts.numpy()
            gain += float((poisson.logpmf(counts, full) - poisson.logpmf(counts, without)).sum())
            spikes += int(counts.sum())
    (row,) = (row for row in value["covariates"] if row["covariate"] == "cue")
    assert row["delta_fp_bps"] == pytest.approx(gain / spikes / np.log(2), rel=1e-5)
    assert row["delta_fp_bps"] == pytest.approx(row["fp_bps"] - row["fp_bps_without"])


def test_losses_are_shown(result: Evaluation, value: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    print_scores(result, value)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("cue, seen"))
    (row,) = (row for row in value["covariates"] if row["covariate"] == "cue")
    assert f"{row['delta_fp_bps']:+.3f}" in line
    assert "CA1 +" in line
    (panel,) = (panel for panel in scores_page(value | result.pictures()).panels if panel.title == "Covariates")
    assert panel.table is not None
    assert panel.table.rows[0][:2] == ("cue", "seen")
    assert (panel.table.rows[0][6], len(panel.table.rows)) == (f"{row['delta_fp_bps']:.3f}", 9)


def test_sessions_never_seen_are_told_too(
    value: dict[str, Any], cued_run: Path, cued_store: Path, make_store: Callable[..., Path], stranger: Recording
) -> None:
    """Cues mean the same there; a session without any is scored, and says nothing of them."""
    new = cued(replace(stranger, session_id="cued-stranger"), 7)
    result = evaluate(
        cued_run,
        make_store("new", [new, replace(stranger, session_id="plain")]),
        reference_s=40.0,
        baselines=["mean"],
        regimes=["zero-shot"],
    )
    rows = {row["covariate"]: row for row in result.to_json("x")["covariates"]}
    assert {(row["regime"], row["n_sessions"]) for row in rows.values()} == {("zero-shot", 1)}
    assert set(rows) == {"cue", "noise", ALL}
    assert len(result.sums["zero-shot", "neurohorizon"].sessions) == 2


def test_a_run_without_covariates_has_nothing_to_lose(run: Path, store: Path) -> None:
    assert evaluate(run, store, baselines=["mean"]).to_json("x")["covariates"] == []
