"""What ``nhdata ingest`` shows while it works."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress

    from nhdata.ingest.run import Outcome

NAME_CHARS = 48


class IngestProgress:
    """A line of sessions done, spikes per second, the time left and what is being read, beside lines of errors.

    Parameters
    ----------
    bar : Progress
        Of `nhcli.output.progress_bar`, which is silent unless stderr is a terminal.
    say_skipped : bool
        Whether to write a line for each recording that is left out.
    now : callable
        Seconds of a clock.
    """

    def __init__(self, bar: Progress, say_skipped: bool, now: Callable[[], float] = time.monotonic) -> None:
        self.bar, self.say_skipped, self.now = bar, say_skipped, now
        self.task = bar.add_task("ingest", total=None, note="looking for recordings")
        self.started = now()
        self.n_spikes = 0
        self.reading: list[str] = []

    def on_start(self, n: int) -> None:
        self.started = self.now()
        self.bar.update(self.task, total=n, note="")

    def on_begin(self, path: str) -> None:
        self.reading.append(path)
        self.bar.update(self.task, note=self.note())

    def on_outcome(self, outcome: Outcome) -> None:
        from nhdata.ingest import Failed, Ingested, Skipped

        if isinstance(outcome, Failed):
            click.echo(f"error: {outcome.error}", err=True)
        elif isinstance(outcome, Skipped) and self.say_skipped:
            click.echo(f"skipped: {outcome.path}: {outcome.reason}", err=True)
        elif isinstance(outcome, Ingested):
            self.n_spikes += outcome.n_spikes
        if outcome.path in self.reading:
            self.reading.remove(outcome.path)
        self.bar.update(self.task, advance=1, note=self.note())

    def note(self) -> str:
        """Spikes per second so far, and what is being read."""
        seconds = self.now() - self.started
        parts = [f"{_short(self.n_spikes / seconds)} spikes/s"] if self.n_spikes and seconds > 0 else []
        if self.reading:
            name = self.reading[0]
            more = len(self.reading) - 1
            parts.append(("…" + name[-NAME_CHARS:] if len(name) > NAME_CHARS else name) + (f" +{more}" if more else ""))
        return "  ".join(parts)


def _short(number: float) -> str:
    """Three digits and a letter for thousands or millions."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
