"""Checkpoints: the catalog up to some position as a few large files, so that opening replays only what came after.

A checkpoint is one small file, ``checkpoints/<number>.json``, that names Parquet files under ``tables/``. Number k + 1
is made from number k and created by compare-and-swap, so checkpoints are one line of descent; the highest number
holds. It keeps the whole history: rows of sessions that were replaced or removed lie in files of their own
(``superseded``), which only a reader of an older position opens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from nhcatalog.files import Files
from nhcatalog.fragment import Fragment
from nhcatalog.log import FORMAT, check_version, parsing
from nhcatalog.schema import SCHEMA_VERSION

FOLDER = "checkpoints"

_FILE = re.compile(r"(\d{10})\.json")


@dataclass(frozen=True, slots=True)
class TableFiles:
    """Files of one table.

    Attributes
    ----------
    current : tuple of Fragment
        Rows of sessions that are there at the checkpoint's position, and those of `dead`.
    superseded : tuple of Fragment
        Rows of sessions that were replaced or removed before.
    dead : tuple of int
        Commits whose rows lie in `current` although a later commit ended them.
    """

    current: tuple[Fragment, ...] = ()
    superseded: tuple[Fragment, ...] = ()
    dead: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The catalog at one position.

    Attributes
    ----------
    number : int
        1 for the first checkpoint; 0 is the empty beginning.
    position : int
        Log position up to which it holds everything.
    first : int
        The earliest position that can still be asked for: 0, or that of the last rebuild.
    history : Fragment or None
        One row per commit up to `position`: what it did, to which session, and which commit ended it.
    tables : mapping of table name to TableFiles
    created_at : str
        UTC, ISO 8601.
    """

    number: int = 0
    position: int = 0
    first: int = 0
    history: Fragment | None = None
    tables: Mapping[str, TableFiles] = field(default_factory=dict)
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))

    def fragments(self, *, superseded: bool = True) -> list[Fragment]:
        """Every file that it names."""
        named = [file for table in self.tables.values() for file in table.current]
        if superseded:
            named += [file for table in self.tables.values() for file in table.superseded]
        return named if self.history is None else [self.history, *named]

    def to_json(self) -> bytes:
        """The content of its file."""
        record = {"format": FORMAT, "schema": SCHEMA_VERSION, **asdict(self)}
        return json.dumps(record, indent=1, allow_nan=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Checkpoint:
        """Parse its file.

        Raises
        ------
        NewerCatalog
            If a newer version wrote it.
        ValueError, KeyError, TypeError
            If it is not one.
        """
        record = json.loads(content)
        check_version(record)
        tables = {
            name: TableFiles(
                tuple(map(Fragment.from_json, files["current"])),
                tuple(map(Fragment.from_json, files["superseded"])),
                tuple(map(int, files["dead"])),
            )
            for name, files in record["tables"].items()
        }
        numbers = (int(record["number"]), int(record["position"]), int(record["first"]))
        return cls(*numbers, Fragment.from_json(record["history"]), tables, str(record["created_at"]))


def file_name(number: int) -> str:
    """Name of a checkpoint's file.

    Examples
    --------
    >>> file_name(3)
    'checkpoints/0000000003.json'
    """
    return f"{FOLDER}/{number:010d}.json"


def numbers(files: Files) -> list[int]:
    """Numbers of the checkpoints that there are, in order."""
    return sorted(int(found[1]) for name in files.names(FOLDER) if (found := _FILE.fullmatch(name)))


def read_checkpoint(files: Files, number: int) -> Checkpoint:
    """A checkpoint by its number; 0 is the empty beginning.

    Raises
    ------
    FileNotFoundError
        If it is gone.
    CatalogError
        If its file cannot be read.
    """
    if number == 0:
        return Checkpoint()
    name = file_name(number)
    with parsing(files.locate(name), "checkpoint"):
        return Checkpoint.from_json(files.read(name))


def n_to_fold(rows: Sequence[int], new_rows: int, full_rows: int) -> int:
    """How many of a table's last files to write anew together with new rows.

    A file is folded while it is no larger than what comes after it, so that sizes fall from file to file, there
    are O(log n) of them, and a row is written O(log n) times. A full file is never folded.

    Parameters
    ----------
    rows : sequence of int
        Rows of the files there are, oldest first.
    new_rows : int
    full_rows : int
        Rows at which a file is full.

    Examples
    --------
    >>> n_to_fold([1000, 300, 80], 100, full_rows=10_000)
    1
    >>> n_to_fold([1000, 300, 250], 300, full_rows=10_000)
    2
    """
    if not new_rows:
        return 0
    n, total = 0, new_rows
    for size in reversed(rows):
        if size > total or size >= full_rows:
            break
        n, total = n + 1, total + size
    return n
