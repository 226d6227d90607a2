"""The plan of a store: clocks, blocks and names."""

from fractions import Fraction
from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nhcatalog.errors import UserError
from nhdata.names import safe_name
from nhdata.store.layout import (
    CHUNK_SPIKES,
    SHARD_SPIKES,
    TICK_RATES_HZ,
    block_offsets,
    check_name,
    shard_spikes,
    tick_at,
    tick_rate_hz,
)

RATES_HZ = [1e6, 5e5, 30000.0, 24414.0625, 32552.0]


@pytest.mark.parametrize(("rate_hz", "coarser_hz"), list(pairwise(TICK_RATES_HZ)))
def test_the_finest_clock_that_holds_the_session_is_chosen(rate_hz, coarser_hz):
    longest_s = (2**32 - 3) / rate_hz  # its end is a tick below the two that mean "none" and "past the end"
    assert tick_rate_hz(longest_s) == rate_hz
    assert tick_rate_hz(longest_s + 1.5 / rate_hz) == coarser_hz


def test_an_hour_has_microseconds_and_40_hours_are_refused():
    assert tick_rate_hz(0.0) == tick_rate_hz(3600.0) == 1e6
    assert tick_rate_hz(39 * 3600.0) == 3e4
    with pytest.raises(UserError, match=r"40\.0 hours.*split"):
        tick_rate_hz(40 * 3600.0)


@given(
    st.lists(st.integers(0, 3_000_000), max_size=50),
    st.sampled_from(RATES_HZ),
    st.sets(st.integers(0, 40), max_size=8),
)
def test_blocks_begin_at_the_first_spike_at_or_after_their_edge(ticks, tick_hz, edges):
    on_edges = [ceil(Fraction(str(tick_hz)) * k / 10) for k in edges]
    tick = np.sort(np.array(ticks + on_edges, np.uint32))
    duration_s = (int(tick.max(initial=0)) + 1) / tick_hz
    blocks = block_offsets(tick, tick_hz, duration_s)
    assert blocks.dtype == np.int64
    assert (blocks.size - 2) / 10 < duration_s <= (blocks.size - 1) / 10 + 1e-6
    brute = [sum(Fraction(t) / Fraction(str(tick_hz)) < Fraction(k, 10) for t in tick.tolist()) for k in range(41)]
    k = min(41, blocks.size - 1)
    assert blocks[:k].tolist() == brute[:k]
    assert blocks[-1] == tick.size


def test_a_session_of_whole_blocks_has_no_block_too_many():
    assert block_offsets(np.empty(0, np.uint32), 30000.0, 0.3).tolist() == [0, 0, 0, 0]
    assert block_offsets(np.empty(0, np.uint32), 30000.0, 0.0).tolist() == [0]


@given(st.integers(0, 2**32 - 2), st.sampled_from(RATES_HZ), st.sampled_from([0.0, 7.0, 1_700_000_000.0]))
def test_the_time_of_a_tick_is_that_tick(tick, tick_hz, t_start_s):
    assert tick_at(t_start_s + tick / tick_hz, t_start_s, tick_hz) == tick


@given(st.integers(0, 2**30), st.floats(0.01, 0.99), st.sampled_from(RATES_HZ))
def test_a_time_between_two_ticks_is_the_later(tick, part, tick_hz):
    assert tick_at((tick + part) / tick_hz, 0.0, tick_hz) == tick + 1


@pytest.mark.parametrize(
    ("n_spikes", "shard"),
    [
        (0, CHUNK_SPIKES),
        (CHUNK_SPIKES, CHUNK_SPIKES),
        (CHUNK_SPIKES + 1, 2 * CHUNK_SPIKES),
        (10**9, SHARD_SPIKES),
    ],
)
def test_a_shard_is_whole_chunks_and_at_most_4_mi_spikes(n_spikes, shard):
    assert shard_spikes(n_spikes) == shard


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\\b", ".staging", "-x", "a b", "é", "a\n", "x" * 129])
def test_a_name_that_is_unsafe_as_a_folder_is_refused(name):
    with pytest.raises(UserError, match="cannot name a folder"):
        check_name("session_id", name)


def test_a_safe_name_is_left_as_it_is():
    assert check_name("session_id", "sub-4_ses.1") == "sub-4_ses.1"


@given(st.text())
def test_any_text_becomes_a_safe_name(text):
    name = safe_name(text)
    assert name.isascii()
    assert 1 <= len(name) <= 128
    assert name.replace("_", "a").isalnum()
    assert not name.startswith("__")  # Zarr keeps those for itself
    assert safe_name(name) == name
