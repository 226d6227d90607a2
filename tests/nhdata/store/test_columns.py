"""Columns of tables as Zarr arrays and back."""

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nhdata.store.columns import read_table, safe_names, sentinel, write_array, write_table

NUMBERS = ["f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]


def through_zarr(columns):
    """The table after a trip through a Zarr group in memory."""
    group = zarr.create_group(zarr.storage.MemoryStore(), zarr_format=3)
    write_table(group, columns, "row")
    return read_table(group)


@settings(deadline=None)
@given(st.sampled_from(NUMBERS).flatmap(lambda dtype: hnp.arrays(dtype, st.integers(0, 20))))
def test_numbers_come_back_as_they_were(values):
    back = through_zarr({"x": values})["x"]
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


@settings(deadline=None)
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), max_size=20))
def test_text_comes_back_with_missing_as_empty(texts):
    back = through_zarr({"x": np.array([*texts, None], dtype=object)[:-1]})["x"]
    assert back.tolist() == [text or "" for text in texts]


def test_numpy_text_and_truth_come_back():
    back = through_zarr({"text": np.array(["b", "a", "b", ""]), "truth": np.array([True, False, True, True])})
    assert back["text"].tolist() == ["b", "a", "b", ""]
    assert back["truth"].dtype == bool
    assert back["truth"].tolist() == [True, False, True, True]


@pytest.mark.parametrize("dtype", NUMBERS)
def test_a_sentinel_is_never_zero(dtype):
    value = sentinel(np.dtype(dtype))
    assert np.isnan(value) if dtype[0] == "f" else value in (np.iinfo(dtype).max, np.iinfo(dtype).min)
    assert value != 0
    np.dtype(dtype).type(value)  # and it fits


def test_names_of_a_source_are_made_safe_and_none_is_lost():
    names = ["RT (ms)", "RT [ms]", "RT_ms", "../up", "été", "…", "___"]
    back = through_zarr(safe_names({name: np.full(2, i) for i, name in enumerate(names)}))
    assert {int(column[0]) for column in back.values()} == set(range(len(names)))
    assert all(name.isascii() and name.replace("_", "a").isalnum() for name in back)
    assert int(back["RT_ms"][0]) == 0


def test_a_fill_value_may_be_zero():
    group = zarr.create_group(zarr.storage.MemoryStore(), zarr_format=3)
    for name, attributes, fill_value in (("zero", {"fill_value": 0}, 0), ("none", {}, sentinel(np.dtype("i4")))):
        write_array(group, name, np.ones(3, np.int32), ("row",), **attributes)
        assert group[name].fill_value == fill_value


def test_names_that_differ_in_capitals_do_not_collide():
    names = {"Start_S": 0, "RT": 1, "start_s": 2, "rt": 3, "Rt": 4, "层": 5, "RT_2": 6}
    safe = safe_names(names)
    assert list(safe.values()) == list(names.values())
    assert len({name.lower() for name in safe}) == len(names)
    assert (safe["start_s"], safe["rt"]) == (2, 3)
