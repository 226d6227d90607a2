"""How a store and a session show themselves in a notebook: plain tables, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any


def heading(title: str, facts: Mapping[str, Any]) -> str:
    """A title, and facts in one line.

    Examples
    --------
    >>> heading("Store <a>", {"units": 1200})
    '<strong>Store &lt;a&gt;</strong><p>units: 1,200</p>'
    """
    line = " · ".join(f"{escape(name)}: {_text(value)}" for name, value in facts.items() if value is not None)
    return f"<strong>{escape(title)}</strong><p>{line}</p>"


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with a head."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{_text(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.5g}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))
