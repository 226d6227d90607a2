"""``nhdata serve`` as a shell runs it; its pages are tested in tests/nhdata/web."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest


def test_a_port_that_is_taken_and_a_store_that_is_not_there(nhdata_run, small_store, tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = nhdata_run("serve", "--store", small_store, "--port", taken.getsockname()[1], "--no-browser")
    assert result.exit_code == 1
    assert "--port" in result.stderr
    for args in (("--store", tmp_path / "no.zarr"), ("--store", small_store, "--runs", tmp_path / "no")):
        result = nhdata_run("serve", *args, "--port", 0, "--no-browser")
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        assert result.stdout == ""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(small_store, tmp_path, end) -> None:
    """The browser is a script that keeps what it was told to open."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened.part\nmv {tmp_path}/opened.part {tmp_path}/opened\n')
    browser.chmod(browser.stat().st_mode | stat.S_IEXEC)
    code = "from nhcli.data import cli; cli()"
    command = [sys.executable, "-c", code, "serve", "--store", str(small_store), "--port", "0", "--json"]
    env = os.environ | {"BROWSER": f"{browser} %s"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    with urllib.request.urlopen(url) as answer:
        assert b"1\xe2\x80\x932 of 2" in answer.read()
    opened = (tmp_path / "opened").read_text().strip()
    assert "token" not in opened
    page = Path(opened.removeprefix("file://"))
    assert url in page.read_text()
    assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
    process.send_signal(end)
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert not page.exists()


ENDLESS = "(select count(*) from range(100000000) a, range(100000000) b where (a.range * b.range) % 7 = 3) > 0"


def test_ctrl_c_ends_queries_too(small_store) -> None:
    """As in a terminal: the whole group of processes is told."""
    code = "from nhcli.data import cli; cli()"
    command = [sys.executable, "-c", code, "serve", "--store", str(small_store), "--port", "0", "--no-browser"]
    pipe = subprocess.PIPE
    server = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    with urllib.request.urlopen(url) as answer:  # the process that answers queries has started
        assert answer.status == 200
    host, token = url.removeprefix("http://").split("/?")
    with socket.create_connection(tuple(host.split(":"))) as browser:
        where = urllib.parse.urlencode({"where": ENDLESS})
        browser.sendall(f"GET /units?{where}&{token} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        time.sleep(1.0)
        os.killpg(server.pid, signal.SIGINT)
        _, said = server.communicate(timeout=60)
    assert said == "Ctrl-C ends it\n"
