"""The way to a bucket: credentials, region, timeouts, and errors as one line."""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from nhcatalog.errors import UserError
from nhcatalog.place import Url

if TYPE_CHECKING:
    from obstore.auth.boto3 import Boto3CredentialProvider

CONNECT_S = 5
REQUEST_S = 60
FIRST_RETRIES = 3
RETRIES = 16
OUTAGE_S = 60.0
BACKOFF_S = 0.2
NOTICE_S = 3.0
"""After how long without an answer a request is made to see whether the server answers at all."""

_ANSWERED = "NHDATA_S3_ANSWERED"  # buckets that have answered this process or the one that started it

_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d+ [A-Za-z ]+)")
_DENIED = {"AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed"}
_DENIED |= {"SignatureDoesNotMatch", "403 Forbidden", "401 Unauthorized"}
_ELSEWHERE = re.compile(r"redirect|AuthorizationHeaderMalformed|IllegalLocationConstraint", re.IGNORECASE)

_opened_by: int | None = None
_announced: set[str] = set()  # servers of which the user was told that they do not answer


def open_bucket(name: str) -> S3Store:
    """A bucket as the environment says; opened once for the same environment.

    Raises
    ------
    UserError
        In a process forked from one that had opened a bucket: it lacks the threads that obstore waits for.
    """
    global _opened_by
    _opened_by = _opened_by or os.getpid()
    if _opened_by != os.getpid():
        raise UserError(
            f"s3://{name}: this process was forked from one that reads from S3",
            "start workers by spawn: DataLoader(…, multiprocessing_context='spawn')",
        )
    aws = tuple(sorted((key, value) for key, value in os.environ.items() if key.startswith("AWS_") and value))
    return _open(name, aws, RETRIES if _has_answered(name) else FIRST_RETRIES, outage_s())


def outage_s() -> float:
    """How long an outage of a bucket that has answered is waited for: ``$NHDATA_S3_OUTAGE_S``, by default 60 s.

    Raises
    ------
    UserError
        If that is not a positive number.
    """
    text = os.environ.get("NHDATA_S3_OUTAGE_S") or str(OUTAGE_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise UserError(f"NHDATA_S3_OUTAGE_S={text}", "give a positive number of seconds, less than a day")
    return seconds


def _has_answered(name: str) -> bool:
    return f"{_endpoint()}/{name}" in os.environ.get(_ANSWERED, "").split()


def _note_answer(name: str) -> None:
    """Wait out later outages of this bucket, in this process and in those that it starts from now on."""
    _announced.discard(_endpoint())
    if not _has_answered(name):
        os.environ[_ANSWERED] = f"{os.environ.get(_ANSWERED, '')} {_endpoint()}/{name}".strip()


@contextmanager
def _watched(url: Url) -> Iterator[None]:
    """Tell the user where the server does not answer while obstore tries again, once for each outage."""
    if not _has_answered(url.bucket):
        yield
        return
    patience_s = outage_s()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(min(NOTICE_S, patience_s / 4)):
            _announce_silence(url, patience_s, done)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _announce_silence(url: Url, patience_s: float, done: threading.Event) -> None:
    aws = tuple(sorted((key, value) for key, value in os.environ.items() if key.startswith("AWS_") and value))
    endpoint = _endpoint()
    try:
        obstore.head(_open(url.bucket, aws, 0, patience_s), url.key or "-")
    except FileNotFoundError:
        return
    except BaseError as error:
        if _CODE.search(str(error)) or re.search(r"status code: 4", str(error)):
            return
    else:
        return
    if endpoint not in _announced and not done.is_set():
        _announced.add(endpoint)
        server = endpoint or "Amazon S3"
        logging.getLogger(__name__).warning("no answer from %s, trying again for up to %g s", server, patience_s)


@lru_cache(maxsize=16)
def _open(name: str, aws: tuple[tuple[str, str], ...], retries: int, patience_s: float) -> S3Store:
    environment = dict(aws)
    endpoint = _endpoint()
    if endpoint and not re.fullmatch(r"https?://[\w.:\[\]-]+(/\S*)?", endpoint, re.ASCII):
        raise UserError(f"AWS_ENDPOINT_URL={endpoint} is no address", "give it as https://host:port")
    provider = None
    anonymous = environment.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes")
    if not anonymous and not any(environment.get(key) for key in _CREDENTIALS):
        provider = _boto3_credentials()
        anonymous = provider is None
    return S3Store(
        name,
        config={"skip_signature": True} if anonymous else {},
        credential_provider=provider,
        client_options={
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "timeout": timedelta(seconds=REQUEST_S),
            "allow_http": endpoint.startswith("http://"),
        },
        retry_config={
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=patience_s),
            "backoff": {"init_backoff": timedelta(seconds=BACKOFF_S), "max_backoff": timedelta(seconds=5), "base": 2},
        },
    )


def has_credentials() -> bool:
    """Whether this process finds credentials: in its environment, a profile, or the machine's role."""
    return any(os.environ.get(key) for key in _CREDENTIALS) or _boto3_credentials() is not None


def _boto3_credentials() -> Boto3CredentialProvider | None:
    """Those of a profile, a single sign-on or the machine's role; None where there are none."""
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except BotoCoreError as error:
        raise UserError(f"no AWS credentials: {error}", "check AWS_PROFILE and the files in ~/.aws") from None
    except ValueError:
        return None


@contextmanager
def explained(url: Url) -> Iterator[None]:
    """Turn obstore's errors into one line; FileNotFoundError and AlreadyExistsError pass, but for a missing bucket."""
    try:
        with _watched(url):
            yield
        _note_answer(url.bucket)
    except AlreadyExistsError:
        raise
    except (BaseError, FileNotFoundError) as error:
        text = str(error).split("\n\nDebug source")[0]  # what follows are pages of Rust's structures
        answer = _CODE.search(text) or _STATUS.search(text)
        code = answer[1].strip() if answer else ""
        if isinstance(error, PreconditionError):
            problem, remedy = f"{url}: was overwritten, which no file of a store ever is", "open the store again"
        elif code == "NoSuchBucket":
            problem = f"s3://{url.bucket}: no such bucket"
            remedy = "check its name, and the endpoint in AWS_ENDPOINT_URL"
        elif isinstance(error, FileNotFoundError):
            _note_answer(url.bucket)
            raise FileNotFoundError(errno.ENOENT, "not there", str(url)) from None
        elif code in _DENIED or isinstance(error, PermissionDeniedError | UnauthenticatedError):
            problem, remedy = f"{url}: access denied", "check your credentials, and your rights on the bucket"
            if code and code not in ("AccessDenied", "403 Forbidden"):
                problem += f" ({code})"
            if open_bucket(url.bucket).config.get("skip_signature"):
                problem += ", and no credentials were found"
                remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        elif _ELSEWHERE.search(text):
            problem, remedy = f"{url}: the bucket is in another region", "name its region in AWS_REGION"
        elif code:
            problem = f"{url}: the server answers {code}"
            remedy = "try again, or check the endpoint in AWS_ENDPOINT_URL"
        else:
            problem = f"{url}: no answer from {_endpoint() or 'Amazon S3'}"
            remedy = "check the network, and the endpoint in AWS_ENDPOINT_URL"
        raise UserError(problem, remedy) from None


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
