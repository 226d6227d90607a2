"""Units that are held out: their spikes are not heard, and yet they are told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nhcatalog.errors import UserError
from nhdata.loading import WindowBatch, WindowDataset
from nhdata.recording import Recording
from nhmodel.config import Config
from nhmodel.cosmoother import CoSmoother
from nhmodel.cosmoothing import CoSmoothingRidge, co_smoothed, held_out_units, smoothed
from nhmodel.evaluation import evaluate
from nhmodel.metrics import ScoreSums, scores
from nhmodel.model import UnitTable
from nhmodel.run import load
from nhmodel.training import train

TASK = ("data.task=co-smoothing", "data.horizon_s=0.5")


@pytest.fixture
def model(make_config: Callable[..., Config], units: UnitTable) -> CoSmoother:
    """One that says something."""
    torch.manual_seed(0)
    config = make_config(*TASK)
    model = CoSmoother(config.model, config.data, len(units.row))
    for last in (model.told, model.offset):
        torch.nn.init.normal_(last.weight, std=0.1)
    return model.eval()


@pytest.fixture
def batch(store: Path, open_windows: Callable[..., WindowDataset]) -> WindowBatch:
    return next(iter(open_windows(store)))


@torch.no_grad()
def test_what_a_held_out_unit_does_cannot_change_what_is_said_of_it(
    model: CoSmoother, batch: WindowBatch, units: UnitTable
) -> None:
    """Nor what is said of any other unit: other spikes of it, other averages, none at all."""
    held_out = held_out_units(12).expand_as(batch.unit_mask)
    assert held_out.any()
    expected = model(batch, units, held_out=held_out)
    assert expected.shape == batch.history.shape
    window = torch.repeat_interleave(torch.arange(len(batch)), batch.cu_seqlens.diff())
    theirs = held_out[window, batch.token_unit]
    moved = torch.where(theirs, batch.token_time_s * 0.3, batch.token_time_s)
    other = replace(
        batch,
        token_time_s=moved,
        history=torch.where(held_out[:, None], 9, batch.history),
        ema_hz=torch.where(held_out[:, None], 99.0, batch.ema_hz),
        counts=torch.full_like(batch.counts, 7),
    )
    assert torch.equal(model(other, units, held_out=held_out), expected)
    theirs_not = replace(batch, history=torch.where(held_out[:, None], batch.history, batch.history + 1))
    assert not torch.equal(model(theirs_not, units, held_out=held_out), expected)


@torch.no_grad()
def test_bins_of_the_history_look_both_ways(model: CoSmoother, batch: WindowBatch, units: UnitTable) -> None:
    """A spike in the last bin changes what is said of the first."""
    held_out = held_out_units(12).expand_as(batch.unit_mask)
    late = batch.history.clone()
    late[:, -1] += 1
    other = replace(batch, history=late)
    changed = model(other, units, held_out=held_out)[:, 0] != model(batch, units, held_out=held_out)[:, 0]
    assert changed.any()


@torch.no_grad()
def test_the_rate_is_what_the_formula_says(model: CoSmoother, batch: WindowBatch, units: UnitTable) -> None:
    """For each unit of a window, from the sum over the others, one by one."""
    held_out = held_out_units(12).expand_as(batch.unit_mask)
    found = model(batch, units, held_out=held_out)[3].numpy()
    ids = batch.unit_id[3]
    embedding = model.norm(model.identity(units.features[ids], units.row[ids])).numpy()
    counts, mean = batch.history[3].numpy().astype(float), units.log_mean[ids].exp().numpy()
    h = np.arange(25)
    state = np.zeros((25, 16))
    for m in np.flatnonzero(~held_out[3].numpy()):
        into = (model.heard.weight.numpy() @ embedding[m]).reshape(5, 16)
        for k in range(5):
            weight = np.exp(-0.5 * ((h[:, None] - h) / (0.7 * 2**k)) ** 2)
            rate = weight @ counts[:, m] / weight.sum(1)
            floor = 0.2 * mean[m] + 0.02 * 0.02
            state += np.log((rate + floor) / (mean[m] + floor))[:, None] * into[k]
    state /= np.sqrt((~held_out[3]).sum().item())
    for n in range(12):
        gain = state @ (model.told.weight.numpy() @ embedding[n]) + model.offset.weight.numpy()[0] @ embedding[n]
        np.testing.assert_allclose(found[:, n], np.log(mean[n]) + gain.clip(-6, 6), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_it_starts_as_the_null(make_config: Callable[..., Config], batch: WindowBatch, units: UnitTable) -> None:
    config = make_config(*TASK)
    model = CoSmoother(config.model, config.data, 36).eval()
    expected = units.log_mean[batch.unit_id][:, None].expand_as(batch.history)
    assert torch.equal(model(batch, units), expected)


@torch.no_grad()
def test_order_and_padding_of_units_change_nothing(model: CoSmoother, batch: WindowBatch, units: UnitTable) -> None:
    order = torch.tensor([3, 1, 0, 2, *range(4, 12)])
    other = replace(batch, history=batch.history[..., order], unit_id=batch.unit_id[:, order])
    torch.testing.assert_close(model(other, units), model(batch, units)[..., order], rtol=1e-4, atol=1e-5)
    more = replace(
        batch,
        history=torch.nn.functional.pad(batch.history, (0, 2), value=7),
        unit_id=torch.nn.functional.pad(batch.unit_id, (0, 2), value=-1),
        unit_mask=torch.nn.functional.pad(batch.unit_mask, (0, 2)),
    )
    torch.testing.assert_close(model(more, units)[..., :12], model(batch, units), rtol=1e-4, atol=1e-5)


def test_ridge_finds_units_that_follow_others() -> None:
    rng = np.random.default_rng(0)
    rate = np.exp(smoothed(rng.normal(size=(400, 25, 1)) * 4, 3.0)) * 0.3
    heard, target = rng.poisson(rate * np.ones(8)).astype(np.uint8), rng.poisson(rate * [1.0, 0.5]).astype(np.uint8)
    null = target[:300].mean((0, 1)).astype(np.float32)
    ridge = CoSmoothingRidge().fit(heard[:250], target[:250], (heard[250:300], target[250:300]), null)
    sums = ScoreSums()
    sums.add("a", np.arange(100.0), target[300:], ridge.predict(heard[300:]), null)
    assert (scores(sums)["fp_bps"] or 0) > 0.2


def test_a_run_that_co_smooths_is_scored_on_units_it_did_not_hear(
    store: Path,
    make_config: Callable[..., Config],
    stranger: Recording,
    make_store: Callable[..., Path],
    tmp_path: Path,
) -> None:
    config = make_config(*TASK, "train.max_steps=40", "train.validate_every=20", "train.lr=0.01")
    standing = train(store, config, tmp_path / "run")
    result = evaluate(tmp_path / "run", store)
    value = result.to_json("x")
    assert value["task"] == "co-smoothing"
    row = {row["model"]: row for row in value["scores"]}
    assert list(row) == ["neurohorizon", "null", "flat", "ridge"]
    assert row["null"]["fp_bps"] == 0
    assert row["neurohorizon"]["fp_bps"] > 0
    assert {session["n_units"] for session in value["sessions"]} == {1}
    assert standing.best > 0
    card = (tmp_path / "run" / "README.md").read_text()
    assert "from the spikes of the others" in card
    assert "ahead" not in card
    n_scored = {session_id: len(part.t_s) * 25 for session_id, part in result.sums["seen", "null"].sessions.items()}
    (calibration,) = result.calibration["seen"]
    assert calibration.n_bins.sum() == sum(n_scored.values())
    assert value["delta_best_baseline"]["baseline"] == "ridge"
    new = evaluate(tmp_path / "run", make_store("new", [stranger]), reference_s=40.0)
    assert new.regimes == ["zero-shot"]
    with pytest.raises(UserError, match="was trained to co-smooth, and forecasts nothing"):
        load(tmp_path / "run")


def test_co_smoothed_counts_are_those_of_the_model(
    model: CoSmoother, store: Path, open_windows: Callable[..., WindowDataset], units: UnitTable
) -> None:
    one = "select unit_id from units where session_id like '%000'"
    windows = open_windows(store, select=one)
    known = units._replace(features=units.features[:12], log_mean=units.log_mean[:12], row=units.row[:12])
    found = co_smoothed(model, windows, known)
    assert found.shape == (33, 25, 1)
    batch = next(iter(windows))
    with torch.no_grad():
        expected = model(batch, known, held_out=held_out_units(12).expand_as(batch.unit_mask)).exp()[..., [5]]
    np.testing.assert_allclose(found[: len(batch)], expected, rtol=1e-5)
