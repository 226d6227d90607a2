"""Nobody gets in without the token, under another name, or from another origin."""

import asyncio

import pytest

from nhdata.web.access import Access

HOST = "127.0.0.1:8765"


@pytest.fixture
def access() -> Access:
    return Access(lambda *_: None, frozenset({HOST}), "secret")


@pytest.mark.parametrize(
    ("headers", "from_address", "status"),
    [
        ({"host": HOST}, "", 403),
        ({"host": HOST}, "wrong", 403),
        ({"host": HOST}, "sécret", 403),
        ({"host": HOST}, "secret", None),
        ({"host": HOST, "cookie": "nhdata_8765=secret"}, "", None),
        ({"host": HOST, "cookie": "nhdata_8766=secret"}, "", 403),
        ({"host": HOST, "cookie": "a=b; nhdata_8765=secret"}, "", None),
        ({"host": HOST, "cookie": '"\\'}, "", 403),
        ({"host": "evil.example:8765"}, "secret", 400),
        ({"host": "127.0.0.1"}, "secret", 400),
        ({}, "secret", 400),
    ],
)
def test_get(access, headers, from_address, status) -> None:
    refused = access.refusal("GET", headers, from_address)
    assert (refused and refused[0]) == status


@pytest.mark.parametrize(
    ("origin", "length", "status"),
    [
        (f"http://{HOST}", "10", None),
        ("null", "10", 403),
        (None, "10", 403),
        ("http://127.0.0.1:9999", "10", 403),
        (f"https://{HOST}", "10", 403),
        (f"http://{HOST}", "65537", 413),
        (f"http://{HOST}", "-1", 413),
        (f"http://{HOST}", None, 413),
    ],
)
def test_post(access, origin, length, status) -> None:
    headers = {"host": HOST, "origin": origin, "content-length": length}
    refused = access.refusal("POST", {k: v for k, v in headers.items() if v is not None}, "secret")
    assert (refused and refused[0]) == status


def test_only_get_and_post(access) -> None:
    assert access.refusal("PUT", {"host": HOST}, "secret")[0] == 405
    assert access.refusal("OPTIONS", {"host": HOST}, "secret")[0] == 405


def test_no_web_sockets(access) -> None:
    sent = []

    async def send(message) -> None:
        sent.append(message)

    asyncio.run(access({"type": "websocket", "headers": []}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_headers_and_cookie(client, token) -> None:
    client.cookies.clear()
    assert client.get("/").status_code == 403
    answer = client.get("/", params={"token": token})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["x-frame-options"] == "DENY"
    assert "set-cookie" not in client.get("/").headers
    assert client.get("/static/keys.js").status_code == 200
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_no_cors_preflight(client) -> None:
    headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    answer = client.options("/units", headers=headers)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]
