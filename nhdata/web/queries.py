"""SQL behind the pages, from what a person typed. Pure text; the child process runs it, guarded."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nhcatalog.guard import as_subquery

PAGE_ROWS = 50
COLUMNS = {
    "sessions": (
        "session_id", "source", "subject", "lab", "date", "duration_s", "n_units", "n_spikes", "n_trials",
    ),
    "units": (
        "unit_id", "session_id", "source", "probe", "region", "depth_um", "quality", "good", "n_spikes", "rate_hz",
    ),
}  # fmt: skip
KEY = {"sessions": "session_id", "units": "unit_id"}


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of rows, as its address says.

    Attributes
    ----------
    table : {"sessions", "units"}
    where : str
        A condition on the table's columns, a whole SELECT of its ids, or nothing.
    sort : str
        A column of the table, else its id.
    descending : bool
    page : int
        Counted from 0.
    """

    table: str
    where: str = ""
    sort: str = ""
    descending: bool = False
    page: int = 0

    @property
    def condition(self) -> str:
        """The ``WHERE`` clause."""
        text = as_subquery(self.where.strip())
        if text == "(\n)":
            return ""
        if re.match(r"\((select|with|from)\b", text, re.IGNORECASE):
            return f"where {KEY[self.table]} in {text}"
        return f"where {text}"

    @property
    def rows(self) -> str:
        """SELECT of one page; every row says how many there are in all."""
        return (
            f"select {', '.join(COLUMNS[self.table])}, count(*) over () as n_total from {self.table} "
            f"{self.condition} order by {self._order} limit {PAGE_ROWS} offset {self.page * PAGE_ROWS}"
        )

    @property
    def csv(self) -> str:
        """SELECT of all rows, with every column."""
        return f"select * from {self.table} {self.condition} order by {self._order}"

    @property
    def ids(self) -> str:
        """SELECT of the ids: what a selection is."""
        return f"select {KEY[self.table]} from {self.table} {self.condition}".strip()

    @property
    def _order(self) -> str:
        key = KEY[self.table]
        if self.sort not in COLUMNS[self.table] or self.sort == key:
            return f"{key}{' desc' if self.descending and self.sort == key else ''}"
        return f"{self.sort}{' desc' if self.descending else ''} nulls last, {key}"
