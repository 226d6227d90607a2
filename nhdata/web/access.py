"""Who may ask: this machine's own browser, with the token, and no page of another origin."""

from __future__ import annotations

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 64 * 1024
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

REFUSED = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<title>nhdata</title><body style="margin:10vh auto;max-width:60ch;padding:0 24px;color:#1f2933;font:16px/1.5 '
    'system-ui,sans-serif"><p>{}.</p></body></html>\n'
)
"""A page of one sentence, for who may not have any other."""


class Access:
    """Answers 400, 403 or 413 to what is not meant for this server, and adds the headers that keep others out.

    The token comes in the address once, and from then on as a cookie that scripts cannot read and other sites cannot
    send. A POST must come from a page of this server (``Origin``), for other servers on this machine share its cookies.

    Parameters
    ----------
    app : ASGI application
    hosts : frozenset of str
        Accepted ``Host`` headers, e.g. ``{"127.0.0.1:8000"}``: a name that someone points at this machine is none.
    token : str
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str) -> None:
        self.app, self.hosts, self.token = app, hosts, token
        self.cookie = "nhdata_" + "_".join(sorted(h.rpartition(":")[2] for h in hosts)[:1])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no page uses a web socket
            await send({"type": "websocket.close", "code": 1008})
            return
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers[name.decode("latin-1")] = value.decode("latin-1")
        from_address = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        nonce = secrets.token_urlsafe(16)
        scope["state"] = {**scope.get("state", {}), "nonce": nonce}

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answer[name] = value
                answer["Content-Security-Policy"] = policy(nonce)
                if self.right(from_address):
                    answer.append("Set-Cookie", f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/")
            await send(message)

        refused = self.refusal(scope["method"], headers, from_address)
        if refused is None:
            await self.app(scope, receive, send_more)
        else:
            code, text = refused
            await HTMLResponse(REFUSED.format(text), code)(scope, receive, send_more if code != 400 else send)

    def refusal(self, method: str, headers: dict[str, str], from_address: str) -> tuple[int, str] | None:
        """Status and reason why a request is not answered; None if it is."""
        host = headers.get("host", "")
        if host not in self.hosts:
            return 400, "this server answers to 127.0.0.1 and localhost only"
        if not (self.right(from_address) or self.right(self.cookie_of(headers))):
            return 403, "the token is missing or of another server: open the address that 'nhdata serve' printed last"
        if method not in ("GET", "HEAD", "POST"):
            return 405, "only GET and POST"
        if method == "POST":
            if headers.get("origin") != f"http://{host}":
                return 403, "a form of another origin"
            if not headers.get("content-length", "").isdigit() or int(headers["content-length"]) > MAX_BODY:
                return 413, f"a form of more than {MAX_BODY} bytes"
        return None

    def right(self, token: str) -> bool:
        """Whether a token is the right one, in a time that does not tell how much of it is."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def cookie_of(self, headers: dict[str, str]) -> str:
        """The token in the cookie, or an empty text."""
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found else ""


def policy(nonce: str) -> str:
    """Scripts of this server and those that carry the nonce; nothing from elsewhere."""
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
