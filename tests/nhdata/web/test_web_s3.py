"""Report and app of a store in an object store."""

import numpy as np
import pytest
from starlette.testclient import TestClient

import nhdata
from nhcatalog.place import to_place
from nhdata.report.page import to_html
from nhdata.report.pages import session_page, store_page
from nhdata.sources.synthetic import simulate
from nhdata.store.commit import add_session
from nhdata.store.encode import encode
from nhdata.web.app import make_app


@pytest.fixture
def url(bucket: str) -> str:
    add_session(to_place(f"{bucket}/data.zarr"), encode(simulate(np.random.default_rng(0), "sim", 0, 12, 20.0)))
    return f"{bucket}/data.zarr"


def test_an_object_store_has_reports_and_an_app(url, token) -> None:
    store = nhdata.open(url)
    assert "<section>" in to_html(store_page(store))
    assert "sim" in to_html(session_page(store.session("sim")))
    with TestClient(make_app(url, token, 1, limit_s=60.0), base_url="http://127.0.0.1:1") as client:
        assert "1–1 of 1" in client.get("/", params={"token": token}).text
        assert client.get("/unit", params={"id": "sim/probe00/3"}).status_code == 200
        form, origin = {"name": "all", "where": "good"}, {"origin": "http://127.0.0.1:1"}
        assert ">all</a>" in client.post("/selections", data=form, headers=origin).text
    assert store.catalog.selections.read("all")[0].n_units == 12
