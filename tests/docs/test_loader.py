"""The blocks of the how-to on the loader run as they stand, one after another, on a small store."""

import re
from pathlib import Path
from typing import Any

import pytest

from nhdata.ingest import ingest
from nhdata.sources import SourceOptions

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "loader.md").read_text()


def test_the_loader_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ingest(tmp_path / "data.zarr", "synthetic", [], options=SourceOptions(n_sessions=2, n_units=12, duration_s=60.0))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, "loader.md", "exec"), names)  # noqa: S102 (the page itself)
    assert capsys.readouterr().out.count("ShuffleQuality(") == 3
    assert len(names["batch"]) > 0
