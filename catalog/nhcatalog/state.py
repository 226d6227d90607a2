"""What the catalog holds at one position: a checkpoint, and the commits after it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nhcatalog.arrow import column, empty_table, rows_table, scalar
from nhcatalog.checkpoint import Checkpoint, numbers, read_checkpoint
from nhcatalog.checkpoint import file_name as checkpoint_name
from nhcatalog.errors import UserError
from nhcatalog.files import Files
from nhcatalog.fragment import Fragment
from nhcatalog.log import RESTORE, CatalogError, Commit, Log, MissingCommit, MissingFile, file_name
from nhcatalog.schema import arrow_schema

HISTORY_SCHEMA = pa.schema(
    [
        ("_commit", pa.int64()),
        ("_kind", pa.string()),
        ("_committed_at", pa.string()),
        ("_ended", pa.int64()),
        *arrow_schema("sessions"),
    ]
)
"""A row per commit: its number (the log position; negative where a rebuild made it), what it did, the log position
of the commit that replaced or removed its session (NULL if none did), and its row of ``sessions``."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One session of the catalog.

    Attributes
    ----------
    session : mapping
        Its row of the table ``sessions``.
    position : int
        The log position at which it came in.
    """

    session: Mapping[str, Any]
    position: int

    @property
    def path(self) -> str:
        """The session's Zarr group, relative to the store."""
        return str(self.session["path"])

    @property
    def content_hash(self) -> str:
        return str(self.session["content_hash"])


class State:
    """The catalog at one position, nothing of it read before it is asked for.

    Attributes
    ----------
    position : int
    checkpoint : Checkpoint
    tail : tuple of Commit
        Those after the checkpoint, up to `position`; empty where `position` is older than the checkpoint.
    live_tail : mapping of session_id to int
        Sessions that the tail put in and that are there at `position`, and their commits.
    ended : mapping of int to int
        Commits that commits of the tail ended, and by which.

    Raises
    ------
    CatalogError
        If a commit adds a session that is there, or replaces or removes one that is not.
    """

    def __init__(self, files: Files, checkpoint: Checkpoint, position: int, tail: tuple[Commit, ...]) -> None:
        self.files, self.checkpoint, self.position, self.tail = files, checkpoint, position, tail
        self.ended: dict[int, int] = {}
        live = self.checkpointed({commit.session_id for commit in tail}) if tail else {}
        for at, commit in enumerate(tail, start=checkpoint.position + 1):
            if commit.kind == "rebuild":
                continue
            if (commit.kind == "add") == (commit.session_id in live):
                raise CatalogError(
                    f"{file_name(at)}: cannot {commit.kind} session {commit.session_id} at this point",
                    "restore the log from a copy, or run 'nhdata catalog rebuild'",
                )
            if commit.session_id in live:
                self.ended[live.pop(commit.session_id)] = at
            if commit.kind != "remove":
                live[commit.session_id] = at
        self.live_tail = {session_id: at for session_id, at in live.items() if at > checkpoint.position}

    @property
    def key(self) -> tuple[str, ...]:
        """The same for two states of the same content and files; another for a store made again at the same path."""
        history = self.checkpoint.history.path if self.checkpoint.history else ""
        last = self.tail[-1] if self.tail else None
        commit = (last.session_id, last.committed_at) if last else ()
        return str(self.files.root), str(self.checkpoint.number), history, str(self.position), *commit

    @cached_property
    def last_change(self) -> tuple[str, str] | None:
        """Session and time of the last commit; another for a catalog made again at the same path.

        None where nothing was committed. Raises CatalogError if a file that it needs cannot be read.
        """
        for commit in reversed(self.tail):
            if commit.kind != "rebuild":
                return commit.session_id, commit.committed_at
        history = read_history(self.files, self.checkpoint, ["_commit", "session_id", "_committed_at"])
        before = history.filter(pc.less_equal(history["_commit"], scalar(self.position, pa.int64())))
        if not len(before):
            return None
        row = before.slice(pc.index(before["_commit"], pc.max(before["_commit"])).as_py(), 1).to_pylist()[0]
        return str(row["session_id"]), str(row["_committed_at"])

    def commit(self, position: int) -> Commit:
        """A commit of the tail."""
        return self.tail[position - self.checkpoint.position - 1]

    def fragments(self) -> list[Fragment]:
        """Every file that a query may read."""
        tail = [file for at in self.live_tail.values() for file in self.commit(at).fragments.values()]
        stored = self.checkpoint.fragments(superseded=self.position < self.checkpoint.position)
        return [*stored, *tail]

    def checkpointed(self, session_ids: Collection[str]) -> dict[str, int]:
        """Which of these sessions the checkpoint holds at `position`, and their commits."""
        index = self._index
        found = index.filter(pc.is_in(index["session_id"], column(session_ids, pa.string())))
        return dict(zip(found["session_id"].to_pylist(), found["_commit"].to_pylist(), strict=True))

    def holds(self, session_id: str) -> bool:
        """Whether the session is there."""
        if session_id in self.live_tail:
            return True
        commit = self.checkpointed([session_id]).get(session_id)
        return commit is not None and commit not in self.ended

    @cached_property
    def entries(self) -> Entries:
        """The sessions, by id."""
        return Entries(self)

    @cached_property
    def _index(self) -> pa.Table:
        return self.alive(["session_id"])

    def alive(self, columns: list[str]) -> pa.Table:
        """Columns of the checkpoint's rows of ``sessions`` at `position`, and ``_commit``; the tail is not applied."""
        history = read_history(self.files, self.checkpoint, ["_commit", "_kind", "_ended", *columns])
        position = scalar(self.position, pa.int64())
        came = pc.less_equal(history["_commit"], position)
        stays = pc.or_kleene(pc.is_null(history["_ended"]), pc.greater(history["_ended"], position))
        there = pc.and_(pc.and_(came, stays), pc.not_equal(history["_kind"], scalar("remove", pa.string())))
        return history.filter(there).select(["_commit", *columns])

    def session_rows(self) -> pa.Table:
        """Rows of ``sessions`` that the tail put in."""
        return session_table(self.commit(at) for at in self.live_tail.values())


class Entries(Mapping[str, Entry]):
    """Sessions by id, made one by one when they are asked for."""

    def __init__(self, state: State) -> None:
        self._state = state

    @cached_property
    def _rows(self) -> pa.Table:
        """Rows of the sessions and their commits."""
        try:
            return self._read(self._state)
        except MissingFile:
            newer = Reader(self._state.files).state(self._state.position)
            if newer.checkpoint.number == self._state.checkpoint.number:
                raise
            self._state = newer  # a vacuum has deleted the older checkpoint's files
            return self._read(newer)

    @staticmethod
    def _read(state: State) -> pa.Table:
        before = state.alive(arrow_schema("sessions").names)
        if state.ended:
            before = before.filter(pc.invert(pc.is_in(before["_commit"], column(state.ended, pa.int64()))))
        commits = column(state.live_tail.values(), pa.int64())
        return pa.concat_tables([before, state.session_rows().add_column(0, "_commit", commits)])

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {session_id: row for row, session_id in enumerate(self._rows["session_id"].to_pylist())}

    def __getitem__(self, session_id: str) -> Entry:
        (row,) = self._rows.slice(self._row_of[session_id], 1).to_pylist()
        return Entry(row, max(row.pop("_commit"), self._state.checkpoint.first))

    def __iter__(self) -> Iterator[str]:
        return iter(self._row_of)

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._row_of

    def __repr__(self) -> str:
        return f"<{len(self)} sessions>"


def session_table(commits: Iterable[Commit]) -> pa.Table:
    """The rows of ``sessions`` that commits brought; of a session removed, its id alone.

    Raises
    ------
    CatalogError
        If a value is not of its column's type.
    """
    rows = ({"session_id": commit.session_id, **commit.session} for commit in commits)
    try:
        return rows_table(rows, arrow_schema("sessions"))
    except pa.ArrowInvalid as error:
        raise CatalogError(
            f"a log entry's session does not fit the catalog ({str(error).splitlines()[0]})",
            "restore the log from a copy, or run 'nhdata catalog rebuild'",
        ) from None


def read_history(files: Files, checkpoint: Checkpoint, columns: list[str] | None = None) -> pa.Table:
    """Columns of a checkpoint's history; those that an older version did not know are NULL.

    Raises
    ------
    MissingFile
        If the file does not exist.
    CatalogError
        If it cannot be read.
    """
    schema = HISTORY_SCHEMA if columns is None else pa.schema([HISTORY_SCHEMA.field(name) for name in columns])
    if checkpoint.history is None:
        return empty_table(schema)
    path = checkpoint.history.path
    try:
        with pq.ParquetFile(files.local(path)) as file:
            found = file.read([name for name in schema.names if name in file.schema_arrow.names])
        columns_by_name = {
            field.name: found[field.name].cast(field.type) if field.name in found.column_names else pa.nulls(len(found))
            for field in schema
        }
        return pa.table(columns_by_name, schema=schema)
    except FileNotFoundError:
        problem = f"{files.locate(path)}: missing, though checkpoint {checkpoint.number} names it"
        raise MissingFile(problem, RESTORE) from None
    except (pa.ArrowException, OSError) as error:
        raise CatalogError(f"{files.locate(path)}: not readable ({str(error).splitlines()[0]})", RESTORE) from None


class Reader:
    """Opens states of one catalog; keeps the log files that it has read."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.log = Log(files)
        self._none = Checkpoint()

    def checkpoint(self) -> Checkpoint:
        """The newest checkpoint."""
        # It is read each time: one of the same number may be of a catalog that was deleted and made again.
        while newest := max(numbers(self.files), default=0):
            try:
                checkpoint = read_checkpoint(self.files, newest)
            except FileNotFoundError:
                if max(numbers(self.files), default=0) == newest:
                    raise CatalogError(f"{self.files.locate(checkpoint_name(newest))}: missing", RESTORE) from None
            else:
                return checkpoint
        return self._none

    def state(self, at: int | None = None) -> State:
        """The catalog as it is now, or as it was at a position.

        Raises
        ------
        CatalogError
            If the log is damaged or has no such position.
        """
        while True:
            checkpoint = self.checkpoint()
            try:
                tail = self.log.after(checkpoint.position)
                return self._pin(checkpoint, tail, at)
            except (FileNotFoundError, MissingCommit, MissingFile) as error:
                # A checkpoint made meanwhile may have taken the place of what is gone.
                if self.checkpoint() != checkpoint:
                    continue
                if isinstance(error, CatalogError):
                    raise
                raise CatalogError(
                    f"{error.filename}: missing, though checkpoint {checkpoint.number} names it",
                    RESTORE,
                ) from None

    def append(self, decide: Callable[[], tuple[int, Commit]]) -> int:
        """Commit what `decide` makes of the present; again if another writer comes first.

        Parameters
        ----------
        decide : callable
            Returns the position that it has seen last, and the commit to put after it.

        Returns
        -------
        int
            The new position.
        """
        while True:
            seen, commit = decide()
            name = file_name(seen + 1)
            try:
                self.files.create(name, commit.to_json())
            except FileExistsError:
                continue
            if self._stands(seen + 1, commit):
                return seen + 1
            self.files.delete(name)

    def fence(self) -> int:
        """Add a log entry that changes nothing, and return its position.

        A writer that decided on an earlier state and was paused since finds the next position taken, and decides again.
        """
        return self.append(lambda: (self.state().position, Commit("rebuild", "")))

    def _stands(self, position: int, commit: Commit) -> bool:
        """Whether a log entry just created is part of the log.

        It is not if the writer was paused before creating it while others committed, made a checkpoint past that
        position, and deleted the log file that had its name.
        """
        checkpoint = self.checkpoint()
        if checkpoint.position < position:
            return True
        if commit.kind == "rebuild":
            return False
        try:
            history = read_history(self.files, checkpoint, ["_commit", "_committed_at"])
        except MissingFile:
            if self.checkpoint().number == checkpoint.number:
                raise
            return self._stands(position, commit)
        same = pc.and_(
            pc.equal(history["_commit"], scalar(position, pa.int64())),
            pc.equal(history["_committed_at"], scalar(commit.committed_at, pa.string())),
        )
        return bool(pc.any(same).as_py())

    def _pin(self, checkpoint: Checkpoint, tail: tuple[Commit, ...], at: int | None) -> State:
        head = checkpoint.position + len(tail)
        position = head if at is None else at
        if not 0 <= position <= head:
            raise CatalogError(f"{self.files.root} has no log position {at}", f"choose one from 0 to {head}")
        if position < checkpoint.first:
            raise CatalogError(
                f"{self.files.root}: position {at} is older than the last rebuild, which forgot what was before",
                f"choose one from {checkpoint.first} to {head}",
            )
        return State(self.files, checkpoint, position, tail[: max(0, position - checkpoint.position)])


def not_there(session_id: str) -> UserError:
    """The error for a session that the catalog does not hold."""
    return UserError(f"session {session_id} is not in the catalog", "'nhdata ls' lists its sessions")
