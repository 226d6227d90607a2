"""What is known of units before any window is scored: reference features, and the mean that is the null.

Both come from the part of each session that a model may look at: the training split of a session it trains on, or
the reference of one it has never seen. Never from what is scored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.exact import FloatArray
from nhdata.features.reference import WINDOW_S
from nhdata.features.sets import feature_columns
from nhdata.features.trains import Trains
from nhdata.loading import WindowDataset
from nhdata.store.session import Session
from nhmodel.model import UnitTable
from nhmodel.null import smoothed_mean


def unit_table(
    known: WindowDataset, rows: Mapping[str, int] | None = None, mean: NDArray[np.float32] | None = None
) -> UnitTable:
    """Features and means of all units of a data set.

    Parameters
    ----------
    known : WindowDataset
        Unshuffled windows of the stretch that may be looked at (split ``train`` or ``reference``).
    rows : mapping of unit id to row, optional
        Rows of a learned table; units without one get -1.
    mean : (U,) float32, optional
        Their `mean_counts`, where they are known already.

    Returns
    -------
    UnitTable
    """
    mean = mean_counts(known) if mean is None else mean  # first: it says which session is too short
    features = np.concatenate(
        [
            identity_features(Session(session.path), span[0], min(span[1], span[0] + WINDOW_S))[session.rows]
            for session, span in zip(known.selection.sessions, known.spans_s.values(), strict=True)
        ]
    )
    row = [-1 if rows is None else rows.get(unit_id, -1) for unit_id in known.unit_ids]
    return UnitTable(
        torch.from_numpy(features),
        torch.from_numpy(np.log(mean)).float(),
        torch.tensor(row, dtype=torch.int64),
    )


def identity_features(session: Session, start_s: float, stop_s: float) -> FloatArray:
    """What the IDEncoder knows units by: the 33 reference features and the population coupling in bins of 10 ms.

    Returns
    -------
    (n_units, 34) float64
        Of all units of the session, each coupled to all others; NaN where undefined.
    """

    def compute(trains: Trains) -> FloatArray:
        return np.column_stack([*feature_columns(trains, ("reference", "population")).values()])

    return session.over_observed(compute, start_s, stop_s)


def mean_counts(known: WindowDataset) -> NDArray[np.float32]:
    """(U,) mean count per bin over the horizons of a data set: the null, and where the model starts."""
    spikes, n_windows = np.zeros((2, len(known.unit_ids)), np.int64)
    first = [session.first for session in known.selection.sessions]
    for batch in known:  # unshuffled: a batch holds one session
        at = first[int(batch.session_id[0])]
        columns = slice(at, at + batch.counts.shape[2])
        observed = batch.unit_mask[:, None]
        spikes[columns] += (batch.counts * observed).sum((0, 1), dtype=torch.int64).numpy()
        n_windows[columns] += batch.unit_mask.sum(0, dtype=torch.int64).numpy()
    parts = []
    for session in known.selection.sessions:
        columns = slice(session.first, session.first + len(session.rows))
        n = n_windows[columns]
        if not n.any():
            raise UserError(
                f"session {session.session_id} is too short: no window of {known.history_s} + {known.horizon_s} s "
                f"fits its part '{known.split}'",
                "leave it out of the selection, or use shorter windows",
            )
        parts.append(smoothed_mean(spikes[columns], n * known.n_horizon))
    return np.concatenate(parts)


def rows_by_id(unit_ids: Collection[str]) -> dict[str, int]:
    """Row of the learned table of each unit, in the order of training."""
    return {unit_id: row for row, unit_id in enumerate(unit_ids)}
