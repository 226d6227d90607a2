"""IBL's database Alyx by its REST interface: find sessions and the checksums of their files.

ONE's own client asks without a time limit, so an overloaded server hangs it for ever. Its settings are used: the
address, the token of a login made with ONE, and the cache folder.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nhcatalog.errors import UserError
from nhdata.sources._http import Http, NetworkError
from nhdata.sources.ibl.alf_session import is_eid
from nhdata.sources.ibl.list import Listed, session_name

FILTERS = ("project", "task_protocol", "tag", "subject", "lab")
BRAIN_WIDE_MAP = ("project=ibl_neuropixel_brainwide_01", "task_protocol=ephys")
PAGE = 250
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class OneSettings:
    """What ONE was set up with on this machine; None for what it was not.

    Attributes
    ----------
    url, token : str or None
        Of the default database.
    cache : Path or None
    """

    url: str | None = None
    token: str | None = field(default=None, repr=False)
    cache: Path | None = None


def one_settings() -> OneSettings:
    """Read ONE's settings as they are; ONE itself would ask on the terminal or write defaults."""
    from iblutil.io.params import getfile

    caches = _read_settings(Path(getfile("one/caches")))
    client = caches.get("DEFAULT")
    if not isinstance(client, str):
        return OneSettings()
    own = _read_settings(Path(getfile(f"one/{client}")))
    tokens, folders = own.get("TOKEN"), caches.get("CLIENT_MAP")
    token = tokens.get(own.get("ALYX_LOGIN"), {}) if isinstance(tokens, dict) else {}
    cache = folders.get(client) if isinstance(folders, dict) else None
    return OneSettings(own.get("ALYX_URL"), token.get("token"), Path(cache) if cache else None)


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


class OddRecord(NetworkError):
    """A record of the database that does not say where its session lies."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A file of a session as the database describes it.

    Attributes
    ----------
    digest : str or None
        MD5 (32 hex digits) or SHA-1 (40) of the content, in lower case; None where the database has neither.
    default : bool
        Whether this is the revision that the database marks as the default.
    """

    digest: str | None = None
    default: bool = False


@dataclass(frozen=True, slots=True)
class Alyx:
    """The database at an address such as ``https://openalyx.internationalbrainlab.org``.

    The token comes from ``$NH_ALYX_TOKEN``, else from ONE's settings for the same address.
    """

    url: str
    http: Http

    @property
    def token(self) -> str | None:
        """The login, or None. Raises UserError where it would travel unencrypted."""
        settings = one_settings()
        same = (settings.url or "").rstrip("/") == self.url
        token = (os.environ.get("NH_ALYX_TOKEN") or "").strip()
        origin = "NH_ALYX_TOKEN" if token else "the token in ONE's settings"
        token = token or (str(settings.token).strip() if same and settings.token else "")
        if token and not re.fullmatch(r"[0-9A-Za-z._-]+", token):
            remedy = "copy the token again from your page at the database: letters, digits and ._- only"
            raise UserError(f"{origin} is not a token (it is not shown here)", remedy)
        if token and urlsplit(self.url).scheme != "https" and urlsplit(self.url).hostname not in LOOPBACK:
            raise UserError(f"{self.url}: a token must not be sent unencrypted", "use an address with https")
        return token or None

    def session(self, one: Listed) -> tuple[Listed, dict[str, Dataset]]:
        """Return a session with its name, and its data sets by their UUIDs; withdrawn ones are not listed.

        Raises
        ------
        NotFound
            If there is no such session.
        OddRecord
            If neither `one` nor the record names the session's folder.
        """
        record = self._get(f"sessions/{one.eid}")
        name = one.name or self._listed(record, one.eid).name
        related = [entry for entry in record.get("data_dataset_session_related") or [] if isinstance(entry, dict)]
        return replace(one, name=name), {str(entry.get("id")): _dataset(entry) for entry in related}

    def search(self, filters: Sequence[str]) -> Iterator[Listed]:
        """Sessions that match simple filters ``KEY=VALUE``, page by page.

        Raises
        ------
        UserError
            If a filter is not one of `FILTERS`.
        """
        params = _parse_filters(filters or BRAIN_WIDE_MAP) | {"limit": str(PAGE)}
        n_found = 0
        while True:
            page = self._get("sessions", params | {"offset": str(n_found)})
            results = page.get("results")
            if not isinstance(results, list):
                raise self._nonsense("sessions")
            for record in results:
                eid = str(record.get("id")) if isinstance(record, dict) else ""
                try:
                    yield self._listed(record, eid)
                except OddRecord as error:
                    yield Listed(eid, error=error)
            n_found += len(results)
            if not results or not page.get("next"):
                return

    def _get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        body = self.http.read(f"{self.url}/{path}", params=params, token=self.token)
        try:
            answer = json.loads(body)
        except ValueError:
            raise self._nonsense(path) from None
        if isinstance(answer, list):  # a server without pages
            return {"results": answer}
        if not isinstance(answer, dict):
            raise self._nonsense(path)
        return answer

    def _listed(self, record: Any, eid: str) -> Listed:
        if not isinstance(record, dict):
            raise self._nonsense("sessions")
        if not is_eid(eid):
            raise self._odd(f"sessions/{eid[:60]}", f"id {eid[:60]!r} is not a UUID of version 4")
        where = (record.get("lab"), record.get("subject"), str(record.get("start_time"))[:10], record.get("number"))
        name = session_name(*(str(part) for part in where))
        if name is None:
            keys = zip(("lab", "subject", "start_time", "number"), where, strict=True)
            problem = f"the record names no session folder ({', '.join(f'{key} {part!r}'[:60] for key, part in keys)})"
            raise self._odd(f"sessions/{eid}", problem)
        return Listed(eid, name)

    def _odd(self, path: str, problem: str) -> OddRecord:
        return OddRecord(f"{self.url}/{path}", problem, "report the record to IBL, or leave this session out")

    def _nonsense(self, path: str) -> NetworkError:
        return NetworkError(f"{self.url}/{path}", "answers something else than a session", "check NH_ALYX_URL")


def _dataset(record: Mapping[str, Any]) -> Dataset:
    text = str(record.get("hash") or "").strip().lower()
    digest = text if re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{40}", text) else None
    return Dataset(digest, str(record.get("default_revision")) == "True")  # Alyx sends text, ONE's cache a boolean


def _parse_filters(filters: Sequence[str]) -> dict[str, str]:
    params = {}
    for text in filters:
        key, _, value = text.partition("=")
        if key not in FILTERS or not value:
            raise UserError(f"cannot search for '{text}'", f"write KEY=VALUE with a key of {', '.join(FILTERS)}")
        params[key] = value
    return params
