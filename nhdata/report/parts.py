"""What a page is made of, whatever it is about: facts, sentences, and panels of a figure or a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a table: numbers are written as people read them, text as it is.

    Attributes
    ----------
    head : sequence of str
    rows : sequence of sequences
    align : str
        One letter a column: ``l`` or ``r``, on one line; ``w``, long text on several.
    marked : set of int
        Rows that stand out.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    align: str
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of a page, in plain text that the page escapes: heading, figure, table, facts, caption.

    Attributes
    ----------
    title, caption : str
    model : Bokeh model, optional
        The figure.
    table : Table, optional
    facts : sequence of (name, value)
        Many small values, side by side.
    code : str
        A piece of SQL.
    """

    title: str
    caption: str = ""
    model: Any = None
    table: Table | None = None
    facts: Sequence[tuple[str, str]] = ()
    code: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A page to look at, in a file or in a browser.

    Attributes
    ----------
    title : str
    facts : sequence of (name, value)
        What is said in a word or a number.
    notes : sequence of str
        What is said in a sentence.
    panels : sequence of Panel
    """

    title: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    panels: Sequence[Panel]
