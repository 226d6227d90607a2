"""What the processes of ``test_catalog_storm`` do; a module of its own, because they import it by name."""

from multiprocessing.synchronize import Event
from pathlib import Path

import pyarrow as pa

import nhcatalog.catalog
from nhcatalog.catalog import Catalog, SessionExists


def write(path: Path, name: str, n: int, told: Path, every: int) -> None:
    """Add ``<name>-0`` … as far as they are not there; note each that is committed in a file."""
    nhcatalog.catalog.COMPACT_EVERY = every
    catalog = Catalog(path)
    with open(told, "a") as notes:
        for k in range(n):
            session_id = f"{name}-{k:03d}"
            units = pa.table({"unit_id": [f"{session_id}/{j}" for j in range(3)], "session_id": [session_id] * 3})
            try:
                catalog.add({"session_id": session_id, "n_units": 3}, {"units": units}, f"sessions/{session_id}", "h")
            except SessionExists:
                continue
            notes.write(f"{session_id}\n")
            notes.flush()


def read(path: Path, stop: Event, told: Path) -> None:
    """Ask again and again; what is seen must be whole, and never less than before."""
    seen, rounds = 0, 0
    try:
        while not stop.is_set() or not rounds:
            snapshot = Catalog(path).snapshot()
            query = "SELECT count(*) AS n, count(DISTINCT unit_id) AS distinct_n FROM units"
            (found,) = snapshot.sql(query).to_pylist()
            (sessions,) = snapshot.sql("SELECT count(*) AS n, sum(n_units) AS units FROM sessions").to_pylist()
            assert found["n"] == found["distinct_n"] == (sessions["units"] or 0) == 3 * sessions["n"], (found, sessions)
            assert len(snapshot.entries) == sessions["n"] >= seen
            seen, rounds = sessions["n"], rounds + 1
        told.write_text(f"{rounds} rounds")
    except BaseException as error:
        told.write_text(f"failed: {error!r}")
        raise


def compact(path: Path, stop: Event, told: Path) -> None:
    """Make checkpoints, small and full, and sweep."""
    try:
        made = 0
        while not stop.is_set() or not made:
            made += Catalog(path).compact(full=made % 3 == 2) is not None
            Catalog(path).vacuum()
        told.write_text(f"{made} rounds")
    except BaseException as error:
        told.write_text(f"failed: {error!r}")
        raise
