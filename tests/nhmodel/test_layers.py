"""Attention over ragged spikes, rotary time, the decoder's causality and the head."""

import math
from typing import NamedTuple

import pytest
import torch
import torch.nn.attention.varlen
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nhmodel.layers.blocks import Attention, DecoderLayer, SpikeAttention
from nhmodel.layers.head import RateHead
from nhmodel.layers.ragged import _bucketed, _varlen, ragged_cross_attention
from nhmodel.layers.rotary import MAX_PERIOD_S, MIN_PERIOD_S, RotaryTime, rotate


def window_by_window(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
    """Textbook softmax attention of each window by itself."""
    out = []
    for b, (start, stop) in enumerate(zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True)):
        score = torch.einsum("lhd,shd->hls", q[b], k[start:stop]) / math.sqrt(q.shape[-1])
        out.append(torch.einsum("hls,shd->lhd", score.softmax(-1), v[start:stop]))
    return torch.stack(out)


def ragged_inputs(lengths: list[int], seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    q = torch.randn(len(lengths), 3, 2, 4, generator=rng, dtype=torch.float64)
    k, v = torch.randn(2, sum(lengths), 2, 4, generator=rng, dtype=torch.float64)
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), cu_seqlens


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=9), seed=st.integers(0, 9))
def test_ragged_attention_is_attention_window_by_window(lengths: list[int], seed: int) -> None:
    q, k, v, cu_seqlens = ragged_inputs(lengths, seed)
    found, expected = ragged_cross_attention(q, k, v, cu_seqlens), window_by_window(q, k, v, cu_seqlens)
    torch.testing.assert_close(found, expected)
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(seed), dtype=found.dtype)
    if sum(lengths):
        torch.testing.assert_close(
            torch.autograd.grad((found * weight).sum(), (q, k, v)),
            torch.autograd.grad((expected * weight).sum(), (q, k, v)),
        )


def test_a_window_without_spikes_reads_zero_and_passes_no_gradient() -> None:
    q, k, v, cu_seqlens = ragged_inputs([3, 0, 5, 0, 0, 1], 0)
    out = ragged_cross_attention(q, k, v, cu_seqlens)
    assert not out[[1, 3, 4]].any()
    out.square().sum().backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()
    assert not q.grad[[1, 3, 4]].any()
    assert k.grad is not None
    assert k.grad.isfinite().all()


def test_ragged_attention_of_no_spikes_at_all_is_zero() -> None:
    q, k, v, cu_seqlens = ragged_inputs([0, 0], 0)
    assert torch.equal(ragged_cross_attention(q, k, v, cu_seqlens), torch.zeros_like(q))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the variable-length kernel runs on CUDA only")
def test_variable_length_kernel_is_attention_window_by_window() -> None:
    rng = torch.Generator().manual_seed(0)
    lengths = [5, 0, 300, 1, 0, 77]
    q = torch.randn(len(lengths), 8, 2, 32, generator=rng)
    k, v = torch.randn(2, sum(lengths), 2, 32, generator=rng)
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    half = [x.to("cuda", torch.bfloat16) for x in (q, k, v)]
    found = ragged_cross_attention(*half, cu_seqlens.cuda()).cpu().double()
    expected = window_by_window(*(x.cpu().double() for x in half), cu_seqlens)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


def test_both_ways_to_read_ragged_spikes_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """In buckets, and by the contract of the variable-length kernel, which a loop stands in for.

    What the kernel says of a window without keys is not defined.
    """

    def kernel(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int) -> Tensor:
        assert (max_q, max_k) == (int(cu_q.diff().max()), int(cu_k.diff().max()))
        (n_queries,) = set(cu_q.diff().tolist())
        per_window = q.view(-1, n_queries, *q.shape[1:])
        out = window_by_window(per_window, k, v, cu_k)
        out[cu_k.diff() == 0] = math.nan
        return out.reshape(q.shape)

    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", kernel)
    q, k, v, cu_seqlens = ragged_inputs([5, 0, 30, 1, 0, 7], 0)
    found = _varlen(q, k, v, cu_seqlens)
    torch.testing.assert_close(found, _bucketed(q, k, v, cu_seqlens))
    assert not found[[1, 4]].any()


def angles(rotary: RotaryTime, time_s: Tensor) -> Tensor:
    """The same angles in float64, where 10 s do not blur a period of 0.1 ms."""
    return time_s.double()[..., None] * rotary.omega.double()


def test_rotary_angles_are_two_pi_per_period() -> None:
    rotary = RotaryTime(16)
    time_s = torch.tensor([0.0, -MIN_PERIOD_S, -MAX_PERIOD_S, 0.25])
    found = rotary(time_s)
    assert found.shape == (4, 4)
    assert found[0].tolist() == [0.0] * 4
    assert float(found[1, 0]) == pytest.approx(-2 * math.pi, rel=1e-6)
    assert float(found[2, -1]) == pytest.approx(-2 * math.pi, rel=1e-6)
    ratio = rotary.omega[:-1] / rotary.omega[1:]
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))


def test_rotary_angles_stay_float32_in_half_precision() -> None:
    assert RotaryTime(8)(torch.tensor([0.1]).half()).dtype == torch.float32


@given(seed=st.integers(0, 99))
def test_rotating_back_undoes_rotation_and_keeps_length(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(5, 2, 16, generator=rng, dtype=torch.float64)
    angle = 1e4 * torch.randn(5, 4, generator=rng, dtype=torch.float64)
    turned = rotate(x, angle)
    torch.testing.assert_close(rotate(turned, -angle), x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[..., 8:], x[..., 8:], atol=0, rtol=0)
    assert not torch.allclose(turned[..., :8], x[..., :8])


@pytest.mark.parametrize("shift_s", [10.0, -3.7])
def test_attention_depends_on_differences_of_time_only(shift_s: float) -> None:
    torch.manual_seed(0)
    rotary, block = RotaryTime(16), Attention(32, 2, 0.0).double()
    x, y = torch.randn(3, 4, 32).double(), torch.randn(3, 6, 32).double()
    x_s, y_s = torch.linspace(-0.5, 0, 4), -torch.rand(6)

    def read(x_shift_s: float, y_shift_s: float) -> Tensor:
        return block(x, angles(rotary, x_s.double() + x_shift_s), y, angles(rotary, y_s.double() + y_shift_s))

    torch.testing.assert_close(read(shift_s, shift_s), read(0, 0), atol=1e-7, rtol=0)
    assert (read(shift_s, 0) - read(0, 0)).abs().max() > 1e-3


@pytest.mark.parametrize("shift_s", [10.0, -3.7])
def test_spike_attention_depends_on_differences_of_time_only(shift_s: float) -> None:
    torch.manual_seed(0)
    rotary, block = RotaryTime(16), SpikeAttention(32, 2, 0.0).double()
    x, unit = torch.randn(2, 3, 32).double(), torch.randn(5, 32).double()
    x_s, token_s = torch.tensor([-0.4, -0.2, 0.0]).double(), -torch.rand(9).double()
    row, cu_seqlens = torch.randint(5, (9,)), torch.tensor([0, 4, 9], dtype=torch.int32)

    def read(x_shift_s: float, token_shift_s: float) -> Tensor:
        return block(x, angles(rotary, x_s + x_shift_s), unit, row, angles(rotary, token_s + token_shift_s), cu_seqlens)

    torch.testing.assert_close(read(shift_s, shift_s), read(0, 0), atol=1e-7, rtol=0)
    assert (read(shift_s, 0) - read(0, 0)).abs().max() > 1e-3


@pytest.mark.parametrize("j", [0, 3, 6])
def test_a_bin_of_the_decoder_does_not_see_later_bins(j: int) -> None:
    torch.manual_seed(0)
    rotary, layer = RotaryTime(8), DecoderLayer(16, 2, 0.0)
    bins, latents = torch.randn(2, 7, 16), torch.randn(2, 5, 16)
    bin_angle, latent_angle = rotary(torch.arange(7) * 0.02), rotary(-torch.arange(5) * 0.1)
    before = layer(bins, bin_angle, latents, latent_angle)
    changed = bins.clone()
    changed[:, j] += torch.randn(16)
    after = layer(changed, bin_angle, latents, latent_angle)
    assert torch.equal(after[:, :j], before[:, :j])
    assert ((after - before)[:, j:].abs().amax((0, 2)) > 1e-5).all()


class HeadInputs(NamedTuple):
    """Two windows of five units, for a head of four bins."""

    bins: Tensor
    unit: Tensor
    own: Tensor
    ema: Tensor
    heard: Tensor

    def forecast(self, head: RateHead) -> Tensor:
        return head(self.bins, self.unit, self.own, head.population(self.unit, self.ema, self.heard))


@pytest.fixture
def head() -> RateHead:
    torch.manual_seed(0)
    return RateHead(dim=8, n_bins=4, n_history=3, n_ema=2, hidden=6, rank=3, dropout=0.0)


@pytest.fixture
def inputs() -> HeadInputs:
    torch.manual_seed(1)
    shapes = ((2, 4, 8), (2, 5, 8), (2, 5, 5), (2, 5, 2))
    return HeadInputs(*(torch.randn(shape) for shape in shapes), torch.ones(2, 5, dtype=torch.bool))


def test_an_untrained_head_says_nothing_whatever_it_is_given(head: RateHead, inputs: HeadInputs) -> None:
    assert torch.equal(inputs.forecast(head), torch.zeros(2, 4, 5))


def test_every_path_of_the_head_can_be_learned_from_zero(head: RateHead, inputs: HeadInputs) -> None:
    inputs.forecast(head).sum().backward()
    for name in ("to_rate", "factor_unit", "offset_unit", "own_unit", "pop_out"):
        gradient = head.get_parameter(f"{name}.weight").grad
        assert gradient is not None
        assert gradient.abs().max() > 0, name


def test_the_population_is_the_units_that_are_heard(head: RateHead, inputs: HeadInputs) -> None:
    torch.nn.init.normal_(head.pop_out.weight)
    deaf = inputs._replace(heard=torch.tensor([True, True, True, False, True]).expand(2, -1))
    before = deaf.forecast(head)
    unheard, heard = inputs.ema.clone(), inputs.ema.clone()
    unheard[:, 3] += 1.0
    heard[:, 2] += 1.0
    assert torch.equal(deaf._replace(ema=unheard).forecast(head), before)
    assert not torch.allclose(deaf._replace(ema=heard).forecast(head), before)


def test_the_population_is_a_scaled_sum_over_units(head: RateHead, inputs: HeadInputs) -> None:
    one_by_one = [
        head.population(inputs.unit[:, n : n + 1], inputs.ema[:, n : n + 1], inputs.heard[:, :1]) for n in range(5)
    ]
    found = head.population(inputs.unit, inputs.ema, inputs.heard)
    torch.testing.assert_close(found, torch.stack(one_by_one).sum(0) / math.sqrt(5))


def test_a_window_in_which_nobody_is_heard_has_a_silent_population(head: RateHead, inputs: HeadInputs) -> None:
    found = head.population(inputs.unit, inputs.ema, torch.zeros_like(inputs.heard))
    assert torch.equal(found, torch.zeros(2, 3))
