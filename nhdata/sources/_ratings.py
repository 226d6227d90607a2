"""Ratings of units: which column of a source says which units are good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nhdata.sources._columns import text_column

GOOD = frozenset({"good", "sua", "su", "single unit", "single-unit", "single_unit", "singleunit"})
NOT_GOOD = frozenset(
    {"mua", "mu", "multi unit", "multi-unit", "multi_unit", "multiunit", "noise", "non-soma", "non_soma", "nonsoma"}
    | {"non-somatic", "non_somatic", "bad", "artifact", "artefact"}
)
UNRATED = frozenset({"", "unsorted", "unrated", "unlabeled", "unlabelled", "unknown", "none", "nan", "n/a"})

TRUSTED = (
    *("group", "quality"),  # curation by a person, as Phy and SpikeInterface name it
    *("curation_label", "bc_unittype", "bombcell_label"),
    *("unitrefine_label", "unitrefine_prediction", "classifier_label"),
    *("kslabel", "ks_label", "kslabel_repeat"),
)
"""Columns that may hold a rating, lower case, the most trusted first."""


class Rating(NamedTuple):
    """What one column says of the units.

    Attributes
    ----------
    column : str or None
        The source's name of the column; None if no column rates the units.
    words : (n_units,) object array of str
        The rating of each unit in lower case, ``unsorted`` where it has none.
    good : (n_units,) bool
    """

    column: str | None
    words: NDArray[Any]
    good: NDArray[np.bool_]


def words_of(values: NDArray[Any]) -> list[str]:
    """Return the cells of a text column in lower case, without surrounding blanks."""
    return ["" if value is None else str(value).strip().lower() for value in values.tolist()]


def is_rating(values: NDArray[Any]) -> bool:
    """Return whether a text column rates at least one unit by a known word."""
    return values.ndim == 1 and values.dtype.kind in "OU" and not (GOOD | NOT_GOOD).isdisjoint(words_of(values))


def rate(
    columns: Sequence[tuple[str, NDArray[Any]]], n_units: int, trusted: Sequence[str] = TRUSTED
) -> tuple[Rating, list[str]]:
    """Choose the most trusted column that rates the units.

    A column in which nothing is rated (``unsorted``, empty) is passed over.

    Parameters
    ----------
    columns : sequence of (name, (n_units,) array)
    n_units : int
    trusted : sequence of str
        Names in lower case, the most trusted first.

    Returns
    -------
    rating : Rating
        With every unit good and ``unrated`` if no column rates them.
    notes : list of str
        Columns that look like a rating and were not used.
    """
    named = {name.lower(): (name, values) for name, values in reversed(columns)}
    ratings = [named[name] for name in trusted if name in named and is_rating(named[name][1])]
    if not ratings:
        rating = Rating(None, text_column(["unrated"] * n_units), np.ones(n_units, bool))
        return rating, _unused(columns, trusted)
    name, values = ratings[0]
    words = [word if word not in UNRATED else "unsorted" for word in words_of(values)]
    return Rating(name, text_column(words), np.array([word in GOOD for word in words], bool)), []


def _unused(columns: Iterable[tuple[str, NDArray[Any]]], trusted: Sequence[str]) -> list[str]:
    looks = [name for name, values in columns if name.lower() not in trusted and is_rating(values)]
    return [f"column {name} looks like a rating and was not used: every unit is kept" for name in looks]
