"""All windows of a session as arrays, for models that are fitted to arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.loading import WindowDataset
from nhdata.store.session import Session
from nhmodel.windows import SessionWindows

ONSETS = ("stim_on_s", "stimOn_times", "start_s")


def session_windows(windows: WindowDataset) -> SessionWindows:
    """Every window of a data set of one session, in order of time.

    Parameters
    ----------
    windows : WindowDataset
        Unshuffled, over one session, with moving averages.
    """
    (session_id,) = windows.session_ids
    batches = list(windows)
    onset_s = onsets(Session(windows.selection.sessions[0].path).intervals().get("trials", {}))
    return SessionWindows(
        session_id=session_id,
        unit_id=np.array(windows.unit_ids),
        t_s=np.concatenate([b.t_s.numpy() for b in batches]),
        history=_narrow(np.concatenate([b.history.numpy() for b in batches])),
        ema_hz=np.concatenate([b.ema_hz.numpy() for b in batches]),
        counts=_narrow(np.concatenate([b.counts.numpy() for b in batches])),
        bin_s=windows.bin_s,
        ema_tau_s=windows.ema_tau_s,
        onset_s=np.sort(onset_s[np.isfinite(onset_s)]),
    )


def onsets(trials: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """When each trial of a table began, NaN where it is not known: the onset of the stimulus where there is one."""
    return next((trials[name].astype(np.float64) for name in ONSETS if name in trials), np.zeros(0))


def _narrow(counts: NDArray[np.int16]) -> NDArray[np.unsignedinteger]:
    """One byte per count where all counts fit."""
    return counts.astype(np.uint8 if counts.size == 0 or counts.max() < 256 else np.uint16)
