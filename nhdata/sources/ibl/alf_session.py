"""Sessions of the ALF layout: where they are on disk, and who they are."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nhdata.sources import SourceError
from nhdata.sources._files import existing
from nhdata.sources.ibl.alf import probe_collections, read_table

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "internationalbrainlab.org")


def find_session_folders(paths: Sequence[Path]) -> Iterator[Path]:
    """Session folders with spike sorting, at, under or around each path, sorted, each once.

    Raises
    ------
    SourceError
        If a path does not exist or has no session with spike sorting.
    """
    from one.alf.path import get_session_path

    seen: set[Path] = set()
    for path in existing(paths):
        around = get_session_path(path)
        found = [Path(around)] if around else list(_session_folders_under(path))
        found = [folder for folder in found if probe_collections(folder)]
        if not found:
            problem = "no IBL session with spikes.* or clusters.* files under lab/Subjects/subject/date/number/alf"
            raise SourceError(path, problem, "name a ONE cache folder, a lab, a subject or a session")
        for folder in found:
            if folder not in seen:
                seen.add(folder)
                yield folder


def _session_folders_under(root: Path) -> Iterator[Path]:
    from one.alf.spec import is_session_path

    for name, folders, _ in os.walk(root):
        folders.sort()
        if is_session_path(name):
            folders.clear()
            yield Path(name)


@dataclass(frozen=True, slots=True)
class SessionName:
    """What a session's path says, ``lab/Subjects/subject/date/number``; `lab` is None where left out."""

    lab: str | None
    subject: str
    date: str
    number: int

    @classmethod
    def of(cls, session: Path) -> SessionName:
        from one.alf.path import session_path_parts

        lab, subject, date, number = session_path_parts(session)
        return cls(lab, subject, date, int(number))

    @property
    def path(self) -> Path:
        """Folder of the session, relative to the cache folder."""
        lab = Path(self.lab, "Subjects") if self.lab else Path()
        return lab / self.subject / self.date / f"{self.number:03d}"

    def eid(self, session: Path) -> str | None:
        """IBL's own id of the session, from ONE's table ``sessions.pqt`` in the cache folder, if it is there.

        Tables that ONE builds from local files invent ids anew each time; those are not random (version 4)
        as IBL's are, and are passed over.

        Raises
        ------
        SourceError
            If the table is there but cannot be read.
        """
        table = session.parents[4 if self.lab else 2] / "sessions.pqt"
        if not table.is_file():
            return None
        named = _read_session_table(table, table.stat().st_mtime_ns).get((self.subject, self.date, self.number), [])
        eids = {eid for lab, eid in named if self.lab in (None, lab)}
        return eids.pop() if len(eids) == 1 else None

    def derived_id(self) -> str:
        """UUID version 5 of ``lab/subject/date/number``, e.g. ``.../001``, in `NAMESPACE`."""
        return str(uuid.uuid5(NAMESPACE, str(self)))

    def __str__(self) -> str:
        return f"{self.lab or ''}/{self.subject}/{self.date}/{self.number:03d}"


@lru_cache(maxsize=4)
def _read_session_table(path: Path, mtime_ns: int) -> dict[tuple[str, str, int], list[tuple[str, str]]]:
    """(lab, eid) by (subject, date, number); `mtime_ns` only tells versions of the file apart."""
    table = read_table(path)
    ids = table.get("id", table.get("eid"))
    if ids is None or not {"lab", "subject", "date", "number"} <= table.keys():
        return {}
    named: dict[tuple[str, str, int], list[tuple[str, str]]] = {}
    for eid, lab, subject, date, number in zip(
        ids, table["lab"], table["subject"], table["date"], table["number"], strict=True
    ):
        if is_eid(str(eid)):
            named.setdefault((subject, str(date)[:10], int(number)), []).append((lab, str(eid)))
    return named


def is_eid(text: str) -> bool:
    """Whether text is a random UUID (version 4), as IBL's ids of sessions and insertions are."""
    try:
        return uuid.UUID(text).version == 4 and text == str(uuid.UUID(text))
    except ValueError:
        return False
