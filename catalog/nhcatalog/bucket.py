"""The way to a bucket: credentials, region, timeouts, and errors as one line."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

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
OUTAGE_S = 60
BACKOFF_S = 0.2

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
_answered: set[tuple[str, tuple[tuple[str, str], ...]]] = set()  # buckets that have answered this process


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
    return _open(name, aws, RETRIES if (name, aws) in _answered else FIRST_RETRIES)


def _note_answer(name: str) -> None:
    """Wait out later outages of this bucket: it has answered this process."""
    aws = tuple(sorted((key, value) for key, value in os.environ.items() if key.startswith("AWS_") and value))
    _answered.add((name, aws))


@lru_cache(maxsize=16)
def _open(name: str, aws: tuple[tuple[str, str], ...], retries: int) -> S3Store:
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
            "retry_timeout": timedelta(seconds=OUTAGE_S),
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
