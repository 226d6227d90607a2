"""What a store's report shows, as plain values. Asks the catalog, draws nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.store.store import Store

N_REGIONS = 30
N_SESSIONS = 500
N_OPENED = 2000
RATE_BINS_PER_DECADE = 5
RATE_DECADES = (-3, 3)


@dataclass(frozen=True, slots=True)
class StorePanels:
    """All that a store's report shows.

    Attributes
    ----------
    name : str
    totals : dict
        ``n_sessions``, ``n_units``, ``n_spikes``, ``hours``, ``n_subjects``.
    sources : list of dict
        One row per source: sessions, subjects, units, hours.
    sessions : list of dict
        The first `N_SESSIONS` sessions by source and id.
    regions : list of dict
        ``region``, ``n_units``, ``n_sessions``, ``rate_hz`` (median) of the `N_REGIONS` largest regions.
    n_regions : int
        Number of all regions.
    quality : list of dict
        ``source``, ``quality``, ``good``, ``n_units``.
    rate_edges_hz : (K + 1,) float64
    rates : dict of source to (K,) int64
        Units by mean rate; those outside the edges are in the first and the last bin.
    n_silent : int
        Units without a spike, which have no place on a logarithmic axis.
    dropped : list of (source, reason, number of units)
        Units left out at ingest, from the provenance of `n_told` sessions.
    rules : dict of source to rules for a good unit
    n_told : int
    """

    name: str
    totals: dict[str, Any]
    sources: list[dict[str, Any]]
    sessions: list[dict[str, Any]]
    regions: list[dict[str, Any]]
    n_regions: int
    quality: list[dict[str, Any]]
    rate_edges_hz: NDArray[np.float64]
    rates: dict[str, NDArray[np.int64]]
    n_silent: int
    dropped: list[tuple[str, str, int]]
    rules: dict[str, list[str]]
    n_told: int


def store_panels(store: Store) -> StorePanels:
    """Ask the catalog for all that a page shows; it counts, so the size of the store hardly matters."""

    def rows(query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = store.sql(query).to_pylist()
        return found

    (totals,) = rows(
        "select count(*) as n_sessions, coalesce(sum(n_units), 0) as n_units, "
        "coalesce(sum(n_spikes), 0) as n_spikes, coalesce(sum(duration_s), 0) / 3600 as hours, "
        "count(distinct subject) as n_subjects from sessions"
    )
    (silent,) = rows("select count(*) as n from units where not rate_hz > 0")
    dropped, rules, n_told = _provenance(store)
    edges, rates = _rates(rows)
    return StorePanels(
        name=str(store.path),
        totals=totals,
        sources=rows(
            "select source, count(*) as n_sessions, count(distinct subject) as n_subjects, "
            "sum(n_units) as n_units, sum(n_spikes) as n_spikes, sum(duration_s) / 3600 as hours "
            "from sessions group by source order by source"
        ),
        sessions=rows(
            "select session_id, source, subject, date, duration_s, n_units, n_spikes, n_trials, "
            "n_spikes / nullif(n_units * duration_s, 0) as rate_hz "
            f"from sessions order by source, session_id limit {N_SESSIONS}"
        ),
        regions=rows(
            "select coalesce(region, 'unknown') as region, count(*) as n_units, "
            "count(distinct session_id) as n_sessions, median(rate_hz) as rate_hz "
            f"from units group by 1 order by n_units desc, region limit {N_REGIONS}"
        ),
        n_regions=rows("select count(distinct coalesce(region, 'unknown')) as n from units")[0]["n"],
        quality=rows(
            "select source, coalesce(quality, 'unrated') as quality, good, count(*) as n_units "
            "from units group by all order by source, n_units desc, quality limit 200"
        ),
        rate_edges_hz=edges,
        rates=rates,
        n_silent=silent["n"],
        dropped=dropped,
        rules=rules,
        n_told=n_told,
    )


def _rates(rows: Any) -> tuple[NDArray[np.float64], dict[str, NDArray[np.int64]]]:
    n_bins = (RATE_DECADES[1] - RATE_DECADES[0]) * RATE_BINS_PER_DECADE
    edges = np.logspace(*RATE_DECADES, n_bins + 1)
    rates: dict[str, NDArray[np.int64]] = {}
    place = f"floor((log10(rate_hz) - ({RATE_DECADES[0]})) * {RATE_BINS_PER_DECADE} + 1e-9)"
    for row in rows(
        f"select source, least(greatest({place}, 0), {n_bins - 1})::int as bin, count(*) as n "
        "from units where rate_hz > 0 group by all order by all"
    ):
        rates.setdefault(row["source"], np.zeros(n_bins, np.int64))[row["bin"]] += row["n"]
    return edges, rates


def _provenance(store: Store) -> tuple[list[tuple[str, str, int]], dict[str, list[str]], int]:
    """Units left out by reason, the rules, and of how many sessions.

    The catalog tells; sessions that it has no provenance of, as a store of version 0.1 has, are opened one by one.
    """
    dropped: Counter[tuple[str, str]] = Counter()
    rules: dict[str, list[str]] = {}
    facts = store.sql(
        "select source, kind, name, value, sum(n) as n from provenance where kind = 'dropped' group by all "
        "union all select distinct source, kind, null, value, null from provenance where kind = 'rule' order by all"
    ).to_pylist()
    for fact in facts:
        if fact["kind"] == "dropped":
            dropped[fact["source"], fact["name"]] += fact["n"]
        else:
            rules.setdefault(fact["source"], []).append(fact["value"])
    untold = store.sql(
        "select session_id from sessions where session_id not in (select session_id from provenance) order by 1"
    )["session_id"].to_pylist()
    n_told = len(store.session_ids) - len(untold)
    for session_id in untold[:N_OPENED]:
        try:
            session = store.session(session_id)
        except UserError:  # 'nhdata validate' tells; the others can still be shown
            continue
        n_told += 1
        provenance = session.attrs["provenance"]
        for reason, n in provenance["dropped"].items():
            dropped[session.source, reason] += n
        known = rules.setdefault(session.source, [])
        if provenance["rule"] not in known:
            known.append(provenance["rule"])
    ranked = sorted(dropped.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    return [(source, reason, n) for (source, reason), n in ranked], rules, n_told
