"""Download Allen Visual Coding sessions by AllenSDK, which runs in an environment of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nhcatalog.errors import UserError

WORKER = Path(__file__).with_name("allensdk_worker.py")
KEPT = "check the network and run the same command again; what is complete is kept"


def download(
    folder: Path, *, limit: int | None = None, on_event: Callable[[dict[str, Any]], None] = lambda event: None
) -> list[Path]:
    """Bring the tables of the project and sessions, the first by id, into a cache folder.

    What is in the folder already is left as it is. The work is done by ``allensdk_worker.py``, which uv runs in
    an environment that it makes (a minute, the first time) and keeps.

    Parameters
    ----------
    folder : Path
        The cache folder, laid out as AllenSDK's; made if it is not there.
    limit : int or None
        So many sessions at most; None for all, 1.7 to 3.3 GB each.
    on_event : callable
        Told what the worker says: ``{"event": "sessions", "n": ...}``, ``{"event": "bytes", "session_id": ...,
        "n_bytes": ...}`` and ``{"event": "session", "path": ...}``.

    Returns
    -------
    list of Path
        The sessions' files, by id.

    Raises
    ------
    UserError
        If uv is not installed, the environment cannot be made, or the download fails.
    """
    command = [_uv(), "run", "--quiet", "--script", str(WORKER), str(folder.absolute())]
    if limit is not None:
        command.append(str(limit))
    files: list[Path] = []
    with tempfile.TemporaryFile("w+", errors="replace") as log, _running(command, log) as worker:
        for event in _events(worker):
            if event.get("event") == "error":
                raise UserError(f"the download from the Allen Institute failed ({event['message']})", KEPT)
            if event.get("event") == "session":
                files.append(Path(event["path"]))
            on_event(event)
        if worker.wait() != 0:
            problem = f"AllenSDK's environment could not be made, or its worker ended early ({_end_of(log)})"
            raise UserError(problem, KEPT)
    return files


def _uv() -> str:
    uv = shutil.which("uv")
    if uv is None:
        problem = "uv, which keeps AllenSDK in an environment of its own, is not installed"
        raise UserError(problem, "install it (pip install uv), or download session files yourself and name them")
    return uv


@contextmanager
def _running(command: list[str], log: IO[str]) -> Iterator[subprocess.Popen[str]]:
    """The worker, which does not outlive the block."""
    worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
    with worker:
        try:
            yield worker
        finally:
            worker.terminate()


def _events(worker: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    for line in worker.stdout or ():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def _end_of(log: IO[str]) -> str:
    """What uv or Python said last, on one line; uv starts with the word error."""
    log.seek(0)
    text = " ".join(log.read().split())
    start = text.rfind("error: ")
    return text[start:][:300] if start >= 0 else text[-300:] or "it said nothing"
