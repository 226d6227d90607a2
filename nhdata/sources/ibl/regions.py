"""Names of brain regions by Allen CCF 2017 id, offline."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.sources._columns import UNKNOWN

MAPPINGS = {"region": "Allen", "beryl": "Beryl", "cosmos": "Cosmos"}


@cache
def _atlas() -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
    from iblatlas.regions import BrainRegions

    regions = BrainRegions()
    order = np.argsort(regions.id, kind="stable")
    names = {name: regions.acronym[regions.mappings[mapping]][order] for name, mapping in MAPPINGS.items()}
    return regions.id[order].astype(np.int64), names


def region_columns(ids: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Acronyms of Allen CCF 2017 ids in three parcellations.

    `iblatlas` itself drops ids that it does not know, which shifts the rest; here they stay as ``unknown``.

    Parameters
    ----------
    ids : (n,) float64
        Negative on the left side of the brain; NaN for unknown.

    Returns
    -------
    dict of (n,) object arrays
        ``region`` (Allen), ``beryl`` and ``cosmos``; ``void`` for id 0, ``root`` for 997.
    """
    known, names = _atlas()
    wanted = np.where(np.isfinite(ids), ids, np.inf)
    rows = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    found = known[rows] == wanted
    return {name: np.where(found, acronyms[rows], UNKNOWN) for name, acronyms in names.items()}
