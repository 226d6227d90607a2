"""Training runs as the app shows them. What a run is, only `nhmodel` knows: who starts the app brings its pages."""

from __future__ import annotations

from typing import Protocol

from nhdata.report.parts import Page


class RunPages(Protocol):
    """The runs of a folder."""

    def overview(self) -> Page:
        """All runs; tables name a run in their first column."""

    def page(self, name: str) -> Page:
        """The report of one run. Raises UserError if there is none of that name, or it is damaged."""
