"""The numbered log: one small file per change, created by compare-and-swap."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from nhcatalog.errors import UserError
from nhcatalog.files import Files
from nhcatalog.fragment import Fragment
from nhcatalog.schema import SCHEMA_VERSION

FORMAT = 1
FOLDER = "log"

Kind = Literal["add", "replace", "remove", "rebuild"]

RESTORE = "restore the file from a copy, or run 'nhdata catalog rebuild'"
"""What to do about a file that is damaged or lost."""

_FILE = re.compile(r"(\d{10})\.json")


class CatalogError(UserError):
    """A catalog whose files contradict one another; names the file."""


class NewerCatalog(CatalogError):
    """A catalog that a newer version of this software wrote."""


class MissingCommit(CatalogError):
    """A log file that is not there: lost, or swept because a checkpoint took its place a moment ago."""


class MissingFile(CatalogError):
    """A Parquet file that the log or a checkpoint names and that is missing or cut short."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One change: a session added, replaced or removed, or the whole catalog rebuilt.

    Attributes
    ----------
    kind : {'add', 'replace', 'remove', 'rebuild'}
        A rebuild changes nothing by itself: the checkpoint that follows it does. Without a checkpoint, it is a fence
        (`nhcatalog.state.Reader.fence`).
    session_id : str
        '' for a rebuild.
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
        record = {"format": FORMAT, "schema": SCHEMA_VERSION, **asdict(self)}
        return json.dumps(record, indent=1, allow_nan=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Commit:
        """Parse a log file.

        Raises
        ------
        NewerCatalog
            If a newer version wrote it.
        ValueError, KeyError, TypeError
            If it is not one.
        """
        record = json.loads(content)
        check_version(record)
        if record["kind"] not in get_args(Kind):
            raise ValueError(f"kind {record['kind']!r}")
        fragments = {name: Fragment.from_json(fragment) for name, fragment in record["fragments"].items()}
        session = record["session"]
        if record["kind"] in ("add", "replace"):
            check_inside(session["path"])
            if session["session_id"] != record["session_id"]:
                raise ValueError(f"session {session['session_id']!r} under the id {record['session_id']!r}")
        return cls(record["kind"], record["session_id"], session, fragments, record["committed_at"])


@contextmanager
def parsing(where: str, what: str, remedy: str = RESTORE) -> Iterator[None]:
    """Name the file, if it turns out to be damaged or of a newer version.

    Raises
    ------
    NewerCatalog, CatalogError
        In the place of what the parsing raises.
    """
    try:
        yield
    except NewerCatalog as error:
        raise NewerCatalog(f"{where}: {error.problem}", error.remedy) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = str(error).splitlines()[0] if isinstance(error, ValueError) and str(error) else repr(error)
        raise CatalogError(f"{where}: not a readable {what} ({said})", remedy) from None


def check_version(record: Mapping[str, Any]) -> None:
    """Raise NewerCatalog if a newer version wrote this record, ValueError if its format is none at all."""
    version, schema = record["format"], record.get("schema", 1)
    if not (isinstance(version, int) and isinstance(schema, int) and version > 0 and schema > 0):
        raise ValueError(f"format {version!r}, schema {schema!r}")
    if version > FORMAT or schema > SCHEMA_VERSION:
        raise NewerCatalog(
            f"written by a newer version (format {version}, schema {schema}; this one reads up to "
            f"{FORMAT} and {SCHEMA_VERSION})",
            "upgrade neurohorizon",
        )


def check_inside(path: str) -> None:
    """Raise ValueError unless a path of the store is relative and does not leave it."""
    parts = PurePosixPath(path)
    if not parts.parts or parts.is_absolute() or ".." in parts.parts or "\\" in path:
        raise ValueError(f"path {path!r} is not inside the store")


def file_name(position: int) -> str:
    """Name of the log file at a position.

    Examples
    --------
    >>> file_name(42)
    'log/0000000042.json'
    """
    return f"{FOLDER}/{position:010d}.json"


class Log:
    """The log's files, read once; the newest is read again, which tells a log made again from this one."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._read: dict[int, Commit] = {}

    def positions(self) -> list[int]:
        """Every position that has a file, in order."""
        return sorted(int(found[1]) for name in self._files.names(FOLDER) if (found := _FILE.fullmatch(name)))

    def after(self, position: int) -> tuple[Commit, ...]:
        """Every commit after a position, the next one first.

        Raises
        ------
        CatalogError
            If a file is missing from the numbering or cannot be read.
        """
        head = max(self.positions(), default=0)
        self._read = {known: commit for known, commit in self._read.items() if position < known <= head}
        if self._read and self.read(max(self._read)) != self._read[max(self._read)]:
            self._read = {}  # the catalog was deleted and made again
        # Files are looked for by number, not taken from the listing: a listing made while others write
        # may show a later file and not the one before it.
        missing = [number for number in range(position + 1, head + 1) if number not in self._read]
        self._files.fetch(map(file_name, missing))
        for number in missing:
            self._read[number] = self.read(number)
        return tuple(self._read[number] for number in range(position + 1, head + 1))

    def read(self, position: int) -> Commit:
        """The commit at a position.

        Raises
        ------
        CatalogError
            If its file is missing or cannot be read.
        """
        name = file_name(position)
        try:
            with parsing(self._files.locate(name), "log entry"):
                return Commit.from_json(self._files.read(name))
        except FileNotFoundError:
            raise MissingCommit(
                f"{self._files.locate(name)}: missing, though later ones are there",
                RESTORE,
            ) from None
