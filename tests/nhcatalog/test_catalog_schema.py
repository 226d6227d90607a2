"""The registry: what it lists, how rows are made to fit, and that the README shows it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nhcatalog.errors
from nhcatalog.errors import UserError
from nhcatalog.schema import ARROW_TYPES, FEATURE_NAMES, TABLES, arrow_schema, conform, describe, markdown

README = Path(nhcatalog.errors.__file__).parent.parent / "README.md"


def test_readme_is_what_the_registry_prints() -> None:
    assert README.read_text().endswith("`python -m nhcatalog.schema`.\n\n" + markdown())


def test_every_column_is_described_once_and_its_unit_agrees_with_its_name() -> None:
    units = {"_s": "s", "_hz": "Hz", "_um": "µm", "_uv": "µV"}
    for table, column, type_, unit, meaning in describe():
        assert type_ in ARROW_TYPES
        assert len(meaning) > 4
        for suffix, expected in units.items():
            if column.endswith(suffix):
                assert unit == expected, (table, column)
    for name in TABLES:
        assert len(set(arrow_schema(name).names)) == len(TABLES[name].columns)
        assert all(re.fullmatch("[a-z][a-z0-9_]*", column) for column in arrow_schema(name).names)


def test_the_33_features_in_order() -> None:
    assert len(FEATURE_NAMES) == 33
    assert FEATURE_NAMES[:3] == ("rate_hz", "isi_cv", "isi_hist_00")
    assert FEATURE_NAMES[21:24] == ("isi_hist_19", "autocorr_010ms", "autocorr_020ms")
    assert FEATURE_NAMES[-2:] == ("autocorr_100ms", "fano_20ms")
    edges_s = np.logspace(-4, 1, 21)
    for k in range(20):
        (text,) = (c.meaning for c in TABLES["unit_features"].columns if c.name == f"isi_hist_{k:02d}")
        assert [float(x) for x in re.findall(r"\d[\d.]*", text)] == pytest.approx(edges_s[k : k + 2], rel=1e-3)


def test_conform_orders_casts_and_fills() -> None:
    given_rows = pa.table(
        {
            "good": [True, False],
            "peak_channel": pa.array([12.0, np.nan], pa.float32()),
            "region": pa.array(["CA1", "CA1"]).dictionary_encode(),
            "n_spikes": pa.array([1, 2], pa.uint16()),
        }
    )
    rows = conform("units", given_rows)
    assert rows.schema == arrow_schema("units")
    assert rows["peak_channel"].to_pylist() == [12, None]
    assert rows["region"].to_pylist() == ["CA1", "CA1"]
    assert rows["snr"].null_count == 2


@given(st.lists(st.none() | st.floats(width=32), max_size=20))
def test_conform_keeps_every_number_and_no_nan(values: list[float | None]) -> None:
    kept = conform("units", pa.table({"snr": pa.array(values, pa.float64())}))["snr"].to_pylist()
    assert kept == [None if value is None or value != value else value for value in values]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"colour": ["red"]}, "no column 'colour'"),
        ({"peak_channel": [1.5]}, "units.peak_channel"),
        ({"snr": ["much"]}, "units.snr"),
        ({"n_spikes": [[1]]}, "units.n_spikes"),
    ],
)
def test_conform_names_what_does_not_fit(columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        conform("units", pa.table(columns))
    assert "\n" not in str(caught.value)


def test_conform_refuses_a_column_twice_and_an_unknown_table() -> None:
    with pytest.raises(UserError, match="twice"):
        conform("units", pa.table([pa.array([1.0]), pa.array([2.0])], names=["snr", "snr"]))
    with pytest.raises(UserError, match="choose one of sessions, units"):
        conform("spikes", pa.table({"snr": [1.0]}))


def test_errors_are_cheap_to_import() -> None:
    code = "import sys, nhcatalog.errors; assert not {'duckdb', 'pyarrow'} & set(sys.modules)"
    folder = str(README.parent)
    subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {folder!r}); {code}"], check=True)
