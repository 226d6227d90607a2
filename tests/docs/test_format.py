"""The reader in the format's specification, which knows nothing of this software, reads what the software wrote."""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nhdata

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "format.md").read_text()


@pytest.fixture(scope="module")
def reader() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)) == {"json", "pathlib", "zarr"}
    names: dict[str, Any] = {}
    exec(compile(code, "format.md", "exec"), names)  # noqa: S102
    return names


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("format")
    with zipfile.ZipFile(ROOT / "tests" / "compat" / "store_v1.zip") as archive:
        archive.extractall(folder)
    return folder / "store_v1.zarr"


def test_sessions(reader, root) -> None:
    found = reader["sessions"](root)
    store = nhdata.open(root)
    assert sorted(found) == store.session_ids
    for name, group in found.items():
        assert dict(group.attrs) == store.session(name).attrs


@pytest.mark.parametrize("window", [(0.0, 12.34), (0.0, 0.05), (3.21, 7.9), (0.02, 0.02), (12.3, 99.0)])
def test_spikes(reader, root, window) -> None:
    for name, group in reader["sessions"](root).items():
        since_start_s, unit = reader["spikes"](group, *window)
        times_s, wanted = nhdata.open(root).session(name).spikes(*window)
        np.testing.assert_allclose(since_start_s, times_s)
        np.testing.assert_array_equal(unit, wanted)


def test_tables(reader, root) -> None:
    for name, group in reader["sessions"](root).items():
        session = nhdata.open(root).session(name)
        for found, wanted in [
            (reader["table"](group["units"]), session.units()),
            *((reader["table"](group[f"intervals/{k}"]), table) for k, table in session.intervals().items()),
        ]:
            assert found.keys() == wanted.keys()
            for column, values in wanted.items():
                if values.dtype == object:
                    assert [value or "" for value in found[column]] == values.tolist()
                else:
                    np.testing.assert_array_equal(found[column], values)


def test_every_array_and_attribute_is_in_the_specification(root) -> None:
    session = nhdata.open(root).session("mouse-1")
    for name in session.attrs:
        assert f"`{name}`" in PAGE, name
    for name in session.attrs["provenance"]:
        assert f"`{name}`" in PAGE, name
