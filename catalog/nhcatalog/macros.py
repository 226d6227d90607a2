"""What a query may call besides DuckDB's own functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REGIONS = Path(__file__).parent / "regions.csv"
"""Acronyms of the Allen CCF 2017 and their regions in IBL's Beryl and Cosmos parcellations, from `iblatlas`."""


@dataclass(frozen=True, slots=True)
class Macro:
    """A function of SQL: how it is called, what it gives, its definition, and an example."""

    call: str
    meaning: str
    definition: str
    example: str

    @property
    def is_table(self) -> bool:
        """Whether it stands where a table stands."""
        return self.definition.startswith("TABLE ")


MACROS = {
    "beryl": Macro(
        "beryl(region)",
        "The region in IBL's Beryl parcellation that an Allen acronym belongs to; NULL where it is none",
        "(SELECT r.beryl FROM internal.regions r WHERE r.acronym = region)",
        "SELECT beryl(region) AS beryl, count(*) AS n_units\nFROM units GROUP BY ALL",
    ),
    "cosmos": Macro(
        "cosmos(region)",
        "The same in Cosmos: Isocortex, HPF, TH, …",
        "(SELECT r.cosmos FROM internal.regions r WHERE r.acronym = region)",
        "SELECT unit_id\nFROM units WHERE cosmos(region) = 'HPF' AND good",
    ),
    "good_units": Macro(
        "good_units()",
        "The units that are good by their source's own rule, with subject, lab, date, duration_s and n_trials of the "
        "session",
        "TABLE SELECT u.*, s.subject, s.lab, s.date, s.duration_s, s.n_trials "
        "FROM units u JOIN sessions s USING (session_id) WHERE u.good",
        "SELECT unit_id\nFROM good_units() WHERE region = 'CA1' AND rate_hz > 1 AND n_trials >= 0",
    ),
    "session_summary": Macro(
        "session_summary()",
        "A row per session: who, when, how long, n_units, n_good, the regions with their numbers of good units, "
        "median_rate_hz, n_trials",
        "TABLE SELECT s.session_id, s.source, s.subject, s.lab, s.date, round(s.duration_s / 60, 1) AS duration_min, "
        "s.n_units, coalesce(u.n_good, 0) AS n_good, u.regions, u.median_rate_hz, s.n_trials "
        "FROM sessions s LEFT JOIN (SELECT session_id, sum(n) AS n_good, "
        "string_agg(region || ' ' || n, ', ' ORDER BY n DESC, region) AS regions, "
        "median(rate) AS median_rate_hz FROM (SELECT session_id, region, count(*) AS n, median(rate_hz) AS rate "
        "FROM units WHERE good GROUP BY ALL) GROUP BY session_id) u USING (session_id)",
        "SELECT *\nFROM session_summary() ORDER BY n_good DESC",
    ),
}


def create_statements() -> list[str]:
    """The SQL that makes them, after the tables ``units`` and ``sessions``."""
    columns = "{'acronym': 'VARCHAR', 'beryl': 'VARCHAR', 'cosmos': 'VARCHAR'}"
    path = str(REGIONS).replace("'", "''")
    view = f"CREATE VIEW internal.regions AS FROM read_csv('{path}', header = true, columns = {columns})"
    return [view, *(f"CREATE MACRO {macro.call} AS {macro.definition}" for macro in MACROS.values())]
