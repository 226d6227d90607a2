"""Sweep the files that checkpoints have taken the place of, and those that dead writers left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from nhcatalog import checkpoint as checkpoints
from nhcatalog.checkpoint import Checkpoint, numbers, read_checkpoint
from nhcatalog.files import Files, Stat
from nhcatalog.log import CatalogError, Commit, Log, MissingCommit, file_name

GRACE_S = 3600.0


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
    than the grace: a writer may be about to name it.

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
    return sorted(
        name
        for name, stat in found.items()
        if (name.endswith(".tmp") or name.startswith(("fragments/", "tables/")))
        and name not in keep
        and stat.modified_s <= oldest_s
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
    while True:
        newest = max(numbers(files), default=0)
        try:
            names = _sweepable(files, grace_s)
        except (FileNotFoundError, MissingCommit):
            if max(numbers(files), default=0) == newest:
                raise
            continue  # another process made a checkpoint and swept
        if not dry_run:
            for name in names:
                files.delete(name)
        return names


def _sweepable(files: Files, grace_s: float) -> list[str]:
    """Names of files that may go, in the order in which to delete them."""
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
    return [
        *plan_vacuum(needed, after, there, now, grace_s),
        *(file_name(at) for at in log.positions() if at <= covered),
        *(checkpoints.file_name(number) for number in known if number < needed[0].number),
    ]


def _readable(files: Files, number: int, newest: int) -> Checkpoint | None:
    """The checkpoint; None for one that is damaged but has a successor."""
    try:
        return read_checkpoint(files, number)
    except CatalogError:
        if number == newest:
            raise
        return None
