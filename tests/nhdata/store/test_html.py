"""How a store and a session look in a notebook."""

import json
import xml.etree.ElementTree as ET

from click.testing import CliRunner

import nhdata
from nhcli.data import cli


def test_a_store_and_a_session_show_what_they_hold(recording, put, tmp_path) -> None:
    put(tmp_path / "s", recording(subject="<script>alert(1)</script>"))
    store = nhdata.open(tmp_path / "s")
    for shown in (store, store.session("mouse-1")):
        html = shown._repr_html_()
        ET.fromstring(f"<div>{html}</div>")  # well formed
        assert "<script>" not in html
        assert "mouse-1" in html
    assert "log position: 1" in store._repr_html_()
    assert "units: 5" in store._repr_html_()
    assert "<td>CA1</td><td>2</td>" in store.session("mouse-1")._repr_html_()


def test_an_empty_store_and_a_long_one(recording, put, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("nhdata.store.store.SHOWN_SESSIONS", 1)
    for name in ("one", "two", "three"):
        put(tmp_path / "s", recording(session_id=name))
    assert "and 2 more" in nhdata.open(tmp_path / "s")._repr_html_()
    assert "sessions: 0" in nhdata.open(tmp_path / "s", at=0)._repr_html_()


def test_neither_a_repr_nor_info_reads_spikes_signals_or_intervals(recording, put, tmp_path) -> None:
    put(tmp_path / "s", recording())
    store = nhdata.open(tmp_path / "s")
    for part in ("spikes", "series", "intervals"):
        chunks = [path for path in (store.session("mouse-1").path / part).rglob("c/**/*") if path.is_file()]
        assert chunks
        for chunk in chunks:
            chunk.write_bytes(b"damaged")
    html = store.session("mouse-1")._repr_html_()
    for name, n in (("intervals trials", 3), ("intervals empty", 0), ("series wheel_position", 48), ("series xy", 5)):
        assert f"<td>{name}</td><td>{n}</td>" in html
    shown = CliRunner().invoke(cli, ["info", "mouse-1", "--store", str(tmp_path / "s"), "--json"])
    value = json.loads(shown.stdout)
    assert value["intervals"] == {"trials": 3, "empty": 0}
    assert value["series"] == {"wheel_position": {"n": 48, "unit": "rad"}, "xy": {"n": 5, "unit": "cm"}}
