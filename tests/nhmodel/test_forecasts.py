"""What a run says, as files of others: rates for xarray, predictions for BrainWideBench, embeddings for SQL."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import xarray as xr

from nhcatalog.errors import UserError
from nhdata.recording import Recording
from nhdata.store.store import open_store
from nhmodel.brainwidebench import write_brainwidebench
from nhmodel.card import add_scores
from nhmodel.config import Config
from nhmodel.embed import embeddings
from nhmodel.evaluation import evaluate
from nhmodel.forecasts import forecasts, write_zarr
from nhmodel.metrics import ScoreSums, scores
from nhmodel.run import RunInfo, load
from nhmodel.training import train

Stores = Callable[[str, Sequence[Recording]], Path]


@pytest.fixture
def mixed(make_store: Stores, recordings: list[Recording], stranger: Recording) -> Path:
    """One session of training and one that is new."""
    return make_store("mixed.zarr", [recordings[1], stranger])


def test_rates_are_those_that_evaluation_scores(run: Path, mixed: Path, tmp_path: Path) -> None:
    found = forecasts(run, mixed, regime="zero-shot", reference_s=40.0)
    session_ids = write_zarr(found, tmp_path / "rates.zarr", {"run": "x"})
    result = evaluate(run, mixed, baselines=["mean"], regimes=["zero-shot"], reference_s=40.0)
    assert len(session_ids) == 2
    for session_id in session_ids:
        with xr.open_zarr(tmp_path / "rates.zarr", group=session_id, consolidated=False) as data:
            regime = data.attrs["regime"]
            sums = result.sums[regime, "neurohorizon"].sessions[session_id]
            np.testing.assert_array_equal(data.t_s, sums.t_s)
            assert data.rate_hz.dims == ("window", "bin", "unit")
            assert data.rate_hz.attrs["unit"] == "Hz"
            np.testing.assert_allclose(data.ahead_s, 0.01 + 0.02 * np.arange(25))
            y = sums.unit_moments[1]  # of forecasts about the null
            mean = sums.null_expected + y / (len(sums.t_s) * 25)
            np.testing.assert_allclose(data.rate_hz.mean(("window", "bin")) * 0.02, mean, rtol=1e-4)
            assert len(data.attrs["unit_id"]) == data.sizes["unit"]
    assert {result.sums[r, "null"].sessions.keys() <= set(session_ids) for r in result.regimes} == {True}


def test_a_whole_recording_may_be_forecast(run: Path, store: Path) -> None:
    one = next(iter(forecasts(run, store, split="all")))
    assert (one.regime, one.t_s[0], one.t_s[-1] + 0.5) == ("seen", 0.5, 90.0)


def test_predictions_appear_whole_or_not_at_all(run: Path, store: Path, tmp_path: Path) -> None:
    def broken():
        yield next(iter(forecasts(run, store)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_zarr(broken(), tmp_path / "rates.zarr", {})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "rates.zarr").mkdir()
    with pytest.raises(UserError, match="is there already: name another --out"):
        write_zarr(forecasts(run, store), tmp_path / "rates.zarr", {})
    with pytest.raises(UserError, match="unknown regime 'magic'"):
        next(iter(forecasts(run, store, regime="magic")))


@pytest.fixture(scope="module")
def short_run(store: Path, make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bwb") / "run"
    train(store, make_config("data.horizon_s=0.1", "data.history_s=0.9", "train.max_steps=4"), folder)
    return folder


def test_brain_wide_benchs_scorer_reads_our_predictions_and_agrees(
    short_run: Path, store: Path, tmp_path: Path
) -> None:
    ts2 = pytest.importorskip("ibl_bwb_eval.scoring.ts2")
    out = tmp_path / "bwb"
    session_ids = write_brainwidebench(forecasts(short_run, store), out, "ours", 43, 0.9)
    found = ts2.score_dir(out / "predictions", out / "ground_truth")
    assert set(found) == {("ours", "ts2-forecasting", session_id, 43) for session_id in session_ids}
    for forecast in forecasts(short_run, store):
        counts, null = forecast.counts, forecast.counts.mean((0, 1))
        sums = ScoreSums()
        sums.add("x", forecast.t_s, counts, forecast.expected, null)
        theirs = found["ours", "ts2-forecasting", forecast.session_id, 43]
        assert scores(sums)["fp_bps"] == pytest.approx(theirs["bps"], abs=1e-4)  # it sums in float32
        assert forecast.expected.shape[1] == 5


def test_windows_of_another_shape_are_not_brain_wide_benchs(run: Path, store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"scores 5 bins of 0\.02 s .*: train with --set data\.horizon_s=0\.1"):
        write_brainwidebench(forecasts(run, store), tmp_path / "bwb", "ours", 43, 0.5)
    assert not (tmp_path / "bwb").exists()


def test_embeddings_join_with_the_catalog(run: Path, mixed: Path, tmp_path: Path) -> None:
    table = embeddings(run, mixed, reference_s=40.0)
    pq.write_table(table, tmp_path / "units.parquet")
    units = open_store(mixed).sql("select unit_id, region from units")
    assert units.num_rows == 22
    rows = duckdb.sql(
        f"select region, regime, list_cosine_similarity(embedding::float[], embedding::float[]) one "
        f"from units join '{tmp_path / 'units.parquet'}' using (unit_id)"
    ).fetchall()
    assert len(rows) == 22
    assert {regime for _, regime, _ in rows} == {"seen", "zero-shot"}
    assert all(one == pytest.approx(1) for _, _, one in rows)


@torch.no_grad()
def test_embeddings_of_seen_units_are_those_the_model_uses(run: Path, store: Path) -> None:
    table, info, model = embeddings(run, store), RunInfo.read(run), load(run)
    assert tuple(table.column("unit_id").to_pylist()) == info.unit_ids
    assert model.identity.table is not None
    assert model.identity.encoder is not None
    learned = np.array(table.column("embedding").to_pylist()) - model.identity.table.numpy()
    assert np.abs(learned.std(0)).max() > 0  # what the features add
    assert learned.shape == (36, 16)


def test_the_card_says_what_a_run_is(run: Path) -> None:
    card, info = (run / "README.md").read_text(), RunInfo.read(run)
    assert info.query in card
    assert f"{len(info.unit_ids)} units 0.5 s ahead" in card
    for digest in (info.selection_hash, *info.content_hash.values(), *info.windows_hash.values()):
        assert digest[:16] in card
    for name in ("neurohorizon 0", "torch 2", '"dim":16', "It chose the weights"):
        assert name in card


def test_scores_are_added_to_the_card_once(store: Path, make_config: Callable[..., Config], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(store, make_config("train.max_steps=2"), folder)
    value = evaluate(folder, store, baselines=["ewma"]).to_json("x")
    for _ in range(2):
        add_scores(folder, value)
    card = (folder / "README.md").read_text()
    assert card.count("### Seen sessions, split test") == 1
    assert card.count("| ewma |") == 1
    assert card.count("## Data") == card.count("## Scores") == 1
    assert json.loads((folder / "scores.json").read_bytes())["scores"] == value["scores"]
