"""How a store and a session look in a notebook."""

import xml.etree.ElementTree as ET

import nhdata


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
