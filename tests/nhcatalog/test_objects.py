"""Files in an object store: the same promises as on a disk, and errors of one line."""

import logging
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import obstore
import pytest

from nhcatalog import bucket as bucket_module
from nhcatalog import objects
from nhcatalog.catalog import Catalog
from nhcatalog.errors import UserError
from nhcatalog.storage import open_files


@pytest.fixture
def answering() -> Iterator[Callable[[int, str], str]]:
    """Address of a server that answers everything with one status and body."""
    servers = []

    def start(status: int, body: str) -> str:
        class Answer(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_PUT = answer

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


ODD = ["a b", "é", "%20", "x?y#z", "it's [v1]* {é}", "~a|b", "+&=", "..a"]


def test_the_same_promises_as_a_folder(bucket: str, tmp_path: Path) -> None:
    for files in (open_files(f"{bucket}/a/store"), open_files(tmp_path / "store")):
        assert (files.names("log"), files.sizes("log"), files.walk()) == ([], {}, {})
        files.create("log/1", b"first")
        with pytest.raises(FileExistsError):
            files.create("log/1", b"first")
        files.write("log/below/2", b"12")
        assert files.read("log/1") == Path(files.local("log/1")).read_bytes() == b"first"
        assert sorted(files.names("log")) == ["1", "below"]
        assert files.sizes("log") == {"log/1": 5}
        assert {name: stat.n_bytes for name, stat in files.walk().items()} == {"log/1": 5, "log/below/2": 2}
        assert set(files.walk("log/below")) == {"log/below/2"}
        assert files.locate("log/1").endswith("/store/log/1")
        files.fetch(["log/1", "log/below/2"])
        files.delete("log/1")
        files.delete("log/1")
        assert files.names("log") == ["below"]
        with pytest.raises(FileNotFoundError) as missing:
            open_files(files.root).read("log/1")
        assert str(missing.value.filename) == files.locate("log/1")


def test_a_neighbour_with_a_longer_name_is_another(bucket: str) -> None:
    open_files(f"{bucket}/store").write("log/1", b"")
    open_files(f"{bucket}/store2").write("log/2", b"")
    open_files(f"{bucket}/store").write("log2/3", b"")
    assert open_files(f"{bucket}/store").names("log") == ["1"]
    assert set(open_files(f"{bucket}/store").walk()) == {"log/1", "log2/3"}


@pytest.mark.parametrize("odd", ODD)
def test_odd_keys(bucket: str, odd: str) -> None:
    files = open_files(f"{bucket}/{odd}/")
    files.create(f"{odd}/{odd}", odd.encode())
    assert files.names(odd) == [odd]
    assert open_files(files.root).read(f"{odd}/{odd}") == odd.encode()
    assert Path(files.local(f"{odd}/{odd}")).read_bytes() == odd.encode()


@pytest.mark.parametrize("name", ["../x", "a/../x", "/x", "a//x", "."])
def test_a_name_that_leads_out(bucket: str, name: str) -> None:
    files = open_files(f"{bucket}/store")
    for use in (files.read, files.local, files.delete, lambda name: files.write(name, b"")):
        with pytest.raises(ValueError, match="not inside"):
            use(name)


def test_folders_as_consoles_make_them_are_no_files(bucket: str, s3_server: str) -> None:
    name = bucket.removeprefix("s3://")
    for key in ("store/", "store/log/"):
        with urllib.request.urlopen(urllib.request.Request(f"{s3_server}/{name}/{key}", b"", method="PUT")):
            pass
    files = open_files(f"{bucket}/store")
    files.write("log/1", b"1")
    assert files.names("log") == ["1"]
    assert files.sizes("log") == {"log/1": 1}
    assert set(files.walk()) == {"log/1"}


def test_an_answer_that_was_lost_counts(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put = obstore.put

    def twice(*args: object, **options: object) -> None:
        put(*args, **options)
        put(*args, **options)

    monkeypatch.setattr(obstore, "put", twice)
    files = open_files(f"{bucket}/store")
    files.create("log/1", b"mine")
    with pytest.raises(FileExistsError):
        files.create("log/1", b"mine")


def test_large_files_come_in_pieces(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(9 * 2**20)
    files = open_files(f"{bucket}/store")
    files.write("x", content)
    monkeypatch.setattr(objects, "PIECE_BYTES", 2**20 + 1)
    assert Path(files.local("x")).read_bytes() == content


def test_a_copy_is_kept_and_verified(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = open_files(f"{bucket}/store")
    files.write("x", b"old one")
    copy = Path(files.local("x"))
    with monkeypatch.context() as offline:
        offline.setattr(obstore, "get", None)
        assert open_files(files.root).local("x") == str(copy)
        copy.write_bytes(b"cut")
        with pytest.raises(TypeError):
            files.local("x")
    assert Path(files.local("x")).read_bytes() == b"old one"
    again = open_files(files.root)  # the store was removed and made anew under the same name
    again.write("x", b"new one")
    copy.unlink()
    with pytest.raises(UserError, match=r"/store/x: was overwritten"):
        files.local("x")
    assert Path(again.local("x")).read_bytes() == b"new one"


def test_of_several_processes_one_wins_and_every_commit_is_there_once(bucket: str) -> None:
    files, root = open_files(f"{bucket}/race"), f"{bucket}/store/catalog"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        tries = {(k, n): pool.apply_async(files.create, (f"log/{k}", b"%d" % n)) for k in range(20) for n in range(4)}
        won = {}
        for (k, n), one in tries.items():
            with suppress(FileExistsError):
                one.get()
                assert won.setdefault(k, n) == n, "two were told that they had created the same file"
        assert {k: int(files.read(f"log/{k}")) for k in range(20)} == won
        ids = [f"s{k}" for k in range(20)]
        adds = [pool.apply_async(Catalog(root).add, ({"session_id": one}, {}, f"sessions/x/{one}", "h")) for one in ids]
        assert sorted(one.get() for one in adds) == list(range(1, 21))
    assert set(Catalog(root).snapshot().entries) == set(ids)


def test_pickled_it_opens_again(bucket: str) -> None:
    open_files(f"{bucket}/store").write("x", b"1")
    files = pickle.loads(pickle.dumps(open_files(f"{bucket}/store")))  # noqa: S301
    assert files.read("x") == b"1"


def test_a_forked_process_is_told_at_once(bucket: str) -> None:
    files = open_files(f"{bucket}/store")
    files.write("x", b"1")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            files.read("x")
        except UserError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert b"multiprocessing_context='spawn'" in os.read(reader, 1000)


def test_no_bucket(bucket: str) -> None:
    files = open_files(f"{bucket}-not/store")
    for use in (lambda: files.names("log"), lambda: files.read("x"), lambda: files.create("x", b"")):
        with pytest.raises(UserError, match=rf"{bucket}-not: no such bucket: check its name"):
            use()


def test_nobody_answers(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setattr(bucket_module, "FIRST_RETRIES", 1)
        with pytest.raises(UserError, match=f"no answer from {endpoint}: check the network"):
            open_files(f"{bucket}/store").names("log")


def test_an_outage_is_waited_for_once_the_server_has_answered(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    n_dropped, seen = 8, []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            if 1 < len(seen) <= 1 + n_dropped:
                self.close_connection = True
                return
            self.send_response(200)
            headers = {"Content-Length": "1", "ETag": '"1"', "Last-Modified": "Tue, 05 Nov 2024 00:00:00 GMT"}
            for header in headers.items():
                self.send_header(*header)
            self.end_headers()
            self.wfile.write(b"1")

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setattr(bucket_module, "BACKOFF_S", 0.001)
        files = open_files(f"{bucket}/store")
        assert bytes(files.read("x")) == b"1"
        assert bytes(files.read("y")) == b"1"
        assert len(seen) == 2 + n_dropped
        server.shutdown()


def test_a_server_that_hangs_is_given_up(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(bucket_module, "REQUEST_S", 0.5)
        with pytest.raises(UserError, match="no answer from"):
            open_files(f"{bucket}/store").read("x")


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (503, "<Error><Code>SlowDown</Code></Error>", "the server answers SlowDown: try again"),
        (500, "", "the server answers 500 Internal Server Error"),
        (301, "<Error><Code>PermanentRedirect</Code></Error>", "in another region: name its region in AWS_REGION"),
        (400, "<Error><Code>AuthorizationHeaderMalformed</Code></Error>", "in another region"),
        (400, "<Error><Code>ExpiredToken</Code></Error>", r"access denied \(ExpiredToken\): check your credentials"),
        (403, "<Error><Code>InvalidAccessKeyId</Code></Error>", r"access denied \(InvalidAccessKeyId\)"),
        (403, "", "access denied: check your credentials"),
    ],
)
def test_errors_are_one_line(
    bucket: str,
    answering: Callable[[int, str], str],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: str,
    message: str,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", answering(status, body))
    monkeypatch.setattr(bucket_module, "FIRST_RETRIES", 0)
    files = open_files(f"{bucket}/store")
    for use in (lambda: files.names("log"), lambda: files.read("x"), lambda: files.create("x", b"")):
        with pytest.raises(UserError, match=message) as error:
            use()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("endpoint", ["foo bar", "localhost:9000", "ftp://x", "http://"])
def test_an_endpoint_that_is_no_address(bucket: str, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(UserError, match="is no address"):
        open_files(f"{bucket}/store").names("log")


def test_a_public_bucket_needs_no_credentials(bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = bucket.removeprefix("s3://")
    for path, content in ((f"{name}?acl", b""), (f"{name}/store/x", b"1"), (f"{name}-private", b"")):
        headers = {"x-amz-acl": "public-read", "Content-Type": "application/octet-stream"}
        request = urllib.request.Request(f"{s3_server}/{path}", content, headers, method="PUT")
        if path.endswith("-private"):
            del request.headers["X-amz-acl"]
        with urllib.request.urlopen(request):
            pass
    private = open_files(f"{bucket}-private/store")
    private.write("secret", b"2")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    files = open_files(f"{bucket}/store")
    assert set(files.walk()) == {"x"}
    assert files.read("x") == b"1"
    with pytest.raises(UserError, match="access denied, and no credentials were found: set AWS_ACCESS_KEY_ID"):
        private.read("secret")


def test_a_profile_has_credentials(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = test\naws_secret_access_key = test\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    files = open_files(f"{bucket}/store")
    files.create("x", b"1")
    assert files.read("x") == b"1"
    monkeypatch.setenv("AWS_PROFILE", "not-there")
    with pytest.raises(UserError, match="not-there"):
        files.read("x")


def test_empty_objects_cost_no_more_than_others(bucket: str) -> None:
    """A store may have as many of them as it has empty chunks; each is looked at a few times."""
    looked: list[str] = []

    class Meta(dict):  # type: ignore[type-arg]
        def __getitem__(self, name: str) -> object:
            looked.append(name)
            return super().__getitem__(name)

    names = ["a", *(f"a/{k}" for k in range(500))]
    kept = open_files(bucket)._keep([Meta(path=name, size=0, e_tag="x") for name in names])  # type: ignore[arg-type]
    assert list(kept) == names[1:]
    assert len(looked) < 10 * len(names)


class Switched:
    """A server of one address that can go away and come back; it says yes to every GET, HEAD and PUT."""

    def __init__(self) -> None:
        self.port = 0
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), AlwaysYes)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()

    def down(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class AlwaysYes(BaseHTTPRequestHandler):
    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        headers = {"Content-Length": "1", "ETag": '"1"', "Last-Modified": "Tue, 05 Nov 2024 00:00:00 GMT"}
        for header in headers.items():
            self.send_header(*header)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"1")

    do_GET = do_HEAD = do_PUT = answer

    def log_message(self, *args: object) -> None:
        pass


class Revive(logging.Handler):
    """Brings the server back when the user is told that it is away."""

    def __init__(self, server: Switched) -> None:
        super().__init__(logging.WARNING)
        self.server, self.said = server, list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
        self.server.up()


@pytest.fixture
def switched(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Switched]:
    server = Switched()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("NHDATA_S3_ANSWERED", "")
    yield server
    server.down()


def test_the_user_is_told_of_an_outage_once_and_the_writer_goes_on(
    bucket: str, switched: Switched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "NOTICE_S", 0.05)
    files = open_files(f"{bucket}/store")
    assert bytes(files.read("x")) == b"1"
    handler = Revive(switched)
    logger = logging.getLogger("nhcatalog.bucket")
    logger.addHandler(handler)
    try:
        for use in (
            lambda: files.write("a", b"1"),
            lambda: files.create("b", b"1"),
            lambda: files.read("c"),
        ):
            handler.said.clear()
            switched.down()
            use()
            assert handler.said == [f"no answer from {switched.url}, trying again for up to 60 s"]
    finally:
        logger.removeHandler(handler)


def test_a_process_started_in_an_outage_waits_as_its_parent_does(
    bucket: str, switched: Switched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NHDATA_S3_OUTAGE_S", "12")
    open_files(f"{bucket}/store").read("x")
    switched.down()
    code = f"from nhcatalog.storage import open_files; print(bytes(open_files({bucket + '/store'!r}).read('x')))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        line = child.stderr.readline()
        switched.up()
        assert line == f"no answer from {switched.url}, trying again for up to 12 s\n"
        assert child.stdout.read() == "b'1'\n"


def test_the_patience_is_a_number_of_seconds(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("x", "-1", "nan", "1e9"):
        monkeypatch.setenv("NHDATA_S3_OUTAGE_S", text)
        with pytest.raises(UserError, match=f"NHDATA_S3_OUTAGE_S={text}: give a positive number of seconds"):
            open_files(f"{bucket}/store").names("log")
