"""A web server on this machine that answers range requests, and misbehaves when told to."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class FileServer(ThreadingHTTPServer):
    """Serves the files of a folder; ``faults`` are (part of an address, kind), each used once, or always with ``*``."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.faults: list[tuple[str, str]] = []
        self.asked: list[tuple[str, str]] = []
        self.etag = '"one"'
        self.stop = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *args: object) -> None:  # clients that hung up
        pass

    def close(self) -> None:
        self.stop.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(self.path).lstrip("/")
        wanted = self.headers.get("Range", "")
        self.server.asked.append((path, wanted))
        fault = next((fault for fault in self.server.faults if fault[0] in path), ("", ""))
        if fault[1] and not fault[1].startswith("*"):
            self.server.faults.remove(fault)
        kind = fault[1].lstrip("*")
        file = self.server.folder / path
        if kind == "hang":
            self.server.stop.wait(20)
            self.close_connection = True
            return
        if kind.isdecimal() or not file.is_file():
            return self.answer(int(kind or 404), b"", {})
        whole = file.read_bytes()
        parts = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
        if not parts or kind == "no ranges":
            return self.answer(200, whole, {}, cut=kind == "cut")
        start, stop = int(parts[1]), min(int(parts[2]) + 1, len(whole))
        if kind == "wrong range":
            start += 1
        etag = '"two"' if kind == "changed" else self.server.etag
        said = {"Content-Range": f"bytes {start}-{stop - 1}/{len(whole)}", "ETag": etag}
        self.answer(206, whole[start:stop], said, cut=kind == "cut", stall=kind == "stall")

    def answer(self, status: int, body: bytes, headers: dict[str, str], cut: bool = False, stall: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut or stall else body)
        if stall:
            self.server.stop.wait(20)
        self.close_connection = self.close_connection or cut or stall
