"""A session that a run never saw: what its reference is good for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nhdata.ingest import ingest
from nhdata.loading.selection import select_units
from nhdata.recording import Recording
from nhdata.sources import SourceOptions
from nhdata.store.store import open_store
from nhmodel.baselines.protocol import poisson_loss
from nhmodel.config import Config
from nhmodel.evaluation import evaluate
from nhmodel.evaluation import identity as ways
from nhmodel.evaluation.identity import REGIMES, blend, fitted_forecast, starts, unseen_forecasts
from nhmodel.evaluation.result import Evaluation, tables
from nhmodel.evaluation.session import BaselineForecast, ScoredSession, baseline_forecasts
from nhmodel.model import NeuroHorizon
from nhmodel.run import load
from nhmodel.training import train
from nhmodel.units import unit_table

REFERENCE_S = 60.0
Stores = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def few_steps() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways, "MAX_STEPS", 60)
        patch.setattr(ways, "LEARNING_RATE", 0.03)
        yield


@pytest.fixture(scope="module")
def session(stranger: Recording, run_config: Config, tmp_path_factory: pytest.TempPathFactory) -> ScoredSession:
    return opened(stranger, run_config, tmp_path_factory.mktemp("unseen"))


def opened(recording: Recording, config: Config, folder: Path, reference_s: float = REFERENCE_S) -> ScoredSession:
    from nhdata.store.commit import add_session
    from nhdata.store.encode import encode

    add_session(folder / "data.zarr", encode(recording))
    selection = select_units(open_store(folder / "data.zarr"))
    return ScoredSession.open(folder / "data.zarr", selection, config, "test", reference_s)


@pytest.fixture(scope="module")
def model(run: Path) -> NeuroHorizon:
    return load(run)


@pytest.fixture(scope="module")
def rrr(session: ScoredSession) -> BaselineForecast:
    (found,) = baseline_forecasts(session, ["rrr"])
    return found


@pytest.fixture(scope="module")
def forecasts(model: NeuroHorizon, session: ScoredSession, rrr: BaselineForecast) -> dict[str, Any]:
    return dict(unseen_forecasts(model, session, REGIMES, rrr))


def test_every_way_gives_a_forecast_of_its_own(forecasts: dict[str, Any], session: ScoredSession) -> None:
    assert set(forecasts) == set(REGIMES)
    for expected in forecasts.values():
        assert expected.shape == session.truth.counts.shape
        assert np.isfinite(expected).all()
        assert (expected > 0).all()
    assert len({float(expected.sum()) for expected in forecasts.values()}) == 4


def test_embeddings_fitted_to_the_reference_forecast_better(forecasts: dict[str, Any], session: ScoredSession) -> None:
    loss = {regime: poisson_loss(session.truth.counts, expected) for regime, expected in forecasts.items()}
    assert loss["adapted"] < loss["zero-shot"] - 50


def test_the_network_stays_as_it_is(model: NeuroHorizon, run: Path, forecasts: dict[str, Any]) -> None:
    for name, weight in load(run).state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_second_forecast_is_the_same_whatever_was_drawn_before(
    model: NeuroHorizon, session: ScoredSession, forecasts: dict[str, Any]
) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = dict(unseen_forecasts(model, session, ["adapted"]))
    np.testing.assert_array_equal(again["adapted"], forecasts["adapted"])
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_is_fitted_to_what_is_scored(
    model: NeuroHorizon,
    session: ScoredSession,
    forecasts: dict[str, Any],
    rrr: BaselineForecast,
    stranger: Recording,
    with_other_future: Callable[[Recording, float], Recording],
    run_config: Config,
    tmp_path: Path,
) -> None:
    """Other spikes after the first scored second: its forecasts are the same, all others are of another past."""
    start_s = session.truth.t_s[0]
    changed = opened(with_other_future(stranger, start_s + 0.001), run_config, tmp_path)
    (other,) = baseline_forecasts(changed, ["rrr"])
    found = dict(unseen_forecasts(model, changed, REGIMES, other))
    assert (changed.truth.counts != session.truth.counts).any()
    for regime in REGIMES:
        np.testing.assert_array_equal(found[regime][0], forecasts[regime][0])
        assert (found[regime][-1] != forecasts[regime][-1]).any()


def test_learned_embeddings_all_start_alike(model: NeuroHorizon, session: ScoredSession) -> None:
    units = unit_table(session.known, None, mean=session.null)
    alike, by_features = (starts(model, units, alike=alike) for alike in (True, False))
    assert torch.equal(alike, alike[:1].expand_as(alike))
    assert by_features.std(0).max() > 0.01
    assert not by_features.requires_grad


def test_the_number_of_steps_is_that_of_the_lowest_loss_on_the_last_quarter(
    model: NeuroHorizon, session: ScoredSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = unit_table(session.known, None, mean=session.null)
    start = starts(model, units, alike=False)
    steps: list[int] = []
    learn = ways._Fit.learn
    monkeypatch.setattr(ways._Fit, "learn", lambda self, n: (steps.append(n), learn(self, n)))
    losses = iter([5.0, 4.0, 3.0, 3.5, 3.6, 3.7, 3.8, 3.9, 4.0, 4.1])
    monkeypatch.setattr(ways, "poisson_loss", lambda *_: next(losses))
    fitted_forecast(model, session, units, start, 0)
    assert steps == [10] * 7 + [20]  # up to 60 steps in search, and as many as were best on the whole reference


def test_a_reference_of_one_window_is_enough(
    model: NeuroHorizon, stranger: Recording, run_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "DEFAULT_STEPS", 3)
    short = opened(stranger, run_config, tmp_path, reference_s=1.0)
    assert (short.past.n_windows, short.tune.n_windows) == (1, 0)
    (baseline,) = baseline_forecasts(short, ["ewma"])
    for regime, expected in unseen_forecasts(model, short, REGIMES, baseline):
        assert np.isfinite(expected).all(), regime


def test_a_blend_is_the_better_of_two_where_one_is_noise(session: ScoredSession) -> None:
    """Halves of a forecast that knows, and of one that is drawn at random."""
    rng = np.random.default_rng(0)
    good, noise = (
        [(w.counts + 0.5).astype(np.float32) * 0.5 for w in (session.tune, session.truth)],
        [rng.gamma(2.0, 0.1, w.counts.shape).astype(np.float32) for w in (session.tune, session.truth)],
    )
    counts = session.truth.counts
    for first, second in ((good, noise), (noise, good)):
        mixed = blend(session, BaselineForecast("x", first[1], first[0], 0.0), second[0], second[1])
        assert poisson_loss(counts, mixed) < poisson_loss(counts, good[1]) + 50
        assert mixed.dtype == np.float32


@pytest.fixture(scope="module")
def result(run: Path, stranger: Recording, tmp_path_factory: pytest.TempPathFactory, session: ScoredSession) -> Any:
    store = tmp_path_factory.mktemp("unseen-result")
    opened(stranger, Config(), store)
    return evaluate(run, store / "data.zarr", baselines=["ewma", "rrr"], reference_s=REFERENCE_S)


def test_regimes_share_baselines_and_are_compared_with_them(result: Evaluation) -> None:
    value = result.to_json("x")
    assert [delta["regime"] for delta in value["deltas_by_regime"]] == list(REGIMES)
    assert value["delta_best_baseline"]["regime"] == "hybrid"
    assert {delta["baseline"] for delta in value["deltas_by_regime"]} == {"rrr"}
    for regime in REGIMES:
        names = [row["model"] for row in value["scores"] if row["regime"] == regime]
        assert names == ["neurohorizon", "null", "flat", "true_rate", "ewma", "rrr"]
        assert result.sums[regime, "rrr"] is result.sums["zero-shot", "rrr"]
    assert value["n_windows"] == len(result.sums["adapted", "null"].sessions.popitem()[1].t_s)


def test_the_table_names_each_way_and_every_baseline_once(result: Evaluation) -> None:
    ((title, rows),) = tables(result.to_json("x")).items()
    assert title == "sessions never seen"
    assert sorted(rows) == sorted(
        [*(f"neurohorizon, {regime}" for regime in REGIMES), "null", "flat", "true_rate", "ewma", "rrr"]
    )


def test_a_small_run_beats_reduced_rank_ridge(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifteen CPU-seconds of training: on later windows of its sessions, and on one it never saw, both by 60 s."""
    monkeypatch.setattr(ways, "MAX_STEPS", 150)
    monkeypatch.setattr(ways, "LEARNING_RATE", 0.01)
    ingest(tmp_path / "s.zarr", "synthetic", [], options=SourceOptions(n_sessions=3, n_units=16, duration_s=180.0))
    size = ("model.dim=32", "model.latents_per_step=4", "model.rank=16", "train.batch_size=16")
    settings = ("train.max_steps=300", "train.validate_every=100", "train.lr=0.01")
    two = "data.select=select unit_id from units where session_id not like '%002'"
    train(tmp_path / "s.zarr", make_config(*size, *settings, two), tmp_path / "run")
    every = "select unit_id from units"
    result = evaluate(tmp_path / "run", tmp_path / "s.zarr", select=every, baselines=["rrr"], regimes=["adapted"])
    seen, adapted = (result.delta(regime) for regime in ("seen", "adapted"))
    assert seen["fp_bps"] > 0
    assert adapted["fp_bps"] > 0
