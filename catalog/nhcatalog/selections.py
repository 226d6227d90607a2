"""Named selections: units that a query chose once, kept for good under a name.

A selection is one file, ``selections/<name>.parquet``: its units in order, and how they were chosen. It is created by
compare-and-swap and never changed; taking a name again means removing what has it first.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from difflib import get_close_matches

import pyarrow as pa
import pyarrow.parquet as pq

from nhcatalog.errors import UserError
from nhcatalog.files import Files
from nhcatalog.fragment import read_rows
from nhcatalog.log import FORMAT, check_version, parsing
from nhcatalog.schema import SCHEMA_VERSION

FOLDER = "selections"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}", re.ASCII)
_KEY = b"nhdata_selection"


@dataclass(frozen=True, slots=True)
class NamedSelection:
    """Units chosen once.

    Attributes
    ----------
    name : str
    query : str
        The SQL that chose them.
    position : int
        The log position at which it was asked.
    hash : str
        `units_hash` of the unit ids.
    n_units : int
    content_hash : mapping of session_id to str
        The sessions as they were.
    created_at : str
        UTC, ISO 8601.
    """

    name: str
    query: str
    position: int
    hash: str
    n_units: int
    content_hash: Mapping[str, str]
    created_at: str


def is_name(text: str) -> bool:
    """Whether a text is a selection's name where a SELECT may stand as well.

    Examples
    --------
    >>> is_name("ca1"), is_name("select unit_id from units")
    (True, False)
    """
    return bool(_NAME.fullmatch(text))


def units_hash(unit_ids: Iterable[str]) -> str:
    """SHA-256 of unit ids in their order: by session, then by row.

    Examples
    --------
    >>> units_hash(["a/p/1", "a/p/2"])[:12]
    'b4fc234c124d'
    """
    return hashlib.sha256("\n".join(unit_ids).encode()).hexdigest()


class Selections:
    """The named selections of a catalog."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def names(self) -> list[str]:
        """All names, sorted."""
        found = (name.removesuffix(".parquet") for name in self._files.names(FOLDER) if name.endswith(".parquet"))
        return sorted(name for name in found if is_name(name))

    def create(
        self, name: str, query: str, position: int, unit_ids: list[str], content_hash: Mapping[str, str]
    ) -> NamedSelection:
        """Keep units under a name.

        Raises
        ------
        UserError
            If the text is no name, or is taken.
        """
        if not is_name(name):
            raise UserError(
                f"{name!r} cannot name a selection", "use letters, digits, '_', '.' and '-'; a letter first"
            )
        created_at = datetime.now(UTC).isoformat(timespec="seconds")
        made = NamedSelection(
            name, query, position, units_hash(unit_ids), len(unit_ids), dict(content_hash), created_at
        )
        record = {"format": FORMAT, "schema": SCHEMA_VERSION, **asdict(made)}
        rows = pa.table({"unit_id": pa.array(unit_ids, pa.string())}).replace_schema_metadata(
            {_KEY: json.dumps(record, allow_nan=False)}
        )
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        try:
            self._files.create(_file(name), sink.getvalue().to_pybytes())
        except FileExistsError:
            raise UserError(
                f"there is a selection {name} already", f"take another name, or 'nhdata select --name {name} --remove'"
            ) from None
        return made

    def read(self, name: str) -> tuple[NamedSelection, list[str]]:
        """A selection and its unit ids, by session and row.

        Raises
        ------
        UserError
            If there is none of that name.
        CatalogError
            If its file is damaged.
        """
        path = _file(name) if is_name(name) else ""
        try:
            content = self._files.read(path) if path else None
        except FileNotFoundError:
            content = None
        if content is None:
            names = self.names()
            near = get_close_matches(name, names, n=3) or names[:5]
            known = f"there are {', '.join(near)}" if near else "make one with 'nhdata select --name NAME \"select …\"'"
            raise UserError(f"no selection named {name!r}", known)
        with parsing(
            self._files.locate(path), "selection", "restore the file from a copy, or remove it and select again"
        ):
            rows = read_rows(content)
            record = json.loads(rows.schema.metadata[_KEY])
            check_version(record)
            fields = {field: record[field] for field in NamedSelection.__dataclass_fields__}
            made, unit_ids = NamedSelection(**fields), rows["unit_id"].to_pylist()
            if units_hash(unit_ids) != made.hash:
                raise ValueError("its units are not those of its hash")
        return made, unit_ids

    def remove(self, name: str) -> None:
        """Forget a selection. Raises UserError if there is none of that name."""
        if name not in self.names():
            self.read(name)
        self._files.delete(_file(name))


def _file(name: str) -> str:
    return f"{FOLDER}/{name}.parquet"
