"""SQL of a page from what was typed."""

import pytest

from nhdata.web.queries import Listing


def test_plain() -> None:
    made = Listing("units").rows
    assert "from units" in made
    assert "where" not in made
    assert made.endswith("order by unit_id limit 50 offset 0")


@pytest.mark.parametrize(
    ("sort", "descending", "order"),
    [
        ("rate_hz", True, "rate_hz desc nulls last, unit_id"),
        ("rate_hz", False, "rate_hz nulls last, unit_id"),
        ("unit_id", True, "unit_id desc"),
        ("1; drop table x", True, "unit_id"),
    ],
)
def test_order(sort, descending, order) -> None:
    made = Listing("units", sort=sort, descending=descending, page=2).rows
    assert f"order by {order} limit 50 offset 100" in made


def test_a_condition_and_a_whole_select() -> None:
    commented = Listing("units", "rate_hz > 1 -- fast").ids
    assert commented.startswith("select unit_id from units where (rate_hz > 1")
    assert commented.endswith("\n)")
    whole = Listing("units", " Select unit_id from units; ").ids
    assert whole == "select unit_id from units where unit_id in (Select unit_id from units\n)"
    assert Listing("units", "selected > 1").ids.endswith("where (selected > 1\n)")
