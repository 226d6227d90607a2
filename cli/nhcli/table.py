"""A table of rows as text, as wide as it is or fitted to a terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

GAP = 2
LEAST = 10
"""Characters of a text that are shown at least, however narrow the terminal."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The columns that have room, from the left, and the most characters of a text."""

    n_columns: int
    n_chars: int


def fit(widths: Sequence[int], is_number: Sequence[bool], width: int | None) -> Fit:
    """How to show columns in `width` characters: texts are cut first, then the last columns left out.

    Numbers are never cut.

    Parameters
    ----------
    widths : sequence of int
        Characters of each column's longest cell or its name.
    is_number : sequence of bool
    width : int or None
        Characters of a line; None for no limit.

    Examples
    --------
    >>> fit([36, 8], [False, True], 40)
    Fit(n_columns=2, n_chars=30)
    """
    longest = max(widths, default=0)
    if width is None:
        return Fit(len(widths), longest)
    for n_columns in range(len(widths), 1, -1):
        for n_chars in range(max(longest, LEAST), LEAST - 1, -1):
            shown = zip(widths[:n_columns], is_number, strict=False)
            if sum(w if number else min(w, n_chars) for w, number in shown) + GAP * (n_columns - 1) <= width:
                return Fit(n_columns, n_chars)
    return Fit(1, max(width, LEAST))


def cut(text: str, n_chars: int) -> str:
    """Start and end of a text of more than `n_chars` characters.

    Examples
    --------
    >>> cut("5d23f089-9070/probe00/97", 11)
    '5d23f…00/97'
    """
    if len(text) <= n_chars:
        return text
    n_end = n_chars // 2
    return f"{text[: n_chars - 1 - n_end]}…{text[-n_end:]}"


def draw(
    names: Sequence[str], is_number: Sequence[bool], rows: Sequence[Sequence[Any]], width: int | None
) -> tuple[str, Sequence[str]]:
    """The table, with its columns' names above a rule, and the names of those that had no room (see `fit`)."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    how = fit(widths, is_number, width)
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for name, number in zip(names[: how.n_columns], is_number, strict=False):
        view.add_column(cut(name, how.n_chars), justify="right" if number else "left", no_wrap=True)
    for row in cells:
        shown = zip(row[: how.n_columns], is_number, strict=False)
        view.add_row(*(Text(text if number else cut(text, how.n_chars)) for text, number in shown))
    text = io.StringIO()
    Console(file=text, width=10_000, force_terminal=False).print(view)
    lines = [line[1:].rstrip() for line in text.getvalue().splitlines()]  # without the box's left edge
    return "\n".join(lines).strip("\n") + "\n", names[how.n_columns :]


def cell(value: Any) -> str:
    """A value on one line, without what would move a terminal's cursor."""
    if value is None:
        return ""
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
