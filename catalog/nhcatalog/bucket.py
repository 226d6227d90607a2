"""The way to a bucket: credentials, region, timeouts, and errors as one line."""

from __future__ import annotations

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
RETRIES = 3

_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_CODE = re.compile(r"<Code>(\w+)</Code>")
_NO_ANSWER = re.compile(r"error sending request|timed? ?out|connect|dns|error decoding response", re.IGNORECASE)
_ELSEWHERE = re.compile(r"redirect|AuthorizationHeaderMalformed|IllegalLocationConstraint", re.IGNORECASE)

_opened_by: int | None = None


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
    return _open(name, tuple(sorted((key, value) for key, value in os.environ.items() if key.startswith("AWS_"))))


@lru_cache(maxsize=16)
def _open(name: str, aws: tuple[tuple[str, str], ...]) -> S3Store:
    environment = dict(aws)
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    provider = None
    anonymous = environment.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes")
    if not anonymous and not any(key in environment for key in _CREDENTIALS):
        provider = _boto3_credentials()
        anonymous = provider is None
    return S3Store(
        name,
        config={"skip_signature": anonymous},
        credential_provider=provider,
        client_options={
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "timeout": timedelta(seconds=REQUEST_S),
            "allow_http": endpoint.startswith("http://"),
        },
        retry_config={
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=REQUEST_S),
            "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=2), "base": 2},
        },
    )


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
    except AlreadyExistsError:
        raise
    except (BaseError, FileNotFoundError) as error:
        text = str(error)
        code = found[1] if (found := _CODE.search(text)) else ""
        if isinstance(error, PreconditionError):
            problem, remedy = f"{url}: was overwritten, which no file of a store ever is", "open the store again"
        elif code == "NoSuchBucket":
            problem = f"s3://{url.bucket}: no such bucket"
            remedy = "check its name, and the endpoint in AWS_ENDPOINT_URL"
        elif isinstance(error, FileNotFoundError):
            raise FileNotFoundError(str(url)) from None
        elif isinstance(error, PermissionDeniedError | UnauthenticatedError):
            problem, remedy = f"{url}: access denied", "check your credentials, and your rights on the bucket"
            if open_bucket(url.bucket).config.get("skip_signature"):
                problem += ", and no credentials were found"
                remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        elif _ELSEWHERE.search(text):
            problem = f"{url}: the bucket is in another region"
            remedy = "name its region in AWS_REGION"
        elif _NO_ANSWER.search(text):
            problem = f"{url}: no answer ({_cause(text)})"
            remedy = "check the network, and the endpoint in AWS_ENDPOINT_URL"
        else:
            problem = f"{url}: {code or type(error).__name__}: {_cause(text)}"
            remedy = "check the bucket, the endpoint in AWS_ENDPOINT_URL and the region in AWS_REGION"
        raise UserError(problem, remedy) from None


def _cause(text: str) -> str:
    """The first line of obstore's message, which holds pages of Rust's structures."""
    return text.split("\n\nDebug source")[0].splitlines()[0][:200]
