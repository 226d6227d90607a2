"""The scored windows of one session: the same arrays for every model, so that scores can be compared."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SessionWindows:
    """All windows of one session and split, oldest first.

    A window is a history ``[t_s - H·bin_s, t_s)`` and a horizon ``[t_s, t_s + T·bin_s)``, both half-open and
    a whole number of bins. Only `counts` looks at or past `t_s`.

    Attributes
    ----------
    session_id : str
    unit_id : (N,) str
    t_s : (W,) float64
        End of the history, seconds on the session's clock, increasing.
    history : (W, H, N) unsigned integer
        Spike counts of the history, oldest bin first.
    ema_hz : (W, M, N) float32
        Causal exponential moving averages of each unit's rate at `t_s`, one per time constant, divided by the
        weight that was available (unbiased near the start of a recording).
    counts : (W, T, N) unsigned integer
        Spike counts of the horizon: the targets.
    bin_s : float
    ema_tau_s : tuple of float
        The M time constants of `ema_hz`.
    onset_s : (E,) float64
        When the session's trials began, increasing, over the whole session; empty where there are none.

    Raises
    ------
    ValueError
        If the arrays do not fit together.
    """

    session_id: str
    unit_id: NDArray[np.str_]
    t_s: NDArray[np.float64]
    history: NDArray[np.unsignedinteger]
    ema_hz: NDArray[np.float32]
    counts: NDArray[np.unsignedinteger]
    bin_s: float
    ema_tau_s: tuple[float, ...]
    onset_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        windows, units = self.n_windows, self.n_units
        if (
            self.history.shape != (windows, self.history.shape[1], units)
            or self.counts.shape != (windows, self.counts.shape[1], units)
            or self.ema_hz.shape != (windows, len(self.ema_tau_s), units)
        ):
            raise ValueError(
                f"session {self.session_id}: history {self.history.shape}, ema_hz {self.ema_hz.shape} and "
                f"counts {self.counts.shape} do not fit {windows} windows of {units} units"
            )

    @property
    def n_windows(self) -> int:
        return len(self.t_s)

    @property
    def n_units(self) -> int:
        return len(self.unit_id)

    @property
    def n_bins(self) -> int:
        """Bins of the horizon."""
        return int(self.counts.shape[1])

    def bins_since_onset(self, *, known: bool) -> NDArray[np.int64]:
        """(W, T) whole bins from the latest onset of a trial to the centre of each bin of the horizon; -1 before any.

        Parameters
        ----------
        known : bool
            Count from the latest onset that a forecaster knows of at the end of the history, rather than the
            latest there is.
        """
        if not len(self.onset_s):
            return np.full((self.n_windows, self.n_bins), -1)
        at_s = self.t_s[:, None] + (np.arange(self.n_bins) + 0.5) * self.bin_s
        latest = np.searchsorted(self.onset_s, self.t_s[:, None] if known else at_s, side="right") - 1
        since = np.floor((at_s - self.onset_s[latest.clip(min=0)]) / self.bin_s).astype(np.int64)
        return np.where(latest >= 0, since, -1)

    def __getitem__(self, rows: slice) -> SessionWindows:
        """A run of the windows, as views: for work in chunks."""
        return replace(
            self,
            t_s=self.t_s[rows],
            history=self.history[rows],
            ema_hz=self.ema_hz[rows],
            counts=self.counts[rows],
        )
