"""What a store's report counts, against the sessions themselves."""

import numpy as np

import nhdata
from nhdata.report.store_panels import store_panels
from nhdata.store.store import Store

NOTHING = "select * from provenance where false"


def test_counts(report_store, evil) -> None:
    p = store_panels(report_store)
    assert p.totals["n_sessions"] == 3
    assert p.totals["n_units"] == 26
    assert p.totals["hours"] == sum((120, 20, 10)) / 3600
    assert [row["source"] for row in p.sources] == ["lab", "synthetic"]
    assert sum(row["n_units"] for row in p.regions) == 26
    assert {row["region"] for row in p.regions} >= {"CA1", evil, "unknown"}
    assert sum(row["n_units"] for row in p.quality) == 26
    assert p.dropped == [("lab", evil, 2)]
    assert p.rules["lab"] == [evil, "all"]


def test_rates_are_counted_in_bins(report_store) -> None:
    p = store_panels(report_store)
    rate_hz = np.array(report_store.sql("select rate_hz from units where source = 'synthetic'")["rate_hz"])
    np.testing.assert_array_equal(p.rates["synthetic"], np.histogram(rate_hz, p.rate_edges_hz)[0])
    assert p.n_silent == 3
    assert sum(n.sum() for n in p.rates.values()) == 23


def test_a_catalog_without_provenance_asks_the_sessions(report_root, evil, monkeypatch) -> None:
    """As of a store that version 0.1 wrote."""
    told = store_panels(nhdata.open(report_root))
    sql = Store.sql
    monkeypatch.setattr(
        Store, "sql", lambda self, query, *rest: sql(self, query.replace("from provenance", f"from ({NOTHING})"), *rest)
    )
    asked = store_panels(nhdata.open(report_root))
    assert asked.dropped == told.dropped == [("lab", evil, 2)]
    assert {k: sorted(v) for k, v in asked.rules.items()} == told.rules
    assert asked.n_told == told.n_told == 3
