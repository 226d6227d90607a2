"""Which kind of recording lies at a path: every source is asked what it finds there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import h5py

from nhcatalog.errors import UserError
from nhdata.sources import (
    SessionRef,
    SourceError,
    SourceOptions,
    check_taken,
    find_sessions,
    open_source,
    source_names,
)


def find(name: str | None, places: Sequence[str | Path], options: SourceOptions) -> tuple[str, list[SessionRef]]:
    """The source that reads `places`, and the recordings that it finds there.

    Parameters
    ----------
    name : str or None
        A source; None for the one that finds recordings at every place.
    places : sequence of path or str
        Files, folders or addresses.
    options : SourceOptions

    Raises
    ------
    UserError
        If the source finds nothing, and then which one would; without a name, if none or several find something; or if
        the options are not those of the source.
    """
    if name is None:
        return _guess(places, options)
    source = open_source(name, options)
    check_taken(source, options)
    try:
        refs = list(islice(find_sessions(source, places), options.limit))
    except SourceError as error:
        if remedy := _other_kind(Path(error.path), name):
            raise UserError(error.problem, remedy) from None
        raise
    if refs and not any(ref.session_id or ref.remote or ref.url for ref in refs):
        path = refs[0].path
        if remedy := _other_kind(path, name):
            raise SourceError(path, f"no recording of source {name}", remedy)
    return name, refs


def _guess(places: Sequence[str | Path], options: SourceOptions) -> tuple[str, list[SessionRef]]:
    if not places or options.remote:
        remedy = "name files or folders of recordings, or --source ibl --remote, or --source synthetic"
        raise UserError("neither a path nor a source given", remedy)
    for place in places:
        if "://" not in str(place) and not os.path.exists(os.path.expanduser(place)):
            raise SourceError(place, "no such file or folder", "check the path")
    known = {place: _kinds(place, options) for place in places}
    for place, kinds in known.items():
        if not kinds:
            raise UserError(*_why_nothing(place))
    shared = set.intersection(*(set(kinds) for kinds in known.values()))
    if len(shared) != 1:
        found = "; ".join(f"{place} holds {' and '.join(kinds)}" for place, kinds in known.items())
        raise UserError(f"recordings of several kinds ({found})", "ingest one kind after the other, each with --source")
    (name,) = shared
    check_taken(open_source(name, options), options)
    refs = {(ref.place, ref.session_id): ref for kinds in known.values() for ref in kinds[name]}
    return name, list(refs.values())[: options.limit]


def _why_nothing(place: str | Path) -> tuple[str, str]:
    """The problem and the remedy of a place where no source finds anything: what is seen there, if it tells."""
    path = Path(os.path.expanduser(place))
    if path.is_dir() and not any(path.iterdir()):
        return f"{place}: an empty folder", "check the path, and that the recording was copied"
    if (path / "spike_clusters.npy").is_file() and not (path / "spike_times.npy").exists():
        return f"{place}: spike_clusters.npy, but no spike_times.npy beside it", "copy all that Kilosort or Phy wrote"
    if path.suffix in (".nwb", ".h5") and path.is_file() and not h5py.is_hdf5(path):
        return f"{place}: not an HDF5 file, though its name says so", "copy or download it again"
    remedy = f"name its own folder, or say what it is with --source ({', '.join(source_names())})"
    return f"{place}: nothing here that any source knows as its own", remedy


def _kinds(place: str | Path, options: SourceOptions) -> dict[str, list[SessionRef]]:
    """What each source finds at a place, if it can tell who the recordings are."""
    kinds = {}
    for name in source_names():
        try:
            refs = list(find_sessions(open_source(name, options), [place]))
        except UserError:
            continue
        if any(ref.session_id or ref.url for ref in refs):
            kinds[name] = refs
    if "allen" in kinds and {ref.place for ref in kinds["allen"]} == {ref.place for ref in kinds.get("nwb", ())}:
        del kinds["nwb"]  # Allen's session files are NWB files with a rule of their own
    return kinds


def _other_kind(path: Path, name: str) -> str | None:
    """What to do where a source found nothing of its own, if another would find something."""
    others = [other for other in _kinds(path, SourceOptions()) if other != name] if path.exists() else []
    return f"it looks like {' and '.join(others)}: use --source {others[0]}" if others else None
