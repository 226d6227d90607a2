"""What is known of units before any window is scored: reference features, and the mean that is the null.

Both come from the part of each session that a model may look at: the training split of a session it trains on, or
the reference of one it has never seen. Never from what is scored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch

from nhdata.features.reference import WINDOW_S
from nhdata.loading import WindowDataset
from nhdata.store.session import Session
from nhmodel.baselines.mean import smoothed_mean
from nhmodel.model import UnitTable


def unit_table(known: WindowDataset, rows: Mapping[str, int] | None = None) -> UnitTable:
    """Features and means of all units of a data set.

    Parameters
    ----------
    known : WindowDataset
        Unshuffled windows of the stretch that may be looked at (split ``train`` or ``reference``).
    rows : mapping of unit id to row, optional
        Rows of a learned table; units without one get -1.

    Returns
    -------
    UnitTable
    """
    features = np.concatenate(
        [
            Session(session.path).features(span[0], min(span[1], span[0] + WINDOW_S)).values[session.rows]
            for session, span in zip(known.selection.sessions, known.spans_s.values(), strict=True)
        ]
    )
    row = [-1 if rows is None else rows.get(unit_id, -1) for unit_id in known.unit_ids]
    return UnitTable(
        torch.from_numpy(features),
        torch.from_numpy(np.log(mean_counts(known))).float(),
        torch.tensor(row, dtype=torch.int64),
    )


def mean_counts(known: WindowDataset) -> np.ndarray:
    """(U,) mean count per bin of the horizons of a data set: the null, and where the model starts."""
    total = np.zeros(len(known.unit_ids))
    bins = np.zeros(len(known.unit_ids))
    for batch in known:
        n_windows, n_bins, _ = batch.counts.shape
        if n_windows:
            ids = batch.unit_id[0].numpy()  # unshuffled batches hold one session
            total[ids] += batch.counts.sum((0, 1), dtype=torch.int64).numpy()
            bins[ids] += n_windows * n_bins
    return smoothed_mean(total, bins)


def rows_by_id(unit_ids: Collection[str]) -> dict[str, int]:
    """Row of the learned table of each unit, in the order of training."""
    return {unit_id: row for row, unit_id in enumerate(unit_ids)}
