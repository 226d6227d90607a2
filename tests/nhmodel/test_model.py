"""What a forecast does not depend on, the untrained model, and the windows that are hardest to forecast."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nhdata.loading import WindowBatch, WindowDataset
from nhdata.recording import Recording, Spikes
from nhmodel.config import Config
from nhmodel.model import MAX_LOG_GAIN, NeuroHorizon, UnitTable
from nhmodel.training.validation import validation_fp_bps
from nhmodel.units import unit_table

Model = Callable[..., NeuroHorizon]
Windows = Callable[..., WindowDataset]

MIXED = "select unit_id from units where session_id not like '%001' or unit_index in (1, 4, 7, 8, 10)"


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.fixture
def batch(store: Path, open_windows: Windows) -> WindowBatch:
    return next(iter(open_windows(store)))


@torch.no_grad()
def test_an_awake_model_says_something_within_its_bounds(batch: WindowBatch, awake: Model, units: UnitTable) -> None:
    gain = awake()(batch, units) - units.log_mean[batch.unit_id][:, None]
    assert gain.std() > 0.05
    assert gain.abs().max() < MAX_LOG_GAIN


@torch.no_grad()
def test_order_of_units_does_not_matter(batch: WindowBatch, awake: Model, units: UnitTable) -> None:
    model, order = awake(), torch.randperm(12, generator=torch.Generator().manual_seed(0))
    columns = {
        name: getattr(batch, name)[..., order] for name in ("history", "ema_hz", "counts", "unit_mask", "unit_id")
    }
    shuffled = replace(batch, token_unit=order.argsort()[batch.token_unit].to(torch.int32), **columns)
    same(model(shuffled, units), model(batch, units)[..., order])


@torch.no_grad()
def test_order_of_spikes_within_a_window_does_not_matter(batch: WindowBatch, awake: Model, units: UnitTable) -> None:
    model, rng = awake(), torch.Generator().manual_seed(0)
    order = torch.cat(
        [a + torch.randperm(b - a, generator=rng) for a, b in zip(batch.cu_seqlens, batch.cu_seqlens[1:], strict=False)]
    )
    shuffled = replace(batch, token_time_s=batch.token_time_s[order], token_unit=batch.token_unit[order])
    same(model(shuffled, units), model(batch, units))


@torch.no_grad()
def test_columns_of_padding_do_not_matter(batch: WindowBatch, awake: Model, units: UnitTable) -> None:
    model = awake()

    def pad(x: Tensor, value: Any) -> Tensor:
        return torch.cat([x, torch.full((*x.shape[:-1], 3), value, dtype=x.dtype)], dim=-1)

    padded = replace(
        batch,
        history=pad(batch.history, 9),
        ema_hz=pad(batch.ema_hz, 99.0),
        counts=pad(batch.counts, 9),
        unit_mask=pad(batch.unit_mask, False),
        unit_id=pad(batch.unit_id, -1),
    )
    same(model(padded, units)[..., :12], model(batch, units))
    same(model.compute_loss(padded, units), model.compute_loss(batch, units))


@torch.no_grad()
def test_a_window_is_forecast_alone_as_in_company(store: Path, open_windows: Windows, awake: Model) -> None:
    windows = open_windows(store, select=MIXED)
    units = unit_table(open_windows(store, "train", select=MIXED))
    model, marks = awake(), windows.plan().windows
    chosen = marks[[0, 40, 41, 90, 1]]
    together = windows.collate(chosen)
    assert together.unit_mask.sum(1).tolist() == [12, 5, 5, 12, 12]
    log_rate = model(together, units)
    for row, window in enumerate(chosen):
        alone = model(windows.collate(window[None]), units)
        same(log_rate[row : row + 1, :, : alone.shape[-1]], alone)


@torch.no_grad()
def test_the_clocks_origin_does_not_matter(
    recordings: list[Recording], make_store: Callable[..., Path], open_windows: Windows, awake: Model
) -> None:
    model = awake()

    def shifted(by_s: float) -> Recording:
        time_s = recordings[0].spikes.time / 30000 + by_s
        spikes = Spikes(time_s, recordings[0].spikes.unit)
        return replace(recordings[0], spikes=spikes, stop_s=90.0 + by_s, intervals={}, series={})

    batches, tables = [], []
    for by_s in (0.0, 1e5):
        path = make_store(f"at-{by_s:g}", [shifted(by_s)])
        batches.append(next(iter(open_windows(path))))
        tables.append(unit_table(open_windows(path, "train")))
    np.testing.assert_allclose(batches[1].t_s - batches[0].t_s, 1e5)
    assert torch.equal(tables[1].log_mean, tables[0].log_mean)
    same(model(batches[1], tables[1]), model(batches[0], tables[0]))


@pytest.mark.parametrize("identity", ["features", "table", "both"])
def test_an_untrained_model_is_the_null(
    identity: str,
    store: Path,
    open_windows: Windows,
    make_config: Callable[..., Config],
    units: UnitTable,
    batch: WindowBatch,
) -> None:
    config = make_config(f"model.identity={identity}")
    model = NeuroHorizon(config.model, config.data, len(units.row))
    log_null = units.log_mean[batch.unit_id][:, None].expand_as(batch.counts)
    for mode in (model.eval(), model.train()):
        assert torch.equal(mode(batch, units), log_null)
        expected = torch.nn.PoissonNLLLoss(log_input=True, full=False)(log_null, batch.counts)
        torch.testing.assert_close(mode.compute_loss(batch, units), expected, atol=1e-7, rtol=1e-6)
    assert validation_fp_bps(model, open_windows(store, "valid"), units) == (pytest.approx(0.0, abs=1e-6),)


def hardest(batch: WindowBatch) -> WindowBatch:
    """Three windows without a spike, now or before: one of them is padded together with a window that has some."""
    window = torch.repeat_interleave(torch.arange(len(batch)), batch.cu_seqlens.diff())
    kept = (window != 0) & (window != 2) & (window != 3)
    lengths = batch.cu_seqlens.diff() * torch.tensor([w not in (0, 2, 3) for w in range(len(batch))])
    history, ema_hz = batch.history.clone(), batch.ema_hz.clone()
    history[[0, 2, 3]], ema_hz[[0, 2, 3]] = 0, 0.0
    return replace(
        batch,
        token_time_s=batch.token_time_s[kept],
        token_unit=batch.token_unit[kept],
        cu_seqlens=torch.cat([torch.zeros(1, dtype=torch.int32), lengths.cumsum(0).to(torch.int32)]),
        history=history,
        ema_hz=ema_hz,
    )


def silent(batch: WindowBatch) -> WindowBatch:
    """No spike in any window."""
    return replace(
        batch,
        token_time_s=batch.token_time_s[:0],
        token_unit=batch.token_unit[:0],
        cu_seqlens=torch.zeros_like(batch.cu_seqlens),
        history=torch.zeros_like(batch.history),
        ema_hz=torch.zeros_like(batch.ema_hz),
    )


def assert_sound(model: NeuroHorizon, batch: WindowBatch, units: UnitTable) -> None:
    """Finite forecasts, loss and gradients, in training too."""
    assert model.eval()(batch, units).isfinite().all()
    model.train().zero_grad()
    loss = model.compute_loss(batch, units)
    loss.backward()
    assert loss.isfinite()
    for name, weight in model.named_parameters():
        assert weight.grad is None or weight.grad.isfinite().all(), name


@pytest.mark.parametrize("edit", [hardest, silent])
@pytest.mark.parametrize("unit_dropout", [0.0, 0.99])
def test_windows_without_spikes_are_forecast_and_learned_from(
    edit: Callable[[WindowBatch], WindowBatch], unit_dropout: float, batch: WindowBatch, awake: Model, units: UnitTable
) -> None:
    assert_sound(awake(f"model.unit_dropout={unit_dropout}"), edit(batch), units)


def test_a_session_of_one_unit_is_forecast_and_learned_from(store: Path, open_windows: Windows, awake: Model) -> None:
    one = "select unit_id from units where session_id like '%002' and unit_index = 3"
    units = unit_table(open_windows(store, "train", select=one))
    assert_sound(awake(), next(iter(open_windows(store, select=one))), units)


def test_units_that_never_spike_are_forecast_and_learned_from(
    recordings: list[Recording], make_store: Callable[..., Path], open_windows: Windows, awake: Model
) -> None:
    spikes = recordings[0].spikes
    heard = (spikes.unit != 2) & (spikes.unit != 11)
    quiet = replace(recordings[0], spikes=replace(spikes, time=spikes.time[heard], unit=spikes.unit[heard]))
    path = make_store("quiet", [quiet])
    units = unit_table(open_windows(path, "train"))
    assert units.log_mean.isfinite().all()
    assert units.features[[2, 11], 1:].isnan().all()
    assert_sound(awake(), next(iter(open_windows(path))), units)


def test_units_that_are_not_heard_are_still_forecast(batch: WindowBatch, awake: Model) -> None:
    model = awake("model.unit_dropout=0.5").train()
    tokens = model.tokenize(batch)
    window = torch.repeat_interleave(torch.arange(len(batch)), batch.cu_seqlens.diff())
    kept = tokens.heard[window, batch.token_unit]
    assert 0.3 < float(tokens.heard.double().mean()) < 0.7
    assert torch.equal(tokens.time_s, batch.token_time_s[kept])
    assert torch.equal(tokens.unit[tokens.row], batch.unit_id[window, batch.token_unit][kept])
    assert torch.equal(tokens.cu_seqlens.diff(), torch.bincount(window[kept], minlength=len(batch)).to(torch.int32))


def test_every_unit_is_heard_in_evaluation(batch: WindowBatch, awake: Model) -> None:
    tokens = awake("model.unit_dropout=0.5").tokenize(batch)
    assert torch.equal(tokens.heard, batch.unit_mask)
    assert len(tokens.row) == len(batch.token_unit)


@torch.no_grad()
def test_some_columns_are_forecast_as_all_are(batch: WindowBatch, awake: Model, units: UnitTable) -> None:
    model, columns = awake(), torch.tensor([7, 0, 3])
    same(model(batch, units, columns), model(batch, units)[..., columns])


@torch.no_grad()
def test_the_loss_of_a_choice_of_units_is_right_on_average(batch: WindowBatch, awake: Model, units: UnitTable) -> None:
    still = ("model.dropout=0", "model.unit_dropout=0", "model.table_dropout=0")
    model, few = awake(*still).train(), awake(*still, "model.loss_units=3").train()
    torch.manual_seed(0)
    losses = torch.stack([few.compute_loss(batch, units) for _ in range(200)])
    whole = model.compute_loss(batch, units)
    assert losses.std() > 0
    assert abs(float(losses.mean() - whole)) < 4 * float(losses.std()) / np.sqrt(200)
    torch.testing.assert_close(few.eval().compute_loss(batch, units), whole)
