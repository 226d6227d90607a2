"""The numbered log: one file per change, and what the catalog holds after the first n of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from nhcatalog.errors import UserError
from nhcatalog.files import Files

FORMAT = 1
FOLDER = "log"

Kind = Literal["add", "replace", "remove"]

_FILE = re.compile(r"(\d{10})\.json")
_FRAGMENT = re.compile(r"fragments/\w[\w.-]*\.parquet", re.ASCII)


class CatalogError(UserError):
    """A catalog whose files contradict one another; names the file."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """A Parquet file with one session's rows of one table.

    Attributes
    ----------
    path : str
        Relative to the catalog's folder.
    n_bytes : int
        Its size, by which a file cut short is noticed.
    """

    path: str
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Commit:
    """One change: a session added, replaced or removed.

    Attributes
    ----------
    kind : {'add', 'replace', 'remove'}
    session_id : str
    session : mapping
        Its row of the table ``sessions`` with dates as ISO 8601 text; empty where removed.
    fragments : mapping of table name to Fragment
    committed_at : str
        UTC, ISO 8601.
    """

    kind: Kind
    session_id: str
    session: Mapping[str, Any] = field(default_factory=dict)
    fragments: Mapping[str, Fragment] = field(default_factory=dict)
    committed_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))

    def to_json(self) -> bytes:
        """The content of a log file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Commit:
        """Parse a log file. Raises ValueError, KeyError or TypeError if it is not one."""
        record = json.loads(content)
        if record["format"] != FORMAT or record["kind"] not in get_args(Kind):
            raise ValueError(f"format {record['format']!r}, kind {record['kind']!r}: not of this version")
        fragments = {name: Fragment(**fragment) for name, fragment in record["fragments"].items()}
        if bad := [file.path for file in fragments.values() if not _FRAGMENT.fullmatch(file.path)]:
            raise ValueError(f"fragment {bad[0]!r} is not a file of fragments/")
        session = record["session"]
        if record["kind"] != "remove":
            check_inside(session["path"])
            if session["session_id"] != record["session_id"]:
                raise ValueError(f"session {session['session_id']!r} under the id {record['session_id']!r}")
        return cls(record["kind"], record["session_id"], session, fragments, record["committed_at"])


@dataclass(frozen=True, slots=True)
class Entry:
    """One session of the catalog.

    Attributes
    ----------
    session : mapping
        Its row of the table ``sessions``, dates as ISO 8601 text.
    fragments : mapping of table name to Fragment
    position : int
        The log position at which it came in.
    """

    session: Mapping[str, Any]
    fragments: Mapping[str, Fragment]
    position: int

    @property
    def path(self) -> str:
        """The session's Zarr group, relative to the store."""
        return str(self.session["path"])

    @property
    def content_hash(self) -> str:
        return str(self.session["content_hash"])


def check_inside(path: str) -> None:
    """Raise ValueError unless a path of the store is relative and does not leave it."""
    parts = PurePosixPath(path)
    if not parts.parts or parts.is_absolute() or ".." in parts.parts or "\\" in path:
        raise ValueError(f"path {path!r} is not inside the store")


def replay(commits: Sequence[Commit]) -> dict[str, Entry]:
    """The sessions after these commits, by id.

    Raises
    ------
    CatalogError
        If one adds a session that is there, or replaces or removes one that is not.
    """
    entries: dict[str, Entry] = {}
    for position, commit in enumerate(commits, start=1):
        if (commit.kind == "add") == (commit.session_id in entries):
            problem = f"{file_name(position)}: cannot {commit.kind} session {commit.session_id} at this point"
            raise CatalogError(problem, "restore the log from a copy, or ingest into a new store")
        if commit.kind == "remove":
            del entries[commit.session_id]
        else:
            entries[commit.session_id] = Entry(commit.session, commit.fragments, position)
    return entries


def file_name(position: int) -> str:
    """Name of the log file at a position.

    Examples
    --------
    >>> file_name(42)
    'log/0000000042.json'
    """
    return f"{FOLDER}/{position:010d}.json"


class Log:
    """The log's files. What was read once is kept, because a log file never changes."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._read: list[Commit] = []

    def commits(self) -> list[Commit]:
        """Every commit up to now, position 1 first.

        Raises
        ------
        CatalogError
            If a file is missing from the numbering or cannot be read.
        """
        numbers = [int(found[1]) for name in self._files.names(FOLDER) if (found := _FILE.fullmatch(name))]
        head = max(numbers, default=0)
        known = self._read if len(self._read) <= head else []
        # Files are looked for by number, not taken from the listing: a listing made while others write
        # may show a later file and not the one before it.
        self._read = known + [self._parse(position) for position in range(len(known) + 1, head + 1)]
        return self._read

    def append(self, decide: Callable[[dict[str, Entry]], Commit]) -> int:
        """Commit what `decide` makes of the sessions of the moment; again if another writer comes first.

        Returns
        -------
        int
            The new position.
        """
        while True:
            commits = self.commits()
            position = len(commits) + 1
            try:
                self._files.create(file_name(position), decide(replay(commits)).to_json())
            except FileExistsError:
                continue
            return position

    def _parse(self, position: int) -> Commit:
        name = file_name(position)
        try:
            return Commit.from_json(self._files.read(name))
        except FileNotFoundError:
            problem = "missing, though later ones are there"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"not a readable log entry ({error!r})"
        raise CatalogError(
            f"{self._files.locate(name)}: {problem}",
            "restore the file from a copy, or ingest into a new store",
        )
