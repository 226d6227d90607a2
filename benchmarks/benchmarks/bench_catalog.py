"""Questions to a catalog of thousands of sessions, beside pandas over one Parquet and a glob of one per session.

``NH_BENCH_SESSIONS`` sessions of ``NH_BENCH_UNITS`` units each, by default 200 of 200; 10,000 of 200 are 2 M units,
10,000 of 5,000 are 50 M. The scan of the sessions' own Zarr groups is in `bench_sql`.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from nhcatalog.catalog import Catalog
from nhcatalog.schema import conform

from .data import N_SPIKES, REGIONS

N_SESSIONS = int(os.environ.get("NH_BENCH_SESSIONS", "200" if N_SPIKES > 100_000 else "20"))
N_UNITS = int(os.environ.get("NH_BENCH_UNITS", "200" if N_SPIKES > 100_000 else "10"))
CHOSEN = "region = 'CA1' AND quality = 'good' AND rate_hz > 1"
N_GLOB = 2000
"""A glob of more files than this is left out: it takes seconds."""


def session_rows(seed: int) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """A session under a random id, and its units: as a lab's recordings come, in no order."""
    rng = np.random.default_rng(seed)
    session_id = str(uuid.UUID(bytes=rng.bytes(16)))
    units = pa.table(
        {
            "unit_id": [f"{session_id}/probe00/{k}" for k in range(N_UNITS)],
            "session_id": pa.repeat(session_id, N_UNITS),
            "source": pa.repeat("bench", N_UNITS),
            "unit_index": np.arange(N_UNITS),
            "region": np.array(REGIONS)[rng.integers(0, len(REGIONS), N_UNITS)],
            "quality": np.where(rng.random(N_UNITS) < 0.5, "good", "mua"),
            "good": rng.random(N_UNITS) < 0.5,
            "depth_um": rng.uniform(0, 3840, N_UNITS),
            "n_spikes": rng.integers(100, 100_000, N_UNITS),
            "rate_hz": rng.lognormal(0, 1, N_UNITS),
        }
    )
    row = {
        "session_id": session_id,
        "source": "bench",
        "subject": f"mouse-{seed % 50}",
        "n_units": N_UNITS,
        "path": f"sessions/bench/{session_id}",
        "content_hash": "none",
    }
    return row, {"units": conform("units", units)}


class _Built:
    """A catalog in one checkpoint, the same units as one Parquet, and as one file per session."""

    timeout = 3600

    def setup_cache(self) -> str:
        root = Path("bench-catalog").absolute()
        (root / "glob").mkdir(parents=True)

        def sessions() -> Iterator[tuple[dict[str, Any], dict[str, pa.Table]]]:
            for seed in range(N_SESSIONS):
                row, tables = session_rows(seed)
                if N_SESSIONS <= N_GLOB:
                    pq.write_table(tables["units"], root / "glob" / f"{seed}.parquet")
                yield row, tables

        Catalog(root / "catalog").rebuild(sessions())
        files = [str(file) for file in sorted((root / "catalog" / "tables").glob("*-units.parquet"))]
        with duckdb.connect() as connection:
            connection.execute(f"COPY (FROM read_parquet({files})) TO '{root / 'one.parquet'}' (FORMAT parquet)")
        return str(root)

    setup_cache.timeout = 3600  # type: ignore[attr-defined]


class CountUnits(_Built):
    """How many units of a region are good and above 1 Hz."""

    def setup(self, root: str) -> None:
        self.snapshot = Catalog(f"{root}/catalog").snapshot()
        self.time_ours(root)

    def time_ours(self, root: str) -> int:
        """Warm, as the second question of a process is."""
        return int(self.snapshot.sql(f"SELECT count(*) AS n FROM units WHERE {CHOSEN}")["n"][0].as_py())

    def time_pandas_over_one_parquet(self, root: str) -> int:
        units = pd.read_parquet(f"{root}/one.parquet", columns=["region", "quality", "rate_hz"])
        return int(((units.region == "CA1") & (units.quality == "good") & (units.rate_hz > 1)).sum())

    def time_glob_of_sessions(self, root: str) -> int:
        if N_SESSIONS > N_GLOB:
            raise NotImplementedError
        with duckdb.connect() as connection:
            query = f"SELECT count(*) FROM read_parquet('{root}/glob/*.parquet') WHERE {CHOSEN}"
            return int(connection.execute(query).fetchall()[0][0])

    def peakmem_ours(self, root: str) -> None:
        self.time_ours(root)

    def peakmem_pandas_over_one_parquet(self, root: str) -> None:
        self.time_pandas_over_one_parquet(root)


class OneSession(_Built):
    """The units of one session."""

    def setup(self, root: str) -> None:
        self.snapshot = Catalog(f"{root}/catalog").snapshot()
        self.session_id = self.snapshot.sql("SELECT min(session_id) AS id FROM sessions")["id"][0].as_py()
        self.time_ours(root)

    def time_ours(self, root: str) -> int:
        query = "SELECT unit_id FROM units WHERE session_id = ?"
        return int(self.snapshot.sql(query, [self.session_id]).num_rows)

    def time_pandas_over_one_parquet(self, root: str) -> int:
        units = pd.read_parquet(f"{root}/one.parquet", columns=["unit_id", "session_id"])
        return int((units.session_id == self.session_id).sum())


class _Tail:
    """Opening and asking, so many commits after the last checkpoint."""

    n_commits = 0

    def setup(self) -> None:
        self.root = Path(f"bench-tail-{self.n_commits}").absolute()
        catalog = Catalog(self.root)
        if not catalog.snapshot().position:
            catalog.rebuild(session_rows(seed) for seed in range(N_SESSIONS))
            for seed in range(self.n_commits):
                row, tables = session_rows(N_SESSIONS + seed)
                path, content_hash = row.pop("path"), row.pop("content_hash")
                catalog.add(row, tables, path, content_hash)
        self.snapshot = catalog.snapshot()
        self.time_ours_ask()

    def time_ours_open(self) -> None:
        Catalog(self.root).snapshot()

    def time_ours_ask(self) -> None:
        self.snapshot.sql(f"SELECT count(*) FROM units WHERE {CHOSEN}")


class JustAfterACheckpoint(_Tail):
    """The fewest small files that a reader meets."""


class JustBeforeACheckpoint(_Tail):
    """The most small files that a reader usually meets."""

    n_commits = 30


class Commit:
    """One session more, the checkpoint that every 32nd makes included."""

    number = 1
    repeat = 64
    warmup_time = 0.0

    def setup(self) -> None:
        self.root = Path("bench-commit").absolute()
        self.seed = Catalog(self.root).snapshot().position
        row, self.tables = session_rows(self.seed)
        self.path, self.content_hash = row.pop("path"), row.pop("content_hash")
        self.row = row

    def time_ours(self) -> None:
        Catalog(self.root).add(self.row, self.tables, self.path, self.content_hash)
