"""Where recordings come from: one small reader per format, registered by entry point.

A source finds the recordings under the paths a user names (`iter_sessions`) and reads one of them
(`load`). It never writes. A new one needs a class with these two methods and an entry point in the group
``nhdata.sources``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from nhcatalog.errors import UserError
from nhdata.recording import Recording


class SourceError(UserError):
    """A recording that cannot be read; names the file."""

    def __init__(self, path: Path | str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}", remedy)
        self.path = str(path)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What a user may tell a source on the command line; a source names those that it takes.

    Attributes
    ----------
    sample_rate_hz : float or None
        Samples per second, for formats that may not record it (Kilosort/Phy).
    n_sessions, n_units, duration_s, seed
        What to simulate (synthetic).
    revision : str or None
        Take the spike sorting of this revision; None for the newest (ibl).
    drop_early : bool
        Leave out spikes of up to a minute before the session's clock starts, instead of refusing them (ibl),
        or before the recording starts (phy).
    remote : bool
        Search and download instead of reading what is there (ibl).
    eids : Path or None
        List of the sessions to take, a text file of eids or a table with a column eid (ibl, ibl-compact).
    limit : int or None
        Take at most so many sessions.
    search : tuple of str
        Simple filters ``KEY=VALUE`` of a search, e.g. ``"subject=NYU-11"`` (ibl with `remote`).
    no_filter : bool
        Keep units that fail the source's own rule too, with a column ``good`` that says which ones pass (all but
        ibl-compact, which has none, and synthetic).
    """

    sample_rate_hz: float | None = None
    n_sessions: int = 4
    n_units: int = 32
    duration_s: float = 300.0
    seed: int = 0
    revision: str | None = None
    drop_early: bool = False
    remote: bool = False
    eids: Path | None = None
    limit: int | None = None
    search: tuple[str, ...] = ()
    no_filter: bool = False


_FLAGS = {
    "sample_rate_hz": "--sample-rate",
    "n_sessions": "--sessions",
    "n_units": "--units",
    "duration_s": "--seconds",
    "drop_early": "--drop-early-spikes",
}
"""How the command line calls an option, where not by its name."""


@dataclass(frozen=True, slots=True)
class SessionRef:
    """A recording that was found but not read yet.

    Attributes
    ----------
    path : Path
        The folder or file that names the recording in messages.
    session_id : str or None
        Its identity, or None where even that could not be read; `Source.load` then says why.
    remote : bool
        Whether `Source.load` downloads it to `path` first.
    url : str or None
        Address it is read from, where it is not at `path`.
    request : object
        What `Source.iter_sessions` knows and `Source.load` uses, in any process: picklable, without secrets. For a
        recording that is downloaded, all that the download needs.
    fingerprint : str or None
        The same for two recordings of the same spikes, whatever they are called; None where that is not known.
    reason : str
        Why it is to be skipped, where that is known without reading it.
    """

    path: Path
    session_id: str | None
    remote: bool = False
    url: str | None = None
    request: object = field(default=None, compare=False, repr=False)
    fingerprint: str | None = None
    reason: str = ""

    @property
    def place(self) -> str:
        """What names the recording in messages."""
        return self.url or str(self.path)


class Source(Protocol):
    """A reader of one format.

    A class may name the `SourceOptions` that it takes in an attribute ``takes``; others are refused then.
    """

    name: str

    def __init__(self, options: SourceOptions) -> None: ...

    def iter_sessions(self, paths: Sequence[Path]) -> Iterator[SessionRef]:
        """Find recordings, in a fixed order; a broken one is still named. Raises SourceError if a path holds none."""
        ...

    def load(self, ref: SessionRef) -> Recording:
        """Read one recording, good units only. Raises SourceError if it cannot be trusted."""
        ...


@runtime_checkable
class UrlSource(Source, Protocol):
    """A reader that also takes addresses."""

    def iter_urls(self, urls: Sequence[str]) -> Iterator[SessionRef]:
        """Find recordings at addresses ``http(s)://…``; a broken one is still named."""
        ...


@runtime_checkable
class PreparedSource(Source, Protocol):
    """A reader that looks up something of each recording before a worker, which may have no login, loads it."""

    def prepare(self, ref: SessionRef) -> SessionRef:
        """Complete a reference that `iter_sessions` gave; with a ``reason`` if the recording is to be skipped."""
        ...


def find_sessions(source: Source, places: Sequence[str | Path]) -> Iterator[SessionRef]:
    """The recordings at paths and addresses, paths first.

    Raises
    ------
    UserError
        If a path holds no recording of this kind, or the source takes no addresses.
    """
    urls = [place for place in places if isinstance(place, str) and place.startswith(("http://", "https://"))]
    paths = [Path(place) for place in places if place not in urls]
    if urls and not isinstance(source, UrlSource):
        raise UserError(f"source {source.name} reads no addresses ({urls[0]})", "download it and name the file")
    if paths or not urls:
        yield from source.iter_sessions(paths)
    if isinstance(source, UrlSource):
        yield from source.iter_urls(urls)


def source_names() -> list[str]:
    """Names that `open_source` knows, sorted."""
    return sorted(entry_points(group="nhdata.sources").names)


def open_source(name: str, options: SourceOptions | None = None) -> Source:
    """The source registered under `name`.

    Raises
    ------
    UserError
        If no source has that name.
    """
    for point in entry_points(group="nhdata.sources"):
        if point.name == name:
            factory = cast(type[Source], point.load())
            return factory(options or SourceOptions())
    raise UnknownSource(name)


class UnknownSource(UserError):
    """A name that no source has."""

    def __init__(self, name: str) -> None:
        names = source_names()
        near = "".join(f"perhaps {one}; " for one in get_close_matches(name, names, n=1))
        super().__init__(f"unknown source '{name}'", f"{near}choose one of {', '.join(names)}")


def check_taken(source: Source, options: SourceOptions) -> None:
    """See that a source takes every option that was given; all take ``limit``.

    Raises
    ------
    UserError
        If one is another source's; says whose.
    """
    takes = {"limit", *getattr(source, "takes", SourceOptions.__dataclass_fields__)}
    for option in fields(options):
        if option.name not in takes and getattr(options, option.name) != option.default:
            owners = [name for name in source_names() if option.name in getattr(open_source(name), "takes", ())]
            flag = _FLAGS.get(option.name) or f"--{option.name.replace('_', '-')}"
            raise UserError(f"{flag} is an option of source {', '.join(owners)}, not of {source.name}", "leave it out")
