"""Scores of a run: the same windows and the same null for every model, none of them known before."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import poisson

from nhcatalog.errors import UserError
from nhdata.loading import WindowDataset
from nhdata.recording import Recording
from nhmodel.baselines import BASELINES
from nhmodel.evaluation import evaluate, evaluate_baselines
from nhmodel.evaluation.collect import session_windows
from nhmodel.evaluation.identity import predict
from nhmodel.evaluation.result import Evaluation
from nhmodel.model import UnitTable
from nhmodel.run import RunInfo, load
from nhmodel.units import rows_by_id, unit_table
from nhmodel.windows import SessionWindows

Windows = Callable[..., WindowDataset]
Futures = Callable[[Recording, float], Recording]
REFERENCE_S = 40.0


@pytest.fixture(scope="module")
def seen(run: Path, store: Path) -> Evaluation:
    """Everything, on the test windows of the sessions of training."""
    return evaluate(run, store)


def fp_bps(result: Evaluation, regime: str = "seen") -> dict[str, float]:
    return {row["model"]: row["fp_bps"] for row in result.rows(regime)}


def test_the_null_scores_exactly_zero_and_every_model_is_there(seen: Evaluation) -> None:
    scores = fp_bps(seen)
    assert list(scores) == ["neurohorizon", "null", "flat", "true_rate", *BASELINES]
    assert scores["null"] == 0.0
    assert scores["mean"] == 0.0
    assert scores["flat"] > 0
    assert scores["neurohorizon"] > 0.05
    assert scores["true_rate"] > max(scores[name] for name in ("neurohorizon", *BASELINES)) + 0.1
    assert seen.regimes == ["seen"]


def test_scores_are_those_of_the_likelihood_of_every_forecast(
    seen: Evaluation, run: Path, store: Path, open_windows: Windows
) -> None:
    model, rows, gain, spikes = load(run), rows_by_id(RunInfo.read(run).unit_ids), 0.0, 0
    for number in range(3):
        one = f"select unit_id from units where session_id like '%00{number}'"
        scored = open_windows(store, "test", select=one)
        units = unit_table(open_windows(store, "train", select=one), rows)
        counts = np.concatenate([b.counts.numpy() for b in scored])
        null = np.broadcast_to(np.exp(units.log_mean.double().numpy()), counts.shape)
        expected = predict(model, scored, units).astype(np.float64)
        gain += float((poisson.logpmf(counts, expected) - poisson.logpmf(counts, null)).sum())
        spikes += int(counts.sum())
    assert fp_bps(seen)["neurohorizon"] == pytest.approx(gain / spikes / np.log(2), abs=1e-6)


def test_a_second_evaluation_gives_the_same_numbers(run: Path, store: Path) -> None:
    first, second = (evaluate(run, store, baselines=["mean", "ewma"]).to_json("x") for _ in range(2))
    assert first == second


def test_json_has_the_keys_that_scripts_rely_on(seen: Evaluation) -> None:
    value = json.loads(json.dumps(seen.to_json("runs/x"), allow_nan=False))
    head = {
        "schema",
        "run",
        "split",
        "horizon_s",
        "bin_s",
        "n_windows",
        "windows_hash",
        "scores",
        "delta_best_baseline",
    }
    assert head <= set(value)
    assert (value["schema"], value["run"], value["split"]) == (1, "runs/x", "test")
    assert (value["horizon_s"], value["bin_s"]) == (0.5, 0.02)
    assert value["n_windows"] == 3 * 33  # 18 s less a gap of 1 s and the first history
    for row in value["scores"]:
        assert {"model", "regime", "fp_bps", "fp_bps_ci95", "unit_bps", "poisson_d2", "within_unit_r"} <= set(row)
        assert row["n_windows"] == value["n_windows"]
        low, high = row["fp_bps_ci95"]
        assert low <= row["fp_bps"] <= high
    delta = value["delta_best_baseline"]
    assert {"baseline", "fp_bps", "ci95"} <= set(delta)
    scores = {row["model"]: row["fp_bps"] for row in value["scores"]}
    assert delta["baseline"] == max(BASELINES, key=scores.__getitem__)
    assert delta["fp_bps"] == pytest.approx(scores["neurohorizon"] - scores[delta["baseline"]])
    assert delta["fraction_of_ceiling"] == pytest.approx(scores["neurohorizon"] / scores["true_rate"])


def test_scores_of_sessions_are_listed_one_by_one(seen: Evaluation) -> None:
    rows = seen.sessions()
    assert [(row["session_id"], row["n_units"]) for row in rows] == [(f"sim-n12-t90-s0-00{k}", 12) for k in range(3)]
    assert all(row["fp_bps"]["null"] == 0 for row in rows)
    assert min(row["fp_bps"]["neurohorizon"] for row in rows) < fp_bps(seen)["neurohorizon"]


def test_examples_are_forecasts_of_scored_windows(seen: Evaluation) -> None:
    assert len(seen.examples) == 6
    for example in seen.examples:
        sums = seen.sums["seen", "neurohorizon"].sessions[example.session_id]
        np.testing.assert_array_equal(example.t_s, sums.t_s)
        assert example.counts.sum() in np.sort(sums.unit_spikes)[-2:]
        assert example.expected.sum() == pytest.approx(example.counts.sum(), rel=0.5)


class Spy:
    """A baseline that remembers what it was shown."""

    name = "spy"
    shown: dict[str, list[SessionWindows]]

    def fit(self, train: SessionWindows, valid: SessionWindows) -> Self:
        self.shown["train"].append(train)
        self.shown["valid"].append(valid)
        return self

    def refit(self, windows: SessionWindows) -> Self:
        self.shown["refit"].append(windows)
        return self

    def predict(self, windows: SessionWindows) -> NDArray[np.float32]:
        self.shown["scored"].append(windows)
        return np.ones(windows.counts.shape, np.float32)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[SessionWindows]]:
    Spy.shown = {"train": [], "valid": [], "refit": [], "scored": []}
    monkeypatch.setitem(BASELINES, "spy", Spy)  # type: ignore[misc]
    return Spy.shown


def spans_s(shown: dict[str, list[SessionWindows]]) -> dict[str, tuple[float, float]]:
    """First spike that may be in the histories, and end of the horizons, of one session."""
    return {name: (part[-1].t_s[0] - 0.5, part[-1].t_s[-1] + 0.5) for name, part in shown.items()}


def test_baselines_of_a_session_of_training_see_its_splits(
    run: Path, store: Path, shown: dict[str, list[SessionWindows]]
) -> None:
    evaluate(run, store, baselines=["spy"])
    assert shown.pop("refit") == []  # the model does not see the validation split either
    assert spans_s(shown) == {"train": (0.0, 63.0), "valid": (64.0, 72.0), "scored": (73.0, 90.0)}


def test_an_unseen_session_is_scored_from_its_reference_on(
    run: Path,
    stranger: Recording,
    recordings: list[Recording],
    make_store: Callable[..., Path],
    shown: dict[str, list[SessionWindows]],
) -> None:
    path = make_store("data.zarr", [recordings[1], stranger])
    result = evaluate(run, path, baselines=["spy"], regimes=["zero-shot"], reference_s=REFERENCE_S)
    assert result.regimes == ["seen", "zero-shot"]
    assert spans_s({"refit": shown.pop("refit")}) == {"refit": (0.0, REFERENCE_S)}
    assert spans_s(shown) == {"train": (0.0, 30.0), "valid": (29.5, REFERENCE_S), "scored": (REFERENCE_S + 1, 90.0)}
    assert list(result.sums["seen", "null"].sessions) == [recordings[1].session_id]
    assert list(result.sums["zero-shot", "null"].sessions) == [stranger.session_id]
    assert fp_bps(result, "zero-shot")["null"] == 0.0
    value = result.to_json("x")
    assert [(row["model"], row["regime"]) for row in value["scores"]] == [
        (model, regime)
        for regime in ("seen", "zero-shot")
        for model in ("neurohorizon", "null", "flat", "true_rate", "spy")
    ]
    assert value["n_windows"] == 33 + 97
    assert [delta["regime"] for delta in value["deltas_by_regime"]] == ["seen", "zero-shot"]


def test_nothing_of_the_rest_is_known_before_it_is_scored(
    run: Path,
    stranger: Recording,
    make_store: Callable[..., Path],
    with_other_future: Futures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables: list[UnitTable] = []

    def remember(model: Any, windows: WindowDataset, units: UnitTable) -> NDArray[np.float32]:
        tables.append(units)
        return predict(model, windows, units)

    monkeypatch.setattr(sys.modules["nhmodel.evaluation.identity"], "predict", remember)
    stores = make_store("a", [stranger]), make_store("b", [with_other_future(stranger, REFERENCE_S)])
    results = [
        evaluate(run, path, baselines=["mean", "ewma"], regimes=["zero-shot"], reference_s=REFERENCE_S)
        for path in stores
    ]
    for found, expected in zip(*tables, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert set(tables[0].row.tolist()) == {-1}
    nulls = [r.sums["zero-shot", "null"].sessions[stranger.session_id].null_expected for r in results]
    np.testing.assert_array_equal(*nulls)
    assert fp_bps(results[0], "zero-shot")["flat"] != fp_bps(results[1], "zero-shot")["flat"]
    # the same list of windows, though other spikes
    assert results[0].windows_hash == results[1].windows_hash


def test_the_windows_that_are_scored_have_another_hash_when_they_are_others(run: Path, store: Path) -> None:
    hashes = {evaluate(run, store, split=split, baselines=["mean"]).windows_hash for split in ("test", "valid")}
    assert len(hashes) == 2


def test_other_units_may_be_scored_of_sessions_the_run_never_saw(
    run: Path, stranger: Recording, make_store: Callable[..., Path]
) -> None:
    path = make_store("data.zarr", [stranger])
    result = evaluate(
        run,
        path,
        select="select unit_id from units where unit_index < 4",
        baselines=["mean"],
        regimes=["zero-shot"],
        reference_s=REFERENCE_S,
    )
    assert [row["n_units"] for row in result.sessions()] == [4]


def test_a_session_that_changed_since_training_is_refused(
    run: Path, recordings: list[Recording], make_store: Callable[..., Path], with_other_future: Futures
) -> None:
    path = make_store("data.zarr", [recordings[0], with_other_future(recordings[1], 80.0)])
    with pytest.raises(UserError, match=r"session sim-n12-t90-s0-001 in .* is not the one that the run was trained on"):
        evaluate(run, path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"split": "all"}, "unknown split 'all': choose train, valid or test"),
        ({"baselines": ["magic"]}, "unknown baseline 'magic': choose from mean, "),
        ({"reference_s": float("nan")}, "a reference of nan s: give a positive number"),
        ({"reference_s": -5.0}, r"a reference of -5\.0 s"),
        (
            {"regimes": ["magic"]},
            "unknown regime 'magic': choose from seen-hybrid, zero-shot, adapted, hybrid, learned",
        ),
        ({"regimes": []}, "no way to score sessions never seen"),
        ({"regimes": ["hybrid"], "baselines": []}, "hybrid needs a baseline"),
        ({"weights": "worst"}, "unknown weights 'worst'"),
        ({"select": "selct unit_id"}, "selct"),
        ({"select": "select unit_id from units where false"}, "no unit|nothing|empty"),
    ],
)
def test_what_cannot_be_asked_is_named(changes: dict[str, Any], match: str, run: Path, store: Path) -> None:
    with pytest.raises(UserError, match=match):
        evaluate(run, store, **changes)


def test_an_unseen_session_shorter_than_its_reference_is_an_error(
    run: Path, stranger: Recording, make_store: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=r"no window of 0\.5 \+ 0\.5 s fits split 'rest'"):
        evaluate(run, make_store("data.zarr", [stranger]), reference_s=89.0)


def test_a_session_too_short_to_score_is_left_out_and_named(
    run: Path, store: Path, stranger: Recording, make_store: Callable[..., Path]
) -> None:
    short = replace(stranger, session_id="short", stop_s=30.0)
    keep = short.spikes.time < 30 * 30000
    short = replace(short, spikes=replace(short.spikes, time=short.spikes.time[keep], unit=short.spikes.unit[keep]))
    both = make_store("data.zarr", [stranger, short])
    value = evaluate(run, both, reference_s=40.0, baselines=["mean"], regimes=["zero-shot"]).to_json("r")
    assert [row["session_id"] for row in value["sessions"]] == [stranger.session_id]
    (skipped,) = value["skipped"]
    assert skipped["session_id"] == "short"
    assert "short" in skipped["reason"]


def test_a_recording_of_training_under_another_name_is_not_unseen(
    run: Path, recordings: list[Recording], make_store: Callable[..., Path]
) -> None:
    alias = replace(recordings[0], source="phy", session_id="alias")
    value = evaluate(run, make_store("data.zarr", [recordings[1], alias]), baselines=["mean"]).to_json("r")
    assert {row["regime"] for row in value["sessions"]} == {"seen"}
    (skipped,) = value["skipped"]
    assert skipped["session_id"] == "alias"
    assert recordings[0].session_id in skipped["reason"]


def test_the_mean_of_the_reference_is_the_null(run: Path, stranger: Recording, make_store: Callable[..., Path]) -> None:
    result = evaluate(run, make_store("data.zarr", [stranger]), baselines=["mean"], regimes=["zero-shot"])
    assert fp_bps(result, "zero-shot")["mean"] == 0.0


def test_windows_of_a_session_are_its_batches_side_by_side(store: Path, open_windows: Windows) -> None:
    windows = open_windows(store, select="select unit_id from units where session_id like '%002'", batch_size=7)
    found, whole = session_windows(windows), windows.collate(windows.plan().windows)
    assert found.session_id == "sim-n12-t90-s0-002"
    assert found.history.dtype == found.counts.dtype == np.uint8
    assert (np.diff(found.t_s) > 0).all()
    for name in ("t_s", "history", "ema_hz", "counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    assert (tuple(found.unit_id), found.bin_s, found.ema_tau_s) == (windows.unit_ids, 0.02, windows.ema_tau_s)


def test_counts_above_255_are_kept_as_they_are(
    recordings: list[Recording], make_store: Callable[..., Path], open_windows: Windows
) -> None:
    spikes = recordings[0].spikes
    burst = 80 * 30000 + np.arange(300)
    loud = replace(
        spikes, time=np.concatenate([spikes.time, burst]), unit=np.concatenate([spikes.unit, np.full(300, 5)])
    )
    windows = session_windows(open_windows(make_store("loud", [replace(recordings[0], spikes=loud)])))
    assert windows.counts.max() >= 300
    assert windows.history.max() >= 300


def test_regions_add_up_to_the_whole(seen: Evaluation) -> None:
    rows = seen.by_region()
    assert {row["region"] for row in rows} == {"CA1", "CA3", "DG", "VISp", "LP"}
    assert sum(row["n_units"] for row in rows) == 36
    spikes = np.array([row["n_spikes"] for row in rows])
    for name in ("neurohorizon", "rrr"):
        mean = np.average([row["fp_bps"][name] for row in rows], weights=spikes)
        assert mean == pytest.approx(fp_bps(seen)[name])


def test_psth_is_left_out_where_there_are_no_trials(
    run: Path, recordings: list[Recording], make_store: Callable[..., Path]
) -> None:
    config = RunInfo.read(run).config
    bare = [replace(recording, intervals={}) for recording in recordings[:2]]
    result = evaluate_baselines(make_store("bare", bare), config, baselines=["mean", "psth"])
    assert list(fp_bps(result)) == ["null", "flat", "true_rate", "mean"]
    mixed = make_store("mixed", [bare[0], recordings[1]])
    assert "psth" in fp_bps(evaluate_baselines(mixed, config, baselines=["mean", "psth"]))


def test_the_true_rate_is_scored_only_where_all_sessions_have_it(
    run: Path, recordings: list[Recording], make_store: Callable[..., Path]
) -> None:
    config = RunInfo.read(run).config
    path = make_store("mixed", [replace(recordings[0], series={}), recordings[1]])
    assert "true_rate" not in fp_bps(evaluate_baselines(path, config, baselines=["mean"]))


def test_baselines_alone_score_what_they_score_beside_a_run(seen: Evaluation, run: Path, store: Path) -> None:
    names = ["trailing_mean", "ewma", "rrr"]
    alone = evaluate_baselines(store, RunInfo.read(run).config, baselines=names)
    assert {name: fp_bps(alone)[name] for name in names} == {name: fp_bps(seen)[name] for name in names}
    assert alone.windows_hash == seen.windows_hash
    value = json.loads(json.dumps(alone.to_json(None), allow_nan=False))
    assert (value["run"], value["delta_best_baseline"], value["deltas_by_regime"]) == (None, None, [])


def test_baselines_of_a_reference_know_nothing_else(
    run: Path, store: Path, shown: dict[str, list[SessionWindows]]
) -> None:
    one = RunInfo.read(run).config.data.model_copy(
        update={"select": "select unit_id from units where session_id like '%001'"}
    )
    config = RunInfo.read(run).config.model_copy(update={"data": one})
    evaluate_baselines(store, config, baselines=["spy"], reference_s=REFERENCE_S)
    assert spans_s({"refit": shown.pop("refit")}) == {"refit": (0.0, REFERENCE_S)}
    assert spans_s(shown) == {"train": (0.0, 30.0), "valid": (29.5, REFERENCE_S), "scored": (REFERENCE_S + 1, 90.0)}
