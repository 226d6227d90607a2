"""Embeddings of units, as a table to be joined with the catalog."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from nhdata.store.store import open_store
from nhmodel.data import open_windows
from nhmodel.evaluation.plan import plan_sessions
from nhmodel.run import RunInfo, load_model
from nhmodel.units import rows_by_id, unit_table


@torch.no_grad()
def embeddings(
    run: str | Path, store_path: str | Path, *, select: str | None = None, reference_s: float = 60.0
) -> pa.Table:
    """One row per unit that the run can say something of.

    Parameters
    ----------
    run : path
    store_path : path
    select : str, optional
        Units of sessions that the run never saw; by default its own selection.
    reference_s : float
        Seconds that those are known by.

    Returns
    -------
    pyarrow.Table
        ``unit_id``, ``session_id``, ``regime`` (``seen``: features and what was learnt; ``zero-shot``: features alone)
        and ``embedding``, a list of as many float32 as the model is wide.

    Raises
    ------
    UserError
        If the run or the store is not there, or a session is too short.
    """
    info, model = RunInfo.read(Path(run)), load_model(run)
    store = open_store(store_path)
    rows: list[pa.Table] = []
    for planned in plan_sessions(info, store, select):
        known = open_windows(
            store.path,
            planned.selection,
            info.config,
            "train" if planned.seen else "reference",
            reference_s=reference_s,
            averages=False,
        )
        units = unit_table(known, rows_by_id(info.unit_ids) if planned.seen else None)
        values = model.identity(units.features, units.row).numpy().astype(np.float32)
        rows.append(
            pa.table(
                {
                    "unit_id": list(planned.selection.unit_ids),
                    "session_id": [planned.session_id] * len(values),
                    "regime": ["seen" if planned.seen else "zero-shot"] * len(values),
                    "embedding": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1]),
                }
            )
        )
    return pa.concat_tables(rows)
