"""Pages as a client gets them."""

import csv
import io
import re
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

import nhdata
from nhcatalog.errors import UserError
from nhdata.sources.synthetic import simulate
from nhdata.store.commit import add_session
from nhdata.store.encode import encode
from nhdata.web.app import make_app


def test_sessions(client, evil) -> None:
    page = client.get("/").text
    assert "1–2 of 2" in page
    assert 'href="/session?id=sim"' in page
    assert evil not in page


def test_units_by_pages(client) -> None:
    seen: list[str] = []
    address = "/units"
    while address:
        page = client.get(address).text
        seen += re.findall(r'class="open" href="[^"]+">([^<]+)<', page)
        found = re.search(r'id="next" rel="next" href="([^"]+)"', page)
        address = found and "/units" + found[1].replace("&amp;", "&")
    assert len(seen) == len(set(seen)) == 120
    assert seen == sorted(seen)


def test_filter_and_sort(client) -> None:
    page = client.get("/units", params={"where": "source = 'synthetic' -- mine", "sort": "rate_hz", "desc": "1"}).text
    assert "1–20 of 20" in page
    rate_hz = [float(v) for v in re.findall(r'<td class="r">([\d.]+)</td>\s*</tr>', page)]
    assert rate_hz == sorted(rate_hz, reverse=True)
    assert len(rate_hz) == 20
    whole = client.get("/units", params={"where": "select unit_id from unit_features where fano_20ms > 0"}).text
    assert re.search(r"1–50 of 1\d\d", whole)


@pytest.mark.parametrize(
    "where",
    [
        "region =",
        "1=1; drop table units",
        "rate_hz > ?",
        "rate_hz > $x",
        "/*",
        "\x00",
        "unit_id in (select * from '/etc/passwd')",
        "(",
    ],
)
def test_bad_sql_is_said_beside_what_was_typed(client, where) -> None:
    answer = client.get("/units", params={"where": where})
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    assert client.get("/units.csv", params={"where": where}).status_code == 400


@pytest.mark.parametrize("page", ["-1", "x", "99999999999999999999", "²", "5000"])
def test_odd_pages(client, page) -> None:
    assert client.get("/units", params={"page": page}).status_code == 200


def test_csv_has_every_row_and_column(client, evil) -> None:
    answer = client.get("/units.csv", params={"where": "true", "sort": "n_spikes"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 120
    assert "ccf_ap_um" in rows[0]
    assert {row["region"] for row in rows} >= {evil, "CA1"}


def test_session_and_unit_pages(client, evil) -> None:
    page = client.get("/session", params={"id": "sim"}).text
    assert page.count("<section>") == 9
    assert "bokeh.js" in page
    unit_id = f"evil/{evil}/7"
    for path, params in (("/session", {"id": "evil"}), ("/unit", {"id": unit_id}), ("/unit", {"id": "sim/probe00/3"})):
        answer = client.get(path, params=params)
        assert answer.status_code == 200
        assert evil not in answer.text
    assert "autocorr_010ms" in answer.text
    assert client.get("/bokeh.js").headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("path", ["/session?id=../../x", "/session", "/unit?id=no", "/unit"])
def test_what_is_not_there(client, path) -> None:
    answer = client.get(path)
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/nothing"])
def test_no_other_file(client, path) -> None:
    assert client.get(path).status_code == 404


ORIGIN = {"origin": "http://127.0.0.1:8765"}


def keep(client, name, where="region = 'CA1'", headers=ORIGIN):
    return client.post("/selections", data={"name": name, "where": where}, headers=headers, follow_redirects=True)


def test_a_selection_is_kept(client, web_root, evil) -> None:
    assert "None yet" in client.get("/selections").text
    answer = keep(client, "ca1")
    assert answer.url.path == "/selections"
    assert ">ca1</a>" in answer.text
    made, unit_ids = nhdata.open(web_root).catalog.selections.read("ca1")
    assert unit_ids == [f"sim/probe00/{k}" for k in range(4)]
    shown = client.get("/units", params={"where": made.query}).text
    assert "1–4 of 4" in shown
    keep(client, "evil", f"region = '{evil}'")
    assert evil not in client.get("/selections").text


@pytest.mark.parametrize(
    ("name", "where", "why"),
    [
        ("taken", "true", "already"),
        ("../x", "true", "cannot name"),
        ("", "true", "cannot name"),
        ("bad", "no_column = 1", "no_column"),
        ("bad", "1=1); copy units to 'x'", "role"),
        ("nobody", "false", "role"),
    ],
)
def test_a_selection_that_cannot_be_kept(client, web_root, name, where, why) -> None:
    keep(client, "taken")
    before = nhdata.open(web_root).catalog.selections.names()
    answer = keep(client, name, where)
    assert answer.status_code == 400
    assert why in answer.text
    assert nhdata.open(web_root).catalog.selections.names() == before


@pytest.mark.parametrize("headers", [{}, {"origin": "http://evil.example"}, {"origin": "null"}])
def test_a_selection_from_another_origin(client, web_root, headers) -> None:
    assert keep(client, "forged", headers=headers).status_code == 403
    assert "forged" not in nhdata.open(web_root).catalog.selections.names()


def test_runs(client, evil) -> None:
    page = client.get("/runs").text
    assert evil.replace("/", "") not in page
    names = [unescape(name) for name in re.findall(r'class="open" href="[^"]+">([^<]+)<', page)]
    assert sorted(names) == sorted(["damaged", "first", f"<b>{evil.replace('/', '')}"])
    assert "is damaged" in page or "run.json" in page
    for name in set(names) - {"damaged"}:
        page = client.get("/run", params={"name": name}).text
        assert "0.3000 bits/spike" in page
        assert evil not in page
        assert f"<b>{evil.replace('/', '')}" not in page
        file = client.get("/run.html", params={"name": name})
        assert "attachment" in file.headers["content-disposition"]
        assert not re.search(r"<(script|link)[^>]+(src|href)=", file.text)


@pytest.mark.parametrize("name", ["damaged", "", "../runs", "first/../damaged", "/etc", "first\x00", "none"])
def test_a_run_that_is_none(client, name) -> None:
    for path in ("/run", "/run.html"):
        answer = client.get(path, params={"name": name})
        assert answer.status_code == 400
        assert 'role="alert"' in answer.text


def test_without_runs_there_is_no_such_page(web_root, token) -> None:
    with TestClient(make_app(str(web_root), token, 1), base_url="http://localhost:1") as client:
        answer = client.get("/runs", params={"token": token})
    assert answer.status_code == 400
    assert "--runs" in answer.text


def test_no_store_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no store"):
        make_app(str(tmp_path / "none"), "t", 1)


def test_a_store_that_changes_is_shown_as_it_is(web_root: Path, token, tmp_path: Path) -> None:
    root = tmp_path / "data.zarr"
    shutil.copytree(web_root, root)
    with TestClient(make_app(str(root), token, 1, limit_s=60.0), base_url="http://127.0.0.1:1") as client:
        assert "1–2 of 2" in client.get("/", params={"token": token}).text
        add_session(root, encode(simulate(np.random.default_rng(5), "late", 0, 12, 20.0)))
        assert "1–3 of 3" in client.get("/").text
        assert client.get("/unit", params={"id": "late/probe00/3"}).status_code == 200
        nhdata.open(root).catalog.remove("late")
        assert "1–2 of 2" in client.get("/").text
        assert client.get("/unit", params={"id": "late/probe00/3"}).status_code == 400
        shutil.rmtree(root)
        answer = client.get("/")
        assert answer.status_code == 400
        assert "no store" in answer.text


def test_what_leads_nowhere_is_a_page_of_the_app(client) -> None:
    answer = client.get("/nothing")
    assert answer.status_code == 404
    assert 'role="alert"' in answer.text


def test_browsing_writes_nothing(client, web_root) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in web_root.rglob("*"))
    for path in ("/", "/units", "/session?id=sim", "/unit?id=sim/probe00/3", "/units.csv"):
        assert client.get(path).status_code == 200
    assert sorted((p, p.stat().st_mtime_ns) for p in web_root.rglob("*")) == before
