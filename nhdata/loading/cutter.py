"""From windows by number to a batch of tensors: fetch and collate put together."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.bins import bin_ticks
from nhdata.loading.batch import WindowBatch
from nhdata.loading.buffers import Buffers
from nhdata.loading.collate import NO_COLUMN, Arrays, Sessions, Windows, cut, ema_decay, most_tokens
from nhdata.loading.covariates import CovariateReader, Covariates
from nhdata.loading.fetch import SpikeCache, Spikes
from nhdata.loading.selection import SelectedSession, Selection
from nhdata.loading.series import MAX_GAP_S, SeriesReader, resample
from nhdata.loading.session_plan import WindowShape
from nhdata.store.layout import tick_at

EMA_CONTEXT_S = 20.0

Tokens = tuple[torch.Tensor, torch.Tensor]


class WindowCutter:
    """Reads and cuts windows of one shape over the sessions of a selection.

    Parameters
    ----------
    selection : Selection
    bin_s : float
    n_history, n_horizon : int
        Bins of each.
    ema_tau_s : tuple of float
    count_history : bool
        Whether batches have counts of the history.
    unit_dropout : float
        Share of units to leave out of each window.
    series : SeriesReader
    covariates : CovariateReader
    cache : SpikeCache
    """

    def __init__(
        self,
        selection: Selection,
        *,
        bin_s: float,
        n_history: int,
        n_horizon: int,
        ema_tau_s: tuple[float, ...],
        count_history: bool,
        unit_dropout: float,
        series: SeriesReader,
        covariates: CovariateReader,
        cache: SpikeCache,
    ) -> None:
        self.selection, self.bin_s, self.series, self.cache = selection, bin_s, series, cache
        self.n_history, self.n_horizon, self.ema_tau_s = n_history, n_horizon, ema_tau_s
        self.count_history, self.unit_dropout, self._covariates = count_history, unit_dropout, covariates
        sessions = selection.sessions
        num, den = np.array([bin_ticks(bin_s, s.tick_hz) for s in sessions], np.int64).reshape(-1, 2).T.copy()
        column = [_columns(s) for s in sessions]
        self._flat = Sessions(
            numerator=num,
            denominator=den,
            tick_hz=np.array([s.tick_hz for s in sessions], np.float64),
            n_spikes=np.array([s.n_spikes for s in sessions], np.int64),
            first_chunk=cache.first_chunk,
            n_selected=np.array([len(s.rows) for s in sessions], np.int64),
            first_unit=np.array([s.first for s in sessions], np.int64),
            column=np.concatenate([*column, np.empty(0, np.uint16)]),
            column_at=np.cumsum([0, *(len(c) for c in column)]),
        )
        self._observed = {k: _observed_ticks(s) for k, s in enumerate(sessions) if s.observed_s}
        self._partly_observed = set(self._observed)
        self._t_start_s = np.array([s.t_start_s for s in sessions], np.float64)
        self._most_past = round(EMA_CONTEXT_S / bin_s)
        self._buffers = Buffers()
        self.shapes = [
            WindowShape(-(-n_history * n // d), -(-n_horizon * n // d))
            for n, d in zip(num.tolist(), den.tolist(), strict=True)
        ]
        self.look_back([np.array([[0, s.n_ticks]], np.int64) for s in sessions])

    def look_back(self, stretches: list[NDArray[np.int64]]) -> None:
        """Have averages look no further back than the beginning of the stretch that a window lies in.

        Parameters
        ----------
        stretches : list of (K, 2) int64
            For each session, ascending.
        """
        starts = [s[:, 0] if len(s) else np.zeros(1, np.int64) for s in stretches]
        self._floors = np.concatenate([_key(np.full(len(a), k, np.int64), a) for k, a in enumerate(starts)])

    def locate(self, windows: NDArray[np.int64], seed: int, epoch: int) -> Windows:
        """All that is known of windows before any spike is: what they need, and their own seeds.

        Parameters
        ----------
        windows : (B, 2) int64
            Session and mark, as in `EpochPlan.windows`.
        seed, epoch : int
            Of the run: they decide which units are dropped.
        """
        session, mark = windows[:, 0].copy(), windows[:, 1].copy()
        num, den = self._flat.numerator[session], self._flat.denominator[session]
        past = np.zeros(len(session), np.int64)
        if self.ema_tau_s:
            place = np.searchsorted(self._floors, _key(session, mark), side="right") - 1
            past = np.minimum((mark - _tick(self._floors[place])) * den // num, self._most_past)
        start = mark - np.maximum(past, self.n_history) * num // den
        stop = mark - -self.n_horizon * num // den
        seeds = _key(session, mark).astype(np.uint64) * np.uint64(0xD1342543DE82EF95) + np.uint64(
            (seed * 0x2545F4914F6CDD1D + epoch * 0x9FB21C651E98DF25) % 2**64
        )
        return Windows(session, mark, seeds.view(np.int64), past, *self.cache.locate(session, start, stop))

    def cut(self, asked: Windows) -> WindowBatch:
        """Read and cut windows."""
        session, flat = asked.session, self._flat
        b, n = len(session), int(flat.n_selected[session].max()) if len(session) else 0
        cu_seqlens, history, ema_hz, counts, unit_id, unit_mask = self._buffers.tensors(
            ((b + 1,), torch.int32),
            ((b, self.n_history * self.count_history, n), torch.int16),
            ((b, len(self.ema_tau_s), n), torch.float32),
            ((b, self.n_horizon, n), torch.int16),
            ((b, n), torch.int64),
            ((b, n), torch.bool),
        )
        out = Arrays(*(t.numpy() for t in (cu_seqlens, history, ema_hz, counts, unit_id, unit_mask)))
        out.cu_seqlens[0] = 0
        tokens = [
            self._cut(spikes, Windows(*(values[rows] for values in asked)), rows.start, out)
            for rows, spikes in self.cache.held(asked.lo, asked.hi)
        ]
        if len(tokens) != 1:
            none = torch.empty(0), torch.empty(0, dtype=torch.int32)
            tokens = [(torch.cat(times), torch.cat(units)) for times, units in [zip(none, *tokens, strict=True)]]
        ((time_s, token_unit),) = tokens
        self._leave_out_unobserved(session, asked.mark, asked.past_bins, unit_mask.numpy(), unit_id.numpy())
        t_s = self.t_s(session, asked.mark)
        series, series_mask = self._series(session, t_s)
        covariates, covariates_mask = self._covariates.cut(session, t_s)
        return WindowBatch(
            token_time_s=time_s,
            token_unit=token_unit,
            cu_seqlens=cu_seqlens,
            history=history,
            ema_hz=ema_hz,
            counts=counts,
            unit_mask=unit_mask,
            unit_id=unit_id,
            session_id=torch.from_numpy(session),
            t_s=torch.from_numpy(t_s),
            series=series,
            series_mask=series_mask,
            covariates=covariates,
            covariates_mask=covariates_mask,
        )

    def _leave_out_unobserved(
        self,
        session: NDArray[np.int64],
        mark: NDArray[np.int64],
        past: NDArray[np.int64],
        unit_mask: NDArray[np.bool_],
        unit_id: NDArray[np.int64],
    ) -> None:
        """Mask units in windows that touch time in which they were not observed.

        The `past` bins that moving averages look back belong to a window.
        """
        for number in self._partly_observed.intersection(session.tolist()):
            rows = np.flatnonzero(session == number)
            num, den = self._flat.numerator[number], self._flat.denominator[number]
            start = mark[rows] - np.maximum(past[rows], self.n_history) * num // den
            stop = mark[rows] - -self.n_horizon * num // den
            for column, spans in self._observed[number]:
                at = np.searchsorted(spans[:, 0], start, side="right") - 1
                inside = (at >= 0) & (stop <= spans[np.maximum(at, 0), 1])
                unit_mask[rows[~inside], column] = False
                unit_id[rows[~inside], column] = -1

    def t_s(self, session: NDArray[np.int64], mark: NDArray[np.int64]) -> NDArray[np.float64]:
        """Marks as seconds on the sessions' clocks."""
        return self._t_start_s[session] + mark / self._flat.tick_hz[session]

    def covariates(self, windows: NDArray[np.int64]) -> Covariates:
        """Covariates of windows by session and mark, without their spikes."""
        session, mark = windows.T
        return self._covariates.cut(session, self.t_s(session, mark))

    def _cut(self, spikes: Spikes, windows: Windows, first_row: int, out: Arrays) -> Tokens:
        """Fill rows of the batch from `first_row` on, and return their tokens."""
        most = most_tokens(spikes.tick, spikes.slot_of, self._flat, windows, self.n_history)
        time_s, token_unit = self._buffers.tensors(((most,), torch.float32), ((most,), torch.int32))
        decay, norm = ema_decay(self.ema_tau_s, self.bin_s, self._most_past)
        fits = cut(
            *spikes, self._flat, windows, first_row, self.n_history, self.unit_dropout, decay, norm,
            time_s.numpy(), token_unit.numpy(), out,
        )  # fmt: skip
        if not fits:
            names = (self.selection.sessions[s].session_id for s in np.unique(windows.session))
            raise UserError(
                f"a bin of {self.bin_s} s in session {' or '.join(names)} holds more than 32,767 spikes of one unit",
                "use shorter bins",
            )
        n = int(out.cu_seqlens[first_row + len(windows.session)] - out.cu_seqlens[first_row])
        if n < most // 2:  # few units are selected: do not keep memory for all
            return time_s[:n].clone(), token_unit[:n].clone()
        return time_s[:n], token_unit[:n]

    def _series(self, session: NDArray[np.int64], t_s: NDArray[np.float64]) -> tuple[dict[str, Any], dict[str, Any]]:
        values, masks = {}, {}
        for name, n_components in self.series.n_components.items():
            value = np.empty((len(session), self.n_horizon, max(n_components, 1)), np.float32)
            mask = np.empty((len(session), self.n_horizon), np.bool_)
            for row, number in enumerate(session.tolist()):
                signal = self.series.signal(number, name)
                resample(*signal, t_s[row], self.bin_s, MAX_GAP_S, value[row], mask[row])
            values[name] = torch.from_numpy(value if n_components else value[..., 0])
            masks[name] = torch.from_numpy(mask)
        return values, masks


def _observed_ticks(session: SelectedSession) -> list[tuple[int, NDArray[np.int64]]]:
    """Columns of the selected units that were observed for part of the session, and their intervals in ticks."""
    column = {int(row): k for k, row in enumerate(session.rows)}
    return [
        (
            column[row],
            np.array([[tick_at(t, session.t_start_s, session.tick_hz) for t in span] for span in spans.tolist()]),
        )
        for row, spans in session.observed_s.items()
        if row in column
    ]


def _columns(session: SelectedSession) -> NDArray[np.uint16]:
    """For each row of the session's units, its place among the selected ones."""
    column = np.full(session.n_units, NO_COLUMN, np.uint16)
    column[session.rows] = np.arange(len(session.rows), dtype=np.uint16)
    return column


def _key(session: NDArray[np.int64], tick: NDArray[np.int64]) -> NDArray[np.int64]:
    """Session and tick as one number that sorts by both."""
    return session * 2**33 + tick


def _tick(key: NDArray[np.int64]) -> NDArray[np.int64]:
    return key % 2**33
