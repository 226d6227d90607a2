"""Progress and the last word of commands that write something for each session."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

import click

from nhcli.base import EXIT_ERROR, EXIT_PARTLY
from nhcli.output import print_json, progress_bar

if TYPE_CHECKING:
    from nhdata.derivatives.outcomes import Outcome, Report


def local_folder(text: str) -> Path:
    """The folder that an option names."""
    from nhcatalog.errors import UserError
    from nhcatalog.place import Url, to_place

    place = to_place(text)
    if isinstance(place, Url):
        raise UserError(f"{text} is in an object store", "name a folder of this machine")
    return place


class Outcomes(ExitStack):
    """A progress bar over sessions, and errors as they come; used in a ``with`` block."""

    def __init__(self, n_sessions: int, what: str, progress: bool) -> None:
        super().__init__()
        self._n, self._what, self._progress = n_sessions, what, progress

    def __enter__(self) -> Self:
        super().__enter__()
        self._bar = self.enter_context(progress_bar(self._progress))
        self._task = self._bar.add_task(self._what, total=self._n, note="")
        return self

    def add(self, outcome: Outcome) -> None:
        """Show one outcome."""
        if outcome.kind == "failed":
            self._bar.console.print(
                f"error: {outcome.detail}", style=None, markup=False, highlight=False, soft_wrap=True
            )
        self._bar.update(self._task, advance=1, note=outcome.session_id)

    def finish(self, report: Report, as_json: bool) -> int:
        """Print what became of the sessions; the exit code."""
        if as_json:
            value = {
                kind: [{"session_id": o.session_id, key: o.detail} for o in outcomes]
                for kind, key, outcomes in (
                    ("written", "path", report.written),
                    ("skipped", "path", report.skipped),
                    ("failed", "error", report.failed),
                )
            }
            print_json({"schema": 1, **value})
        else:
            for outcome in report.written:
                click.echo(outcome.detail)
            n = {"written": report.written, "there already": report.skipped, "failed": report.failed}
            click.echo(", ".join(f"{len(some)} {word}" for word, some in n.items()), err=True)
        if not report.failed:
            return 0
        return EXIT_PARTLY if report.written or report.skipped else EXIT_ERROR
