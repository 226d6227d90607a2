"""Find the units of a region across sessions: SQL over the catalog beside a scan of the sessions' own Zarr groups."""

from pathlib import Path

import nhdata
from nhdata.store.session import Session

from .data import N_SPIKES, add, recording

N_SESSIONS = max(2, N_SPIKES // 50_000)
UNITS, SPIKES = 50, 5000
QUERY = "select unit_id from units where region = 'CA1' and quality = 'good' and rate_hz > 50 order by unit_id"


class SelectUnits:
    """One selection out of all units: 50 in each of one session per 50,000 ``NH_BENCH_SPIKES``."""

    timeout = 600

    def setup_cache(self) -> str:
        root = Path("sql.zarr").absolute()
        for seed in range(N_SESSIONS):
            add(root, recording(SPIKES, UNITS, seed))
        return str(root)

    setup_cache.timeout = 600  # type: ignore[attr-defined]

    def setup(self, root: str) -> None:
        self.store = nhdata.open(root)
        self.time_ours(root)
        Session(next(Path(root, "sessions", "bench").glob("*-*"))).units()

    def time_ours(self, root: str) -> list[str]:
        """In a store that is open."""
        return self.store.sql(QUERY).column("unit_id").to_pylist()

    def time_ours_with_opening(self, root: str) -> list[str]:
        return nhdata.open(root).sql(QUERY).column("unit_id").to_pylist()

    def time_scan_of_groups(self, root: str) -> list[str]:
        """Without a catalog: open every group and look at its columns."""
        found = []
        for path in Path(root, "sessions", "bench").glob("*-*"):
            session = Session(path)
            units = session.units()
            chosen = (units["region"] == "CA1") & (units["quality"] == "good")
            chosen &= units["n_spikes"] / session.duration_s > 50
            found += [f"{session.session_id}/probe00/{k}" for k in units["cluster_id"][chosen]]
        return sorted(found)
