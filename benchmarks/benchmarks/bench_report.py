"""All that a session's page shows, beside the same counts as NumPy makes them, and the size of the page."""

from pathlib import Path

import numpy as np

import nhdata
from nhdata.report.page import to_html
from nhdata.report.pages import session_page
from nhdata.report.session_panels import ISI_EDGES_S, N_COLUMNS, session_panels

from .data import N_UNITS, add, recording


class Report:
    """One session of ``NH_BENCH_SPIKES`` spikes."""

    timeout = 600

    def setup_cache(self) -> str:
        root = Path("report.zarr").absolute()
        add(root, recording())
        return str(root)

    setup_cache.timeout = 600  # type: ignore[attr-defined]

    def setup(self, root: str) -> None:
        self.store = nhdata.open(root)
        (self.session_id,) = self.store.session_ids
        self.session = self.store.session(self.session_id)
        session_panels(self.session)

    def time_ours(self, root: str) -> None:
        session_panels(self.session)

    def time_numpy(self, root: str) -> None:
        """Only the rates over time and the interval histograms of all units."""
        times_s, unit = self.session.spikes()
        edges_s = np.linspace(self.session.t_start_s, self.session.t_stop_s, N_COLUMNS + 1)
        np.histogram2d(unit, times_s, bins=(np.arange(N_UNITS + 1), edges_s))
        order = np.argsort(unit, kind="stable")
        for train_s in np.split(times_s[order], np.cumsum(np.bincount(unit, minlength=N_UNITS))[:-1]):
            np.histogram(np.diff(train_s), ISI_EDGES_S)

    def track_ours_page(self, root: str) -> int:
        return len(to_html(session_page(self.store.session(self.session_id))))

    track_ours_page.unit = "bytes"  # type: ignore[attr-defined]

    def peakmem_ours(self, root: str) -> None:
        session_panels(self.session)
