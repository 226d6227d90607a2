"""Lists of IBL sessions: a text file of eids, or a table such as the Brain-Wide-Map freeze."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from nhcatalog.errors import UserError
from nhdata.sources import SourceError
from nhdata.sources.ibl.alf_session import SessionName, is_eid

NAME = ("lab", "subject", "date", "session_number")


@dataclass(frozen=True, slots=True)
class Listed:
    """A session of a list.

    Attributes
    ----------
    eid : str
    name : SessionName or None
        None where the list has eids only.
    insertions : mapping of str to str
        pid by probe, where the list has insertions; empty for all probes of the session.
    error : UserError or None
        Why the session cannot be downloaded, where that is already known.
    """

    eid: str
    name: SessionName | None = None
    insertions: Mapping[str, str] = field(default_factory=dict)
    error: UserError | None = None


class SessionList:
    """The sessions of a list, in its order."""

    def __init__(self, path: Path, sessions: list[Listed]) -> None:
        self.path = path
        self.sessions = sessions
        self._by_eid = {one.eid: one for one in sessions}
        self._by_name = {one.name: one for one in sessions if one.name}

    def find(self, name: SessionName, eid: str | None) -> Listed | None:
        """The listed session of that name, or of that eid."""
        return self._by_name.get(name) or self._by_eid.get(eid or "")


def read_list(path: Path) -> SessionList:
    """Read a list of sessions.

    Parameters
    ----------
    path : Path
        Lines of one eid each (``#`` starts a comment), or CSV with a column ``eid``. Columns ``lab``, ``subject``,
        ``date`` and ``session_number`` say where a session lies; with ``pid`` and ``probe_name`` each row is one
        insertion, and only the listed probes of a session are taken.

    Raises
    ------
    SourceError
        If there is no such file, or a row is none of these.
    """
    if not path.is_file():
        raise SourceError(path, "no such file", "name a text file of eids or a CSV file with a column eid")
    return _read_list(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read_list(path: Path, mtime_ns: int) -> SessionList:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SourceError(path, "is not text", "name a text file of eids or a CSV file with a column eid") from error
    sessions: dict[str, Listed] = {}
    if lines and "eid" in lines[0].split(","):
        for number, row in enumerate(csv.DictReader(lines), start=2):
            one = _listed(path, number, row)
            before = sessions.get(one.eid, one)
            sessions[one.eid] = Listed(one.eid, before.name, {**before.insertions, **one.insertions})
    else:
        for number, line in enumerate(lines, start=1):
            if text := line.partition("#")[0].strip():
                one = _listed(path, number, {"eid": text})
                sessions[one.eid] = one
    if not sessions:
        raise SourceError(path, "lists no session", "name a text file of eids or a CSV file with a column eid")
    return SessionList(path, list(sessions.values()))


def _listed(path: Path, line: int, row: Mapping[str, str | None]) -> Listed:
    eid, pid, probe = ((row.get(key) or "").strip() for key in ("eid", "pid", "probe_name"))
    if not is_eid(eid):
        raise SourceError(path, f"line {line} has no eid but '{eid[:60]}'", "list IBL's own session ids (UUID)")
    name = None
    if all(row.get(key) for key in NAME):
        name = session_name(*(str(row[key]).strip() for key in NAME))
        if name is None:
            problem = f"line {line} names no session: {' '.join(str(row[key]) for key in NAME)[:100]}"
            raise SourceError(path, problem, "write lab, subject, date (YYYY-MM-DD) and session_number")
    return Listed(eid, name, {probe: pid} if probe else {})


def session_name(lab: str, subject: str, date: str, number: str) -> SessionName | None:
    """A session's name from someone else's text, or None if that could name a path outside the folder."""
    plain = all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", part) for part in (lab, subject))
    if not plain or not re.fullmatch(r"\d{4}-\d\d-\d\d", date) or not re.fullmatch(r"\d{1,3}", number):
        return None
    return SessionName(lab, subject, date, int(number))
