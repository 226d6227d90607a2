"""Scores of a forecast of spike counts against a null that never saw the scored windows.

A forecast is the expected count of each (window, bin, unit), above zero. All sums are float64 over the whole
split; ratios are taken once, at the end. `ScoreSums` takes windows in chunks, session by session, and merges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from nhmodel.likelihood import Floats, bits, floored, moments_of, poisson_nll, within_unit
from nhmodel.psth import psth_r2, psth_sums

Ints = NDArray[np.int64]

CHUNK_VALUES = 4_000_000
"""Values (window, bin, unit) worked on at once: bounds the float64 temporaries to a few hundred MB."""


@dataclass(frozen=True)
class SessionSums:
    """Sums over the scored windows of one session, for one model.

    Per window (W), per bin (T) and per unit (N): `nll` of the model, `null` of the null, in nats without
    the log-factorial, and `spikes`. Moments are of counts y and forecasts f about the unit's null, so that
    the null forecast itself has moments of exactly zero.
    """

    null_expected: Floats
    t_s: Floats
    window_nll: Floats
    window_null: Floats
    window_spikes: Ints
    bin_nll: Floats
    bin_null: Floats
    bin_spikes: Ints
    unit_nll: Floats
    unit_null: Floats
    unit_saturated: Floats
    unit_spikes: Ints
    unit_moments: Floats
    """(5, N): Σy, Σf, Σy², Σf², Σyf."""
    psth: Floats
    """(K, 1 + 2 N): bins seen, Σy and Σf of each unit, by time since the onset of a trial."""

    @classmethod
    def of(
        cls,
        t_s: ArrayLike,
        counts: NDArray[Any],
        expected: NDArray[Any],
        null: ArrayLike,
        since_onset: NDArray[np.int64] | None = None,
    ) -> SessionSums:
        """Sums of one chunk; shapes as in `ScoreSums.add`."""
        y, origin = np.array(counts, dtype=np.float64, order="C"), floored(null)
        rate = floored(np.ascontiguousarray(expected))
        # the null in full, so that a forecast equal to it goes through the same arithmetic and scores exactly 0
        nll, null_nll = poisson_nll(y, rate), poisson_nll(y, np.broadcast_to(origin, y.shape).copy())
        spikes = np.asarray(counts).astype(np.int64)
        return cls(
            null_expected=origin,
            t_s=np.asarray(t_s, dtype=np.float64),
            window_nll=nll.sum(axis=(1, 2)),
            window_null=null_nll.sum(axis=(1, 2)),
            window_spikes=spikes.sum(axis=(1, 2)),
            bin_nll=nll.sum(axis=(0, 2)),
            bin_null=null_nll.sum(axis=(0, 2)),
            bin_spikes=spikes.sum(axis=(0, 2)),
            unit_nll=nll.sum(axis=(0, 1)),
            unit_null=null_nll.sum(axis=(0, 1)),
            unit_saturated=(y - xlogy(y, y)).sum(axis=(0, 1)),
            unit_spikes=spikes.sum(axis=(0, 1)),
            unit_moments=moments_of(y - origin, rate - origin),
            psth=psth_sums(y, rate, since_onset),
        )

    def __add__(self, other: SessionSums) -> SessionSums:
        """Sums over the windows of both. Raises ValueError if a window is in both or the nulls differ."""
        if not np.array_equal(self.null_expected, other.null_expected):
            raise ValueError("the parts of a session were scored against different nulls")
        t_s = np.concatenate([self.t_s, other.t_s])
        order = np.argsort(t_s, kind="stable")
        if np.any(np.diff(t_s[order]) == 0):
            raise ValueError("a window was scored twice")
        merged: dict[str, NDArray[Any]] = {"null_expected": self.null_expected, "t_s": t_s[order]}
        for name in (field.name for field in fields(self) if field.name not in merged):
            mine, theirs = getattr(self, name), getattr(other, name)
            per_window = name.startswith("window_")
            merged[name] = np.concatenate([mine, theirs])[order] if per_window else mine + theirs
        return SessionSums(**merged)

    @classmethod
    def mean(cls, models: Sequence[Self]) -> Self:
        """The mean over models that were scored on the same windows; what is not theirs stays as it is."""
        values = {field.name: [getattr(part, field.name) for part in models] for field in fields(cls)}
        return cls(
            **{
                name: parts[0] if name in ("null_expected", "t_s") or "spikes" in name else np.mean(parts, axis=0)
                for name, parts in values.items()
            }
        )


class ScoreSums:
    """Sums of one model's scores over sessions, fed in chunks of windows in any order.

    Two of them merge with ``+`` into what one pass over all windows gives.

    Attributes
    ----------
    sessions : dict of str to SessionSums
    """

    def __init__(self, sessions: Mapping[str, SessionSums] | None = None) -> None:
        self.sessions: dict[str, SessionSums] = dict(sessions or {})

    def add(
        self,
        session_id: str,
        t_s: Floats,
        counts: NDArray[Any],
        expected: NDArray[Any],
        null: ArrayLike,
        since_onset: NDArray[np.int64] | None = None,
    ) -> None:
        """Take windows of one session.

        Parameters
        ----------
        session_id : str
        t_s : (W,) float64
            End of each window's history, which names the window: none may come twice.
        counts : (W, T, N) integer
        expected : (W, T, N) floating
            Forecast, expected counts per bin; clamped to `EXPECTED_FLOOR`.
        null : (N,) floating
            Expected counts per bin of the null, from training or reference data, never from these windows.
        since_onset : (W, T) int, optional
            Bins since the onset of a trial, -1 before any: `SessionWindows.bins_since_onset`.

        Raises
        ------
        UserError
            If the forecast is NaN, infinite or negative.
        ValueError
            If shapes do not fit, the null changed within the session, or a window comes twice.
        """
        if counts.shape != expected.shape or counts.shape[0] != len(t_s) or np.shape(null) != counts.shape[2:]:
            raise ValueError(
                f"session {session_id}: {len(t_s)} windows, counts {counts.shape}, forecast {expected.shape} "
                f"and null {np.shape(null)} do not fit together"
            )
        rows = max(1, CHUNK_VALUES // max(1, counts[0].size)) if len(counts) else 1
        for start in range(0, len(counts), rows):
            chunk = slice(start, start + rows)
            since = None if since_onset is None else since_onset[chunk]
            part = SessionSums.of(t_s[chunk], counts[chunk], expected[chunk], null, since)
            self.sessions[session_id] = self.sessions[session_id] + part if session_id in self.sessions else part

    @classmethod
    def mean(cls, models: Sequence[ScoreSums]) -> Self:
        """Sums of what any one of several models scores on the same windows, on average."""
        return cls(
            {
                session_id: SessionSums.mean([m.sessions[session_id] for m in models])
                for session_id in models[0].sessions
            }
        )

    def __add__(self, other: ScoreSums) -> ScoreSums:
        merged = ScoreSums(self.sessions)
        for session_id, part in other.sessions.items():
            mine = merged.sessions.get(session_id)
            merged.sessions[session_id] = part if mine is None else mine + part
        return merged


def scores(sums: ScoreSums) -> dict[str, Any]:
    """Scores of one model over all sessions it was fed.

    Returns
    -------
    dict
        ``fp_bps``: forward-prediction bits per spike, ``(Σ null - Σ nll) / (Σ spikes · ln 2)`` (Pei et al.
        2021, Neural Latents Benchmark). ``unit_bps``: the same per unit, averaged over units with at least
        one spike in the scored windows. ``poisson_d2``: ``1 - (nll - sat) / (null - sat)``, sat = the
        likelihood of a forecast equal to the counts. ``within_unit_r``, ``within_unit_r2``: correlation and
        ``1 - SSE / SST`` of each unit over its (window, bin) samples about its own mean, averaged over units
        whose counts vary; a forecast that never varies has r = 0. ``psth_r2``: ``1 - SSE / SST`` of each unit's mean
        forecast over trials, at each time within a second of their onset, against its mean counts, averaged over
        units; None without trials (Pei et al. 2021). ``bin_fp_bps``: fp_bps of each bin of the
        horizon (list). ``n_windows``, ``n_spikes``. A score with nothing to divide by is None, never NaN.
    """
    parts = sums.sessions.values()
    nll, null, saturated, spikes = (
        _joined(getattr(part, f"unit_{name}") for part in parts) for name in ("nll", "null", "saturated", "spikes")
    )
    spiked = spikes > 0
    gap = null.sum() - saturated.sum()
    r, r2 = within_unit(
        _joined(np.full(len(part.unit_nll), len(part.t_s) * len(part.bin_nll)) for part in parts),
        np.concatenate([np.zeros((5, 0)), *(part.unit_moments for part in parts)], axis=1),
    )
    return {
        "fp_bps": bits(nll.sum(), null.sum(), spikes.sum()),
        "unit_bps": float(np.mean((null - nll)[spiked] / (spikes[spiked] * np.log(2)))) if spiked.any() else None,
        "poisson_d2": float(1 - (nll.sum() - saturated.sum()) / gap) if gap > 0 else None,
        "within_unit_r": r,
        "within_unit_r2": r2,
        "psth_r2": psth_r2([part.psth for part in parts]),
        "bin_fp_bps": [
            bits(*bin_sums)
            for bin_sums in zip(
                *(sum(getattr(part, f"bin_{name}") for part in parts) for name in ("nll", "null", "spikes")),
                strict=True,
            )
        ]
        if parts
        else [],
        "n_windows": sum(len(part.t_s) for part in parts),
        "n_spikes": int(spikes.sum()),
    }


def _joined(arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def poisson_log_likelihood(log_rates: ArrayLike, target_counts: ArrayLike, unit_mask: ArrayLike | None = None) -> float:
    """Mean Poisson log-likelihood of a count in nats, without the log-factorial.

    The name and arguments of the first NeuroHorizon; numpy arrays or torch CPU tensors.

    Parameters
    ----------
    log_rates : (B, T, N) floating
        Log expected counts per bin.
    target_counts : (B, T, N) integer
    unit_mask : (B, N) bool, optional
        False where a unit is padding.
    """
    y, rate, mask = _masked(log_rates, target_counts, unit_mask)
    return float(-np.mean(poisson_nll(y, rate), where=mask))


def bits_per_spike(
    log_rates: ArrayLike,
    target_counts: ArrayLike,
    unit_mask: ArrayLike | None = None,
    *,
    null_expected: ArrayLike,
) -> float | None:
    """Forward-prediction bits per spike against a null that is given.

    The first NeuroHorizon took each unit's mean in the very window that is scored as the null: an oracle
    that even the true rate does not beat. `null_expected` ((N,) or (B, 1, N) expected counts per bin, from
    training or reference data) is therefore required. Other parameters as `poisson_log_likelihood`.

    Returns
    -------
    float or None
        None where there is no spike.
    """
    y, rate, mask = _masked(log_rates, target_counts, unit_mask)
    null = np.broadcast_to(np.asarray(null_expected, dtype=np.float64), y.shape)
    nll, null_nll = (np.sum(poisson_nll(y, f), where=mask) for f in (rate, np.where(mask, null, 1.0)))
    return bits(nll, null_nll, float(np.sum(y, where=mask)))


def firing_rate_correlation(
    log_rates: ArrayLike, target_counts: ArrayLike, unit_mask: ArrayLike | None = None
) -> float | None:
    """Within-unit correlation of forecast and counts: per unit over (window, bin), then averaged over units.

    The first NeuroHorizon correlated across units, where a flat forecast already reaches .9. Column n must be
    the same unit in every window. Parameters as `poisson_log_likelihood`; result as ``within_unit_r``.
    """
    return _within(log_rates, target_counts, unit_mask)[0]


def r2_binned_counts(
    log_rates: ArrayLike, target_counts: ArrayLike, unit_mask: ArrayLike | None = None
) -> float | None:
    """Within-unit R² of the counts: ``1 - SSE / SST`` about each unit's own mean, averaged over units.

    The first NeuroHorizon took SST about the mean of all units. As `firing_rate_correlation` otherwise.
    """
    return _within(log_rates, target_counts, unit_mask)[1]


def _masked(log_rates: ArrayLike, target_counts: ArrayLike, unit_mask: ArrayLike | None) -> tuple[Floats, Floats, Any]:
    """Counts, expected counts and mask, all (B, T, N); padding holds 0 and 1."""
    y = np.asarray(target_counts, dtype=np.float64)
    mask = np.ones(y.shape, dtype=bool)
    if unit_mask is not None:
        mask &= np.asarray(unit_mask, dtype=bool)[:, None, :]
    return np.where(mask, y, 0.0), np.exp(np.where(mask, np.asarray(log_rates, dtype=np.float64), 0.0)), mask


def _within(
    log_rates: ArrayLike, target_counts: ArrayLike, unit_mask: ArrayLike | None
) -> tuple[float | None, float | None]:
    y, rate, mask = _masked(log_rates, target_counts, unit_mask)
    n = np.maximum(mask.sum(axis=(0, 1)), 1)
    origin = rate.sum(axis=(0, 1), where=mask) / n
    return within_unit(n, moments_of((y - origin) * mask, (rate - origin) * mask))
