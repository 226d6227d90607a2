"""``nhdata report`` as a shell runs it."""

import json
import shutil

import pytest


def test_store_and_session(nhdata_run, small_store, tmp_path) -> None:
    out = tmp_path / "store.html"
    result = nhdata_run("report", "--store", small_store, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}\n"
    assert out.read_text().startswith("<!doctype html>")
    session_id = json.loads(nhdata_run("ls", "--store", small_store, "--json").stdout)["sessions"][0]["session_id"]
    result = nhdata_run("report", "--store", small_store, "--session", session_id, "--out", out, "--json")
    value = json.loads(result.stdout)
    assert value["schema"] == 1
    assert value["bytes"] == out.stat().st_size < 3_000_000
    assert session_id in out.read_text()
    assert list(tmp_path.iterdir()) == [out]


def test_an_unknown_session_is_one_line(nhdata_run, small_store, tmp_path) -> None:
    result = nhdata_run("report", "--store", small_store, "--session", "nope", "--out", tmp_path / "x.html")
    assert result.exit_code == 1
    assert "nhdata ls" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_damaged_session_is_one_line(nhdata_run, small_store, tmp_path) -> None:
    store = tmp_path / "data.zarr"
    shutil.copytree(small_store, store)
    first, second = sorted((store / "sessions" / "synthetic").glob("sim*"))
    chunk = first / "spikes" / "tick" / "c" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-100] + bytes(100))
    shutil.rmtree(second)
    for folder in (first, second):
        result = nhdata_run("report", "--store", store, "--session", folder.name, "--out", tmp_path / "x.html")
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert "nhdata ingest … --existing overwrite" in line or "nhdata validate" in line
    assert nhdata_run("report", "--store", store, "--out", tmp_path / "x.html").exit_code == 0


def test_a_picture_without_a_browser_says_what_to_do(nhdata_run, small_store, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = nhdata_run("report", "--store", small_store, "--out", tmp_path / "x.html", "--png")
    assert result.exit_code == 1
    assert "apt-get install chromium" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium on the search path")
def test_a_picture_is_as_tall_as_the_page(nhdata_run, small_store, tmp_path) -> None:
    result = nhdata_run("report", "--store", small_store, "--out", tmp_path / "x.html", "--png")
    assert result.exit_code == 0, result.stderr
    head = (tmp_path / "x.png").read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    assert int.from_bytes(head[16:20], "big") == 1136
    assert int.from_bytes(head[20:24], "big") > 1000
