"""Reading from S3, moto's server on loopback: whole objects kept on this machine, beside zarr on obstore alone.

A loopback answers at once; so the server also waits, as a bucket far away does, before each answer.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import obstore
import zarr
from zarr.storage import ObjectStore

import nhdata
from nhcatalog.bucket import open_bucket
from nhcatalog.place import Url
from nhdata.store.commit import add_session
from nhdata.store.encode import encode
from nhdata.store.session import Session

from .data import recording

SERVER = """
import sys, time
from moto.moto_server.werkzeug_app import DomainDispatcherApplication as Application
from moto.server import ThreadedMotoServer
answer, latency_s = Application.__call__, float(sys.argv[1])
Application.__call__ = lambda self, *asked: time.sleep(latency_s) or answer(self, *asked)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
"""
REQUESTS = (
    "get",
    "get_async",
    "get_range_async",
    "get_ranges_async",
    "head",
    "head_async",
    "list",
    "list_with_delimiter",
)
N_WINDOWS, WINDOW_S = 64, 1.0


class _Bucket:
    """One session in a bucket of its own, and `N_WINDOWS` random windows of it."""

    params, param_names = [0.0, 0.02], ("latency_s",)
    number, warmup_time, timeout = 1, 0.0, 600

    def setup(self, latency_s: float) -> None:
        command = [sys.executable, "-c", SERVER, str(latency_s)]
        self.server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.server.stdout is not None
        host, port = self.server.stdout.readline().decode().split()
        self.copies = tempfile.mkdtemp(prefix="bench-s3-")
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "NHDATA_CACHE": self.copies,
        }
        urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/bench", method="PUT")).close()
        encoded = encode(recording())
        add_session(Url("bench", "data.zarr"), encoded)
        self.session = nhdata.open("s3://bench/data.zarr").session("bench-0000")
        self.url: Url = self.session.path  # type: ignore[assignment]
        start_s = np.random.default_rng(0).uniform(0, encoded.clock.duration_s - WINDOW_S, N_WINDOWS)
        ticks = np.round(start_s * encoded.clock.tick_hz).astype(int).tolist()
        width = round(WINDOW_S * encoded.clock.tick_hz)
        self.offsets = [self.session.offsets(tick, tick + width) for tick in ticks]
        self.read_again()

    def teardown(self, latency_s: float) -> None:
        self.server.kill()
        self.server.communicate()
        shutil.rmtree(self.copies)

    def read(self, session: Session) -> int:
        raise NotImplementedError

    def read_again(self) -> int:
        return self.read(Session(self.url))

    def read_first(self) -> int:
        shutil.rmtree(self.copies)
        return self.read(Session(self.url))

    def read_by_zarr(self) -> int:
        raise NotImplementedError

    def by_zarr(self) -> tuple["zarr.Array", "zarr.Array"]:
        store = ObjectStore(open_bucket(self.url.bucket), read_only=True)
        spikes = zarr.open_group(store, path=f"{self.url.key}/spikes", mode="r", zarr_format=3)
        return spikes["tick"], spikes["unit"]

    def time_ours_first(self, latency_s: float) -> int:
        return self.read_first()

    def time_ours_again(self, latency_s: float) -> int:
        return self.read_again()

    def time_zarr(self, latency_s: float) -> int:
        return self.read_by_zarr()

    def track_ours_first(self, latency_s: float) -> int:
        return n_requests(self.read_first)

    def track_ours_again(self, latency_s: float) -> int:
        return n_requests(self.read_again)

    def track_zarr(self, latency_s: float) -> int:
        return n_requests(self.read_by_zarr)


class Whole(_Bucket):
    """All spikes of the session."""

    def read(self, session: Session) -> int:
        return int(session.ticks()[0].size)

    def read_by_zarr(self) -> int:
        tick, unit = self.by_zarr()
        return int(tick[...].size + unit[...].size) // 2


class Windows(_Bucket):
    """Windows of a second, one after another."""

    def read(self, session: Session) -> int:
        return sum(session.read(lo, hi)[0].size for lo, hi in self.offsets)

    def read_by_zarr(self) -> int:
        tick, unit = self.by_zarr()
        return sum(tick[lo:hi].size + unit[lo:hi].size for lo, hi in self.offsets) // 2


def n_requests(read: Callable[[], int]) -> int:
    """Requests to the server while reading."""
    asked = []

    def counted(name: str) -> Callable[..., object]:
        ask = getattr(obstore, name)
        return lambda *args, **how: asked.append(name) or ask(*args, **how)  # type: ignore[func-returns-value]

    with patch.multiple(obstore, **{name: counted(name) for name in REQUESTS}):
        read()
    return len(asked)
