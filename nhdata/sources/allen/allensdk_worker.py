# /// script
# requires-python = ">=3.10,<3.12"
# dependencies = ["allensdk==2.16.2", "hdmf<4", "pynwb<3"]
# ///
"""Download Allen Visual Coding sessions: a script with an environment of its own, run by `allen_download`.

    uv run --script allensdk_worker.py FOLDER [LIMIT [HOST]]

AllenSDK cannot share an environment with the rest (it pins numpy < 1.24), so nothing imports this file. It
says what it does on stdout, one JSON object a line: ``{"event": "sessions", "n": …}``, ``{"event": "bytes",
"session_id": …, "n_bytes": …}``, ``{"event": "session", "path": …}`` and ``{"event": "error", "message": …}``.

AllenSDK's own cache deletes a local session that it cannot read. So this script uses only the web API beneath
that cache, leaves alone every file that is there, and gives a new one its name once it is whole.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

HOST = "api.brain-map.org"
SILENCE_S = 60
DOWNLOAD_S = 24 * 3600
REPORT_EVERY_S = 1.0


def download(folder: Path, limit: int | None, host: str, say: Callable[..., None]) -> None:
    """Bring the tables and the first sessions by id, `limit` of them or all, into a cache folder."""
    import pandas as pd
    import requests
    from allensdk.brain_observatory.ecephys.ecephys_project_api import EcephysProjectWarehouseApi

    requests.get = partial(requests.get, timeout=SILENCE_S)  # AllenSDK would wait for ever
    api = EcephysProjectWarehouseApi.default(asynchronous=False, host=host, timeout=DOWNLOAD_S)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("sessions", "probes", "channels", "units"):
        file = folder / f"{name}.csv"
        if not file.exists():
            with whole(file) as part:
                getattr(api, f"get_{name}")().to_csv(part)
    sessions = pd.read_csv(folder / "sessions.csv", index_col="id")
    ids = [int(i) for i in sorted(sessions.index[sessions["has_nwb"]])[:limit]]
    say(event="sessions", n=len(ids))
    for session_id in ids:
        file = folder / f"session_{session_id}" / f"session_{session_id}.nwb"
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            with whole(file) as part:
                save(api.get_session_data(session_id), part, partial(say, event="bytes", session_id=session_id))
                check(part)
        say(event="session", path=str(file))


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """A path to write to that becomes `file` at the end, and goes away if anything fails."""
    part = file.with_name(f"{file.name}.part")
    try:
        yield part
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def save(stream: Iterable[bytes], part: Path, say: Callable[..., None]) -> None:
    """Write a stream of bytes to disk, telling how many every second."""
    n_bytes, told_s = 0, time.monotonic()
    with part.open("wb") as out:
        for chunk in stream:
            n_bytes += out.write(chunk)
            if time.monotonic() - told_s > REPORT_EVERY_S:
                told_s = time.monotonic()
                say(n_bytes=n_bytes)
        out.flush()
        os.fsync(out.fileno())


def check(part: Path) -> None:
    """Raise OSError unless the file is a whole HDF5 file with units."""
    import h5py

    with h5py.File(part, "r") as file:
        if "units" not in file:
            raise OSError("what the server sent holds no units")


def main() -> None:
    """Run the script; exit code 1 after an error, which is the last line on stdout."""
    out, sys.stdout = sys.stdout, sys.stderr  # AllenSDK prints

    def say(**event: Any) -> None:
        print(json.dumps(event), file=out, flush=True)

    folder, *rest = sys.argv[1:]
    limit = int(rest[0]) if rest else None
    try:
        download(Path(folder), limit, rest[1] if len(rest) > 1 else HOST, say)
    except Exception as error:
        reason = getattr(next(iter(error.args), None), "reason", error)  # what the network said, without the URL
        say(event="error", message=" ".join(f"{type(error).__name__}: {reason}".split())[:200])
        sys.exit(1)


if __name__ == "__main__":
    main()
