"""Checks that a worker of a cluster runs, and the name of its machine in errors."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nhcatalog.errors import UserError
from nhcatalog.place import Place

_host: ContextVar[str] = ContextVar("host", default="")

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_SETTINGS = (("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), ("AWS_REGION", "AWS_DEFAULT_REGION"), ("AWS_SKIP_SIGNATURE",))
_SYNONYMS = {name: names[0] for names in _SETTINGS for name in names}


def on_worker() -> str:
    """`` on worker HOST`` in a task that a cluster's worker does, else an empty text."""
    return f" on worker {_host.get()}" if _host.get() else ""


def worker_host() -> str:
    """Host name of the cluster's worker that this task runs on, else an empty text."""
    return _host.get()


@contextmanager
def at_worker() -> Iterator[None]:
    """Name this machine in the errors of what is done within."""
    token = _host.set(socket.gethostname())
    try:
        yield
    finally:
        _host.reset(token)


def located(error: Exception) -> str:
    """The text of an error, with the worker's host between problem and remedy."""
    if isinstance(error, UserError):
        return f"{error.problem}{on_worker()}: {error.remedy}"
    return f"{error}{on_worker()}"


def run_at_worker(task: Callable[[Any], Any], item: Any) -> Any:
    """Do a task as a worker of a cluster."""
    with at_worker():
        return task(item)


def installed_version() -> str:
    """Version of neurohorizon that this process runs."""
    return version("neurohorizon")


def check_version(wanted: str) -> str | None:
    """The error of a worker that runs another version of neurohorizon than the client; None if it is the same."""
    if installed_version() == wanted:
        return None
    return f"neurohorizon {installed_version()} on worker {socket.gethostname()}, {wanted} here: install {wanted} there"


def check_at_worker(check: Callable[[], None]) -> str | None:
    """The error of a check on this worker; None if there is none."""
    with at_worker():
        try:
            check()
        except Exception as error:
            return located(error)
    return None


def check_file(path: str) -> None:
    """Fail if a file or folder that the client saw is missing here.

    Raises
    ------
    UserError
        With the name of this worker.
    """
    if on_worker() and Path(path).is_absolute() and not os.path.exists(path):
        raise UserError(
            f"{path}: no such file{on_worker()}", "workers must see the recordings and the store under the same paths"
        )


@contextmanager
def marked(folder: Place, wanted: bool = True) -> Iterator[str]:
    """Name of a hidden file that is in a folder of this disk meanwhile, by which workers know that they see the folder.

    Empty where no file is `wanted` or the folder is in an object store.
    """
    if not wanted or not isinstance(folder, Path):
        yield ""
        return
    marker = folder / f".client-{uuid.uuid4().hex}"
    marker.touch()
    try:
        yield marker.name
    finally:
        marker.unlink(missing_ok=True)


def check_marker(folder: Path, name: str) -> None:
    """Check that the file that `marked` made is here too.

    Raises
    ------
    UserError
        If it is not.
    """
    if name and not (folder / name).exists():
        raise elsewhere(folder)


def elsewhere(place: Place) -> UserError:
    """The error of a worker that sees another folder at a path than the client."""
    return UserError(f"another folder is at {place}", f"workers must see {place} and the recordings under these paths")


def s3_settings() -> tuple[tuple[str, str], ...]:
    """Settings of S3 in this process's environment that workers must share; none of them is a secret.

    Each has the name of the variable that is set. Credentials are listed by name only.
    """
    settings = []
    for names in _SETTINGS:
        settings += [(name, value) for name in names if (value := os.environ.get(name))][:1]
    settings += [(name, "") for name in CREDENTIALS if os.environ.get(name)]
    if os.environ.get("AWS_PROFILE"):
        settings.append(("AWS_PROFILE", ""))
    return tuple(settings)


def check_s3_settings(wanted: tuple[tuple[str, str], ...]) -> None:
    """Compare the client's settings of S3 with those of this worker.

    Raises
    ------
    UserError
        If settings are missing or other, naming them, or there are no credentials while the client has some.
    """
    here = {_SYNONYMS.get(name, name): (name, value) for name, value in s3_settings()}
    needed = [name for name, _ in wanted if name in (*CREDENTIALS, "AWS_PROFILE")]
    missing = [name for name, value in wanted if value and _SYNONYMS.get(name, name) not in here]
    if needed and not _has_credentials():
        missing += needed
    if missing:
        raise UserError(f"{', '.join(missing)} missing", "start the workers with the same AWS_* settings as here")
    for name, value in wanted:
        name_here, value_here = here.get(_SYNONYMS.get(name, name), (name, value))
        if value and value_here != value:
            raise UserError(
                f"{name_here} is {value_here}, but {name} of the client is {value}",
                "start the workers with the same settings",
            )


def _has_credentials() -> bool:
    from nhcatalog.bucket import has_credentials

    return has_credentials()
