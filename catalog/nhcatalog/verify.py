"""Is every file of the catalog there, whole, and in agreement with the others?"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from nhcatalog.files import Files
from nhcatalog.fragment import Fragment, parquet_file, read_rows
from nhcatalog.log import CatalogError, Commit, Log
from nhcatalog.schema import TABLES
from nhcatalog.selections import Selections
from nhcatalog.state import Reader, State, read_history


def verify(files: Files) -> list[str]:
    """Everything that is wrong with a catalog, one line each; empty if it is sound.

    Reads every file whole: the log and the newest checkpoint can be parsed and fit together, every Parquet file that
    they name has its size and its rows and decodes, and every row belongs to one commit of a session.
    """
    problems: list[str] = []
    try:
        state = Reader(files).state()
        problems += _tail(state)
        history = read_history(files, state.checkpoint)
        problems += _log(files, state, history)
        problems += _checkpoint(state, history)
    except CatalogError as error:
        problems.append(str(error))
    return [*problems, *_selections(files)]


def _selections(files: Files) -> Iterator[str]:
    selections = Selections(files)
    for name in selections.names():
        try:
            selections.read(name)
        except CatalogError as error:
            yield str(error)


def _log(files: Files, state: State, history: pa.Table) -> Iterator[str]:
    """Log files that a checkpoint has taken the place of and that are still there must say what it says."""
    rows = history.select(["_commit", "_kind", "session_id", "_committed_at"]).to_pylist()
    known = {row["_commit"]: (row["_kind"], row["session_id"], row["_committed_at"]) for row in rows}
    log = Log(files)
    for position in log.positions():
        if state.checkpoint.first < position <= state.checkpoint.position:
            try:
                commit = log.read(position)
            except CatalogError as error:
                yield str(error)
                continue
            said = (commit.kind, commit.session_id, commit.committed_at)
            if commit.kind != "rebuild" and known.get(position) != said:
                yield f"log position {position} says {said}, checkpoint {state.checkpoint.number} {known.get(position)}"


def _checkpoint(state: State, history: pa.Table) -> Iterator[str]:
    files, checkpoint = state.files, state.checkpoint
    if checkpoint.history is not None:
        yield from _file(files, checkpoint.history)
    commits = set(history["_commit"].to_pylist())
    if len(commits) != len(history):
        yield f"checkpoint {checkpoint.number}: its history names a commit twice"
    owner = dict(zip(history["_commit"].to_pylist(), history["session_id"].to_pylist(), strict=True))
    ended = set(history.filter(pc.is_valid(history["_ended"]))["_commit"].to_pylist())
    for name, table in checkpoint.tables.items():
        seen: dict[int, str] = {}
        for file in (*table.current, *table.superseded):
            problems = list(_file(files, file))
            yield from problems
            if problems:
                continue
            try:
                rows = read_rows(files.read(file.path), ["_commit", "session_id"])
            except (FileNotFoundError, pa.ArrowInvalid) as error:
                yield f"{files.locate(file.path)}: does not decode ({str(error).splitlines()[0]})"
                continue
            pairs = rows.group_by(["_commit", "session_id"]).aggregate([]).to_pylist()
            for commit, session_id in ((pair["_commit"], pair["session_id"]) for pair in pairs):
                if owner.get(commit) != session_id:
                    yield f"{files.locate(file.path)}: rows of {name} of session {session_id!r} in commit {commit}"
                if seen.setdefault(commit, file.path) != file.path:
                    yield f"{files.locate(file.path)}: rows of {name} of commit {commit} are also in {seen[commit]}"
                gone = commit in ended and commit not in table.dead
                if gone != (file in table.superseded):
                    yield f"{files.locate(file.path)}: rows of {name} of commit {commit} are in the wrong file"


def _tail(state: State) -> Iterator[str]:
    for commit in state.tail:
        for name, file in commit.fragments.items():
            yield from _file(state.files, file)
            if name in TABLES and (others := _others(state.files, commit, file)):
                yield f"{state.files.locate(file.path)}: rows of session {others.pop()!r}, not {commit.session_id!r}"


def _others(files: Files, commit: Commit, file: Fragment) -> set[str]:
    try:
        rows = read_rows(files.read(file.path), ["session_id"])
    except (FileNotFoundError, pa.ArrowInvalid):
        return set()
    return set(pc.unique(rows["session_id"]).to_pylist()) - {commit.session_id}


def _file(files: Files, file: Fragment) -> Iterator[str]:
    """What is wrong with one Parquet file; reads it whole."""
    where = files.locate(file.path)
    try:
        content = files.read(file.path)
    except FileNotFoundError:
        yield f"{where}: missing"
        return
    if len(content) != file.n_bytes:
        yield f"{where}: {len(content)} bytes, not {file.n_bytes}"
        return
    try:
        n_rows = sum(batch.num_rows for batch in parquet_file(content).iter_batches(use_threads=False))
    except (pa.ArrowInvalid, OSError) as error:
        yield f"{where}: does not decode ({str(error).splitlines()[0]})"
        return
    if file.n_rows is not None and n_rows != file.n_rows:
        yield f"{where}: {n_rows} rows, not {file.n_rows}"
