"""A stand-in for Alyx and the public bucket, on this machine."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

TOKEN = "s3cr3t-t0k3n"


class StandIn(ThreadingHTTPServer):
    """Serves ``/s3/<key>``, ListObjectsV2 at ``/s3/`` in pages of 3, and ``/alyx/sessions`` in pages of 1.

    Sessions have the fields of Alyx 3.6: a list leaves out `data_dataset_session_related`, whose entries have no
    ``file_records``; data sets without an existing file record (`withdrawn`, by id) are left out of it.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.sessions: list[dict] = []
        self.withdrawn: set[str] = set()
        self.faults: list[tuple[str, str]] = []  # what comes next for addresses that hold a text
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.multipart = False
        self.stop = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, text: str) -> int:
        return sum(text in path for path, _ in self.seen)


class Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.server.seen.append((path, dict(self.headers)))
        fault = next((fault for fault in self.server.faults if fault[0] in path), None)
        kind = ""
        if fault is not None:
            self.server.faults.remove(fault)
            kind = fault[1]
        if kind == "hang":
            self.server.stop.wait(5)
            self.close_connection = True
            return
        if kind == "drop":
            self.close_connection = True
            return
        if kind.isdecimal():
            return self.answer(b"trouble", int(kind))
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        route = unquote(parts.path)
        if route == "/s3/":
            body = self.listing(query)
        elif route.startswith("/s3/"):
            if route[4:] not in self.server.objects:
                return self.answer(b"no such key", 404)
            body = self.server.objects[route[4:]]
        else:
            if self.headers.get("Authorization") != f"Token {TOKEN}":
                return self.answer(b'{"detail":"Invalid token."}', 403)
            found = self.rest(route.removeprefix("/alyx/"), query)
            if found is None:
                return self.answer(b'{"detail":"Not found."}', 404)
            body = json.dumps(found).encode()
        if kind == "nonsense":
            body = b"<html>welcome to the hotel wifi</html>" if "alyx" in route else b"{welcome"
        if kind == "damage":
            body = bytes(255 - byte for byte in body)
        self.answer(body, 200, cut=kind == "cut")

    def listing(self, query: dict[str, str]) -> bytes:
        prefix, delimiter = query["prefix"], query.get("delimiter", "")
        entries: dict[str, str] = {}
        for key, content in sorted(self.server.objects.items()):
            if not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folder = prefix + rest.partition(delimiter)[0] + delimiter
                entries[folder] = f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            else:
                etag = hashlib.md5(content).hexdigest() + ("-2" if self.server.multipart else "")
                entries[key] = (
                    f"<Contents><Key>{escape(key)}</Key><ETag>&quot;{etag}&quot;</ETag>"
                    f"<Size>{len(content)}</Size></Contents>"
                )
        start = int(query.get("continuation-token", "0"))
        more = start + 3 < len(entries)
        token = f"<NextContinuationToken>{start + 3}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join([*entries.values()][start : start + 3])}"
            "</ListBucketResult>"
        ).encode()

    def rest(self, route: str, query: dict[str, str]) -> object:
        if route == "sessions":
            start, n = int(query["offset"]), min(int(query["limit"]), 1)
            more = start + n < len(self.server.sessions)
            page = self.server.sessions[start : start + n]
            return {
                "count": len(self.server.sessions),
                "next": f"{self.server.url}/alyx/sessions?limit={n}&offset={start + n}" if more else None,
                "previous": None if start == 0 else f"{self.server.url}/alyx/sessions?limit={n}",
                "results": [{key: one[key] for key in one if key != "data_dataset_session_related"} for one in page],
            }
        found = next((one for one in self.server.sessions if one["id"] == route.rpartition("/")[2]), None)
        if found is None:
            return None
        related = [one for one in found["data_dataset_session_related"] if one["id"] not in self.server.withdrawn]
        return found | {"data_dataset_session_related": related}

    def answer(self, body: bytes, status: int, *, cut: bool = False) -> None:
        start = 0
        if status == 200 and (wanted := self.headers.get("Range")):
            status, start = 206, int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) - start))
        if status == 429:
            self.send_header("Retry-After", "0")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        self.wfile.write(body[start : start + (len(body) - start) // 2] if cut else body[start:])
        self.close_connection = self.close_connection or cut
