"""Sweep the files that checkpoints have taken the place of, and those that dead writers left."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from nhcatalog import checkpoint as checkpoints
from nhcatalog.checkpoint import Checkpoint, numbers, read_checkpoint
from nhcatalog.files import Files, Stat
from nhcatalog.log import CatalogError, Commit, Log, MissingCommit, file_name
from nhcatalog.state import Reader

GRACE_S = 3600.0

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Elapsed:
    """Time since the object was made, with the time in which the process or the machine was suspended."""

    def __init__(self) -> None:
        self._start = self._clocks()

    @property
    def seconds(self) -> float:
        """By the clock that went further: one stops while a virtual machine is moved, the other may be set back."""
        return max(now - start for now, start in zip(self._clocks(), self._start, strict=True))

    @staticmethod
    def _clocks() -> tuple[float, float]:
        return time.time(), time.clock_gettime(_BOOT_CLOCK)


def needed_checkpoints(found: Sequence[Checkpoint], now: datetime, grace_s: float) -> list[Checkpoint]:
    """The newest, and those whose successor is younger than the grace: a reader may have them open. No I/O.

    None from before a rebuild, which forgot them.
    """
    oldest = now - timedelta(seconds=grace_s)
    line = list(found) if found and found[0].number > 1 else [Checkpoint(), *found]
    return [
        one
        for one, after in zip(line, [*line[1:], None], strict=True)
        if (after is None or datetime.fromisoformat(after.created_at) > oldest) and one.position >= line[-1].first
    ]


def plan_vacuum(
    needed: Sequence[Checkpoint], after: Iterable[Commit], found: Mapping[str, Stat], now: datetime, grace_s: float
) -> list[str]:
    """Which Parquet files, and files that a writer did not finish, nobody needs. No I/O.

    Needed are those that a needed checkpoint or the log after it names. What nothing names is kept while it is younger
    than the grace: a writer may be about to name it. Unnamed files of ``tables/`` are kept until a checkpoint is made
    after them: their writer can then no longer make that checkpoint.

    Parameters
    ----------
    needed : sequence of Checkpoint
        Oldest first.
    after : iterable of Commit
        Those after the first of `needed`.
    found : mapping of str to Stat
        Every file there is.
    """
    keep = {file.path for one in needed for file in one.fragments()}
    keep |= {file.path for commit in after for file in commit.fragments.values()}
    oldest_s = now.timestamp() - grace_s
    # cut to seconds, as S3 does with the times of objects
    newest_s = int(datetime.fromisoformat(needed[-1].created_at).timestamp()) if needed[-1].number else 0
    return sorted(
        name
        for name, stat in found.items()
        if (name.endswith(".tmp") or name.startswith(("fragments/", "tables/")))
        and name not in keep
        and stat.modified_s <= oldest_s
        and (not name.startswith("tables/") or stat.modified_s < newest_s)
    )


def vacuum(files: Files, grace_s: float = GRACE_S, *, dry_run: bool = False) -> list[str]:
    """Delete what nobody needs; returns the names.

    No position is lost by it: the newest checkpoint holds them all.

    Parameters
    ----------
    files : Files
    grace_s : float
        How long a reader may go on with files that a checkpoint has taken the place of, and a writer may take from
        its first file to its commit. With 0, nobody may be writing.
    dry_run : bool
        Delete nothing.

    Raises
    ------
    CatalogError
        If the catalog is damaged: nothing is swept then.
    """
    names, unnamed = _retried(files, grace_s)
    if dry_run:
        return names
    if unnamed:
        # Their writer may be paused just before its commit: it fails after the fence.
        Reader(files).fence()
        again, _ = _retried(files, grace_s)
        names = [name for name in names if name in set(again)]
    for name in names:
        files.delete(name)
    return names


def _retried(files: Files, grace_s: float) -> tuple[list[str], list[str]]:
    """As `_sweepable`; again if another process makes a checkpoint and vacuums meanwhile."""
    while True:
        newest = max(numbers(files), default=0)
        try:
            return _sweepable(files, grace_s)
        except (FileNotFoundError, MissingCommit):
            if max(numbers(files), default=0) == newest:
                raise


def _sweepable(files: Files, grace_s: float) -> tuple[list[str], list[str]]:
    """Names of files that may go, in the order in which to delete them; and the fragments that no commit named."""
    now = datetime.now(UTC)
    there = files.walk()  # before the log, which may name more meanwhile
    known = numbers(files)
    found = [one for number in known if (one := _readable(files, number, known[-1])) is not None]
    needed = needed_checkpoints(found, now, grace_s)
    for file in needed[-1].fragments():
        if file.path not in there or there[file.path].n_bytes != file.n_bytes:
            raise CatalogError(f"{files.locate(file.path)}: missing or cut short", "run 'nhdata catalog verify'")
    covered = needed[0].position
    log = Log(files)
    after = log.after(covered)
    unnamed = plan_vacuum(needed, after, there, now, grace_s)
    positions = log.positions()
    # The last file stays, so that a log whose checkpoint is lost does not look like an empty one.
    return [
        *unnamed,
        *(file_name(at) for at in positions if at < covered),
        *(checkpoints.file_name(number) for number in known if number < needed[0].number),
    ], _never_named(log, [at for at in positions if at <= covered], unnamed)


def _never_named(log: Log, positions: Iterable[int], names: Iterable[str]) -> list[str]:
    """The fragments among `names` that none of these commits names."""
    fragments = {name for name in names if name.startswith("fragments/")}
    for position in positions if fragments else ():
        with suppress(CatalogError):
            fragments -= {file.path for file in log.read(position).fragments.values()}
    return sorted(fragments)


def _readable(files: Files, number: int, newest: int) -> Checkpoint | None:
    """The checkpoint; None for one that is damaged but has a successor."""
    try:
        return read_checkpoint(files, number)
    except CatalogError:
        if number == newest:
            raise
        return None
