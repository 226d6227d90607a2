"""Is what the catalog promises on the disk, whole and true?"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from nhcatalog.catalog import Catalog
from nhcatalog.errors import UserError
from nhcatalog.place import AnyPlace, Place
from nhcatalog.snapshot import Snapshot
from nhcatalog.state import Entry
from nhcatalog.storage import open_files
from nhdata.features.reference import reference_features
from nhdata.recording import Provenance, Recording, Series, Spikes
from nhdata.store.digest import content_hash
from nhdata.store.groups import open_group
from nhdata.store.layout import SCHEMA_VERSION, block_offsets, tick_at
from nhdata.store.observed_features import observed_values
from nhdata.store.session import Session
from nhdata.store.store import checked_store
from nhdata.store.ticks import Clock


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be.

    Attributes
    ----------
    session_id : str
        '' for the store as a whole.
    kind : str
        What is wrong, in one word for scripts: ``missing``, ``identity``, ``schema``, ``shape``, ``order``, ``index``,
        ``counts``, ``unreadable``, ``hash``, ``catalog``.
    detail : str
        Which array or file, and how.
    """

    session_id: str
    kind: str
    detail: str


def validate(
    path: AnyPlace,
    *,
    deep: bool = False,
    on_session: Callable[[str, int], None] = lambda session_id, n: None,
) -> list[Problem]:
    """Check every session that the catalog names; reads only.

    Parameters
    ----------
    path : path, Url or str
        The store.
    deep : bool
        Decode everything: checksums, order of spikes, block index, counts, and the content hash. Without it:
        structure, shapes, and the catalog against the sessions' attributes.
    on_session : callable
        Told each session and how many there are.

    Returns
    -------
    list of Problem
        Empty for a sound store.

    Raises
    ------
    UserError
        If there is no store of this version at `path`.
    """
    root = checked_store(path)
    try:
        snapshot = Catalog(root / "catalog").snapshot()
        rows = {row["session_id"]: row for row in _counted(snapshot)}
    except UserError as error:
        return [Problem("", "catalog", str(error))]
    problems: list[Problem] = []
    for session_id, entry in sorted(snapshot.entries.items()):
        on_session(session_id, len(snapshot.entries))
        problems += [
            Problem(session_id, kind, detail) for kind, detail in _session(root, entry, rows[session_id], deep)
        ]
    return problems


def _counted(snapshot: Snapshot) -> list[dict[str, Any]]:
    """What the catalog's tables say of each session."""
    rows: list[dict[str, Any]] = snapshot.sql(
        "select s.session_id, s.n_units, s.n_spikes, count(u.unit_id) as unit_rows, "
        "count(distinct u.unit_id) as unit_ids, coalesce(sum(u.n_spikes), 0) as unit_spikes "
        "from sessions s left join units u using (session_id) group by all"
    ).to_pylist()
    return rows


def _session(root: Place, entry: Entry, row: dict[str, Any], deep: bool) -> Iterator[tuple[str, str]]:
    """(kind, detail) of everything wrong with one session."""
    place = root / entry.path
    try:
        files = open_files(place).walk()
        if not files:
            yield "missing", f"{entry.path} is not there"
            return
        session = Session(place)
        yield from _structure(session, files, entry, row)
        if deep:
            yield from _content(session)
    except UserError as error:
        yield "unreadable", str(error)
    except Exception as error:  # whatever a damaged file makes a reader raise
        yield "unreadable", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _structure(
    session: Session, files: Collection[str], entry: Entry, row: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    attrs = session.attrs
    if attrs.get("nhdata_schema") != SCHEMA_VERSION:
        yield "schema", f"schema {attrs.get('nhdata_schema')}, not {SCHEMA_VERSION}"
    for name in ("session_id", "source"):
        if attrs[name] != entry.session[name]:
            yield "identity", f"{name} is {attrs[name]!r}, the catalog says {entry.session[name]!r}"
    if attrs["content_hash"] != entry.content_hash:
        yield "hash", "the session's content_hash is not the one in the catalog"
    for name, mine in (("n_units", session.n_units), ("n_spikes", session.n_spikes)):
        if row[name] != mine:
            yield "counts", f"{name} is {mine}, the catalog says {row[name]}"
    if row["unit_rows"] != session.n_units or row["unit_ids"] != session.n_units:
        yield "catalog", f"{row['unit_rows']} rows of units in the catalog for {session.n_units} units"
    if row["unit_spikes"] != session.n_spikes:
        yield "catalog", f"the catalog's units have {row['unit_spikes']} spikes, the session {session.n_spikes}"
    group = open_group(session.path)
    for name, size in (("spikes/tick", session.n_spikes), ("spikes/unit", session.n_spikes)):
        node = group.get(name)
        if not isinstance(node, zarr.Array):
            yield "missing", f"array {name}"
        elif node.shape != (size,):
            yield "shape", f"{name} has shape {node.shape}, not ({size},)"
    for name, node in group.members(max_depth=None):
        if isinstance(node, zarr.Array):
            n_files = math.prod(-(-n // step) for n, step in zip(node.shape, node.shards or node.chunks, strict=True))
            found = sum(file.startswith(f"{name}/c/") for file in files)
            if found < n_files:
                yield "missing", f"{name}: {n_files - found} of {n_files} files"


def _content(session: Session) -> Iterator[tuple[str, str]]:
    """Decode everything and hold it against what it says of itself."""
    tick, unit = session.ticks()
    if np.any(tick[1:] < tick[:-1]):
        yield "order", f"spikes/tick falls at spike {int(np.argmax(tick[1:] < tick[:-1])) + 1}"
    if unit.size and int(unit.max()) >= session.n_units:
        yield "index", f"spikes/unit names unit {int(unit.max())} of {session.n_units}"
        return
    block = np.asarray(open_group(session.path)["spikes/block"][...])  # type: ignore[index]
    if not np.array_equal(block, block_offsets(tick, session.tick_hz, session.duration_s)):
        yield "index", "spikes/block does not fit spikes/tick"
    units = session.units()
    if not np.array_equal(np.bincount(unit, minlength=session.n_units), units["n_spikes"]):
        yield "counts", "units/n_spikes does not fit spikes/unit"
    start, stop = (tick_at(t, session.t_start_s, session.tick_hz) for t in _window(session))
    again, stored = (
        observed_values(
            tick,
            unit,
            reference_features,
            n_units=session.n_units,
            tick_hz=session.tick_hz,
            t_start_s=session.t_start_s,
            pieces=[(start, stop)],
            observed=session.observed(),
        ),
        session.features().values,
    )
    if not np.allclose(again, stored, rtol=1e-9, atol=1e-12, equal_nan=True):  # older versions rounded the last digit
        yield "counts", "features/reference does not fit the spikes"
    if stored_hash(session, tick, unit) != session.attrs["content_hash"]:
        yield "hash", "the content is not what content_hash says"


def _window(session: Session) -> tuple[float, float]:
    attrs = session.feature_attrs
    return attrs["window_start_s"], attrs["window_stop_s"]


def stored_hash(session: Session, tick: NDArray[np.uint32], unit: NDArray[np.uint16]) -> str:
    """The content hash of a session as it lies in the store, given its decoded spikes."""
    attrs = session.attrs
    recording = Recording(
        source=session.source,
        session_id=session.session_id,
        spikes=Spikes(tick, unit),
        units={name: column for name, column in session.units().items() if name != "n_spikes"},
        stop_s=session.t_stop_s,
        provenance=Provenance((), {}, "", {}),
        intervals=session.intervals(),
        series={name: Series(time_s, value, of) for name, (time_s, value, of) in session.series().items()},
        subject=attrs["subject"],
        lab=attrs["lab"],
        date=attrs["date"],
    )
    return content_hash(recording, Clock(session.t_start_s, session.duration_s, session.tick_hz), tick, unit)
