"""Patient HTTP: every request has a time limit and is tried again when the trouble may pass."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

import requests

from nhcatalog.errors import UserError

MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})
MAX_WAIT_S = 60.0
MAX_ANSWER_BYTES = 256 << 20
PROGRESS_BYTES = 1 << 20

FIRST_ATTEMPTS = 2
UNREACHABLE = "cannot be reached"
KEPT = "check the network and try again; what was downloaded is kept"

T = TypeVar("T")

_log = logging.getLogger(__name__)
_answered: set[str] = set()  # servers that have answered this process


class NetworkError(UserError):
    """A server that could not be reached, refused, or answered nonsense; names the address."""

    def __init__(self, url: str, problem: str, remedy: str) -> None:
        super().__init__(f"{url}: {problem}", remedy)


class NotFound(NetworkError):
    """A server that was reached and has no such thing."""


class PassingTrouble(Exception):
    """Something that may be better the next time, in words."""

    def __init__(self, problem: str, retry_after_s: float = 0.0, remedy: str = KEPT, outage: bool = True) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s
        self.remedy = remedy
        self.outage = outage


class _Token(requests.auth.AuthBase):
    """Given as `auth`, so that `requests` neither reads ``.netrc`` nor sends it on to another host."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Token {self._token}"
        return request


@dataclass(frozen=True)
class Http:
    """GET requests.

    Attributes
    ----------
    timeout_s : float
        Longest silence of a server, while connecting or in the middle of an answer.
    attempts : int
        How often a request is made in all.
    backoff_s : float
        Wait before the second attempt; it doubles each time, to `MAX_WAIT_S` at most.
    patience_s : float
        Duration of an outage that is waited for, if the server has answered this process before. A server that
        never answered and cannot be reached is tried `FIRST_ATTEMPTS` times only.
    on_refusal : str
        What to do where a server answers that this user may not.
    """

    timeout_s: float = 30.0
    attempts: int = 5
    backoff_s: float = 1.0
    patience_s: float = 60.0
    on_refusal: str = "check that it is public, or download it yourself and name the file"
    _session: requests.Session = field(default_factory=requests.Session, repr=False, compare=False)

    def read(self, url: str, *, params: Mapping[str, str] | None = None, token: str | None = None) -> bytes:
        """The whole answer, `MAX_ANSWER_BYTES` at most.

        Raises
        ------
        NetworkError
            If the server refuses, or does not answer in all attempts.
        """

        def attempt() -> bytes:
            with self.open(url, params=params, token=token) as response:
                body = bytearray()
                for chunk in response.iter_content(1 << 16):
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise NetworkError(url, f"answers with more than {MAX_ANSWER_BYTES >> 20} MiB", "check it")
                return bytes(body)

        return self.patiently(url, attempt)

    def open(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> requests.Response:
        """One attempt: an answer with status 200 or 206 whose body is still to be read.

        Raises
        ------
        PassingTrouble
            On a status that may pass.
        NetworkError
            On any other.
        """
        try:
            response = self._session.get(
                url, params=params, headers=headers, auth=_Token(token), timeout=self.timeout_s, stream=True
            )
        except requests.RequestException:
            raise
        except ValueError as error:  # of http.client and urllib3; its text may quote a header
            raise NetworkError(url, f"no valid request ({type(error).__name__})", "check the address") from None
        expect_answers(url)
        if response.status_code in (200, 206):
            return response
        response.close()
        said = f"answered {response.status_code} {response.reason}".strip()
        if response.status_code in MAY_PASS:
            after = response.headers.get("Retry-After", "")
            raise PassingTrouble(said, float(after) if after.isdecimal() else 0.0)
        if response.status_code in (401, 403):
            raise NetworkError(url, said, self.on_refusal)
        kind = NotFound if response.status_code == 404 else NetworkError
        raise kind(url, said, "check the id or address, and that it is public")

    def patiently(self, url: str, attempt: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Make attempts until one succeeds.

        Parameters
        ----------
        url : str
            For the message.
        attempt : callable
        progress : callable
            Bytes there so far. An attempt that brought `PROGRESS_BYTES` or more does not count.

        Raises
        ------
        NetworkError
            If the last attempt fails too.
        """
        failed, had, since, announced = 0, progress(), 0.0, False
        while True:
            retry_after_s, remedy, outage, attempts = 0.0, KEPT, True, self.attempts
            try:
                return attempt()
            except PassingTrouble as trouble:
                problem, retry_after_s = str(trouble), trouble.retry_after_s
                remedy, outage = trouble.remedy, trouble.outage
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                problem = self._in_words(error)
                if problem == UNREACHABLE and urlsplit(url).netloc not in _answered:
                    attempts, outage = min(attempts, FIRST_ATTEMPTS), False
            except requests.RequestException as error:
                raise NetworkError(url, f"no valid request ({type(error).__name__})", "check the address") from None
            failed, had = (1 if progress() >= had + PROGRESS_BYTES else failed + 1), progress()
            now = time.monotonic()
            since = now if failed == 1 else since
            if failed >= attempts and not (outage and now - since < self.patience_s):
                raise NetworkError(url, f"{problem} ({failed} attempts)", remedy)
            if failed >= 2 and outage and self.patience_s and not announced:
                announced = True
                host = urlsplit(url).netloc
                _log.warning("no answer from %s (%s), trying again for %g s", host, problem, self.patience_s)
            time.sleep(min(max(self.backoff_s * 2 ** (failed - 1), retry_after_s), MAX_WAIT_S))

    def _in_words(self, error: requests.RequestException) -> str:
        if isinstance(error, requests.Timeout) or "timed out" in str(error):
            return f"said nothing for {self.timeout_s:g} s"
        if "IncompleteRead" in str(error) or isinstance(error, requests.exceptions.ChunkedEncodingError):
            return "broke off in the middle of an answer"
        return UNREACHABLE


def expect_answers(url: str) -> None:
    """Wait for this server during an outage, as it is known to have answered."""
    _answered.add(urlsplit(url).netloc)


def has_answered(url: str) -> bool:
    """Return whether this server is known to have answered."""
    return urlsplit(url).netloc in _answered
