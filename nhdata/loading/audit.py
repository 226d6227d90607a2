"""Proof that nothing leaks: splits do not overlap, and what a model is given is the past of what it is to forecast.

Everything is computed anew, with NumPy, from spikes read window by window: none of the loader's own code is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, islice

import numpy as np
from numpy.typing import NDArray

from nhdata.features.bins import bin_ticks
from nhdata.loading.batch import WindowBatch
from nhdata.loading.covariates import FADE_S, ColumnName
from nhdata.loading.cutter import EMA_CONTEXT_S
from nhdata.loading.dataset import WindowDataset
from nhdata.loading.series import MAX_GAP_S, edge_s
from nhdata.store.session import Session


def audit_splits(*splits: WindowDataset, n_epochs: int = 3) -> list[str]:
    """Say where the windows of one split touch what another may touch, histories included; nothing if they never do.

    Windows of `n_epochs` are held against the stretches of their own split, and stretches of all pairs of splits
    against each other, in every session of which they share a unit. A training split whose averages look back
    at held-out spikes is named too.

    Parameters
    ----------
    *splits : WindowDataset
        E.g. train, valid and test of the same selection.

    Examples
    --------
    >>> audit_splits(train, valid, test)  # doctest: +SKIP
    []
    """
    problems = [problem for windows in splits for problem in _outside(windows, n_epochs)]
    for one, other in combinations(splits, 2):
        for session_id in sorted(_sessions(one, other)):
            a, b = one.stretches_s[session_id], other.stretches_s[session_id]
            where = f"of {session_id}: '{one.split}' and '{other.split}'"
            for (a0, a1), (b0, b1) in ((x, y) for x in a.tolist() for y in b.tolist()):
                if max(a0, b0) < min(a1, b1):
                    problems.append(f"[{max(a0, b0):.3f}, {min(a1, b1):.3f}) s {where} share it")
    for windows, held in ((w, h) for w in splits for h in splits if w.split == "train" and h.split != "train"):
        for session_id in sorted(_sessions(windows, held) if windows.ema_tau_s else ()):
            heard = _heard(windows, session_id)
            for (a0, a1), (b0, b1) in ((x, y) for x in heard for y in held.stretches_s[session_id].tolist()):
                if max(a0, b0) < min(a1, b1):
                    problems.append(
                        f"averages of '{windows.split}' look back at '{held.split}' of {session_id}, "
                        f"[{max(a0, b0):.3f}, {min(a1, b1):.3f}) s"
                    )
    return problems


def audit_batches(
    windows: WindowDataset, batches: Iterable[WindowBatch] | None = None, n_batches: int = 8
) -> list[str]:
    """Say where a batch is not what the store holds: a history that is not its window's past, or other counts.

    A future that leaked into tokens, history or averages is found as spikes that the past does not have; a history
    of another window, as spikes that it lacks.

    Parameters
    ----------
    windows : WindowDataset
        What the batches claim to be from.
    batches : iterable of WindowBatch, optional
        By default those of one epoch of `windows`.
    n_batches : int
        How many to look at.
    """
    problems = []
    sessions = [Session(s.path) for s in windows.selection.sessions]
    for batch in islice(windows if batches is None else batches, n_batches):
        for row in range(len(batch)):
            problems += _compare(windows, batch, row, sessions[int(batch.session_id[row])])
    return problems


def _heard(windows: WindowDataset, session_id: str) -> list[tuple[float, float]]:
    """Stretches of a session that averages of some windows hear, up to the ends of the windows."""
    heard = []
    for start_s, stop_s in windows.stretches_s[session_id].tolist():
        floors = [a for a, b in windows.look_back_s[session_id].tolist() if a <= start_s < b]
        heard.append((max([start_s - EMA_CONTEXT_S, *floors]), stop_s))
    return heard


def _sessions(one: WindowDataset, other: WindowDataset) -> set[str]:
    """Sessions of which both have a unit in common."""
    shared = set(one.unit_ids) & set(other.unit_ids)
    return {
        s.session_id
        for s in one.selection.sessions
        if shared & set(one.unit_ids[s.first : s.first + len(s.rows)]) and s.session_id in other.session_ids
    }


def _outside(windows: WindowDataset, n_epochs: int) -> list[str]:
    """Windows that leave the stretches of their split."""
    problems = []
    for epoch in range(n_epochs):
        plan = windows.plan(epoch)
        for number, (session_id, stretches) in enumerate(windows.stretches_s.items()):
            session = windows.selection.sessions[number]
            t_s = session.t_start_s + plan.windows[plan.windows[:, 0] == number, 1] / session.tick_hz
            start, stop = t_s - windows.history_s, t_s + windows.horizon_s
            rounding = 2 / session.tick_hz
            inside = np.zeros(len(t_s), bool)
            for a, b in stretches.tolist():
                inside |= (start >= a - rounding) & (stop <= b + rounding)
            problems += [f"window at {t:.3f} s of {session_id} leaves split '{windows.split}'" for t in t_s[~inside]]
    return problems


def _compare(windows: WindowDataset, batch: WindowBatch, row: int, session: Session) -> list[str]:
    """What is wrong with one window."""
    t_s = float(batch.t_s[row])
    mark = round((t_s - session.t_start_s) * session.tick_hz)
    where = f"window at {t_s:.3f} s of {session.session_id}"
    num, den = bin_ticks(windows.bin_s, session.tick_hz)
    unit_id = batch.unit_id[row].numpy()
    selected = windows.selection.sessions[int(batch.session_id[row])]
    column_of = np.full(session.n_units, -1)
    columns = np.flatnonzero(unit_id >= 0)
    column_of[selected.rows[unit_id[columns] - selected.first]] = columns

    def spikes(first_bin: int, stop_bin: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ticks and columns of the spikes of some bins about the mark."""
        start, stop = (mark - (-k * num) // den for k in (first_bin, stop_bin))
        tick, unit = session.ticks(max(start, 0), stop)
        heard = column_of[unit] >= 0
        return tick[heard].astype(np.int64), column_of[unit[heard]]

    def binned(tick: NDArray[np.int64], column: NDArray[np.int64], first_bin: int, n_bins: int) -> NDArray[np.int64]:
        flat = ((tick - mark) * den // num - first_bin) * len(unit_id) + column
        return np.bincount(flat, minlength=n_bins * len(unit_id)).reshape(n_bins, len(unit_id))

    problems = []
    tick, column = spikes(-windows.n_history, 0)
    tokens = slice(int(batch.cu_seqlens[row]), int(batch.cu_seqlens[row + 1]))
    time_s, token = batch.token_time_s[tokens].numpy(), batch.token_unit[tokens].numpy()
    if (late := int((time_s >= 0).sum())) > 0:
        problems.append(f"{where}: {late} tokens are not of the past")
    expected = np.lexsort((column, tick)), np.lexsort((token, time_s))
    if len(time_s) != len(tick) or not (
        np.allclose(time_s[expected[1]], (tick[expected[0]] - mark) / session.tick_hz, rtol=0, atol=1e-5)
        and np.array_equal(np.sort(token), np.sort(column))
    ):
        problems.append(f"{where}: its tokens are not the spikes of its history")
    counted = batch.history.shape[1] > 0
    if counted and not np.array_equal(
        batch.history[row].numpy(), binned(tick, column, -windows.n_history, windows.n_history)
    ):
        problems.append(f"{where}: its history is not what was counted before it")
    if not np.array_equal(batch.counts[row].numpy(), binned(*spikes(0, windows.n_horizon), 0, windows.n_horizon)):
        problems.append(f"{where}: its counts are not those of its horizon")
    if windows.ema_tau_s:
        n_past = round(EMA_CONTEXT_S / windows.bin_s)
        for start_s in windows.look_back_s[session.session_id][:, 0].tolist():
            if start_s <= t_s:  # of these, the last is the nearest
                recorded = mark - round((start_s - session.t_start_s) * session.tick_hz)
                n_past = min(recorded * den // num, round(EMA_CONTEXT_S / windows.bin_s))
        counts = binned(*spikes(-n_past, 0), -n_past, n_past)[::-1]
        weight = np.exp(-np.arange(n_past)[:, None] * windows.bin_s / np.array(windows.ema_tau_s))
        average = weight.T @ counts / (weight.sum(0)[:, None] * windows.bin_s)
        if not np.allclose(batch.ema_hz[row].numpy(), average, rtol=1e-3, atol=1e-3):
            problems.append(f"{where}: its averages are not those of its past")
    for name, value in batch.covariates.items():
        found = value[row].numpy(), batch.covariates_mask[name][row].numpy()
        if not _same(found, _covariate(session, name, t_s, windows.history_s, *found[0].shape)):
            problems.append(f"{where}: its {name} is not that of its past")
    return problems


Steps = tuple[NDArray[np.float32], NDArray[np.bool_]]


def _same(found: Steps, expected: Steps) -> bool:
    return np.array_equal(found[1], expected[1]) and np.allclose(found[0], expected[0], rtol=1e-4, atol=1e-5)


def _covariate(session: Session, name: str, t_s: float, history_s: float, n_steps: int, n_components: int) -> Steps:
    """Values (S, K) of a covariate and whether they are known, from what was recorded before `t_s` alone."""
    value, known = np.zeros((n_steps, n_components), np.float32), np.zeros(n_steps, bool)
    column = ColumnName.parse(name)
    if column is None:
        time_s, sample, _ = session.series(name).get(name, (np.empty(0), np.empty((0, n_components)), ""))
        sample = sample.reshape(len(time_s), n_components)
        there = np.isfinite(time_s) & np.isfinite(sample).all(1) & (time_s < t_s)
        time_s, sample = time_s[there], sample[there]
    else:
        table = session.intervals().get(column.table, {})
        time_s = np.asarray(table.get(column.known, np.empty(0)), np.float64)
        marks = np.asarray(table.get(column.column, np.ones(len(time_s))), np.float64)
        stop_s = np.asarray(table.get("stop_s", time_s), np.float64)
    for k in range(n_steps):
        stop = t_s - (n_steps - 1 - k) * history_s / n_steps
        before = stop - float(edge_s(stop))
        if column is None:
            past = time_s < before
            inside = past & (time_s >= before - history_s / n_steps)
            if inside.any():
                value[k], known[k] = sample[inside].mean(0), True
            elif past.any() and stop - time_s[past].max() <= MAX_GAP_S:
                value[k], known[k] = sample[past][np.argmax(time_s[past])], True
            continue
        past = (time_s < before) & np.isfinite(marks)
        if past.any():
            last = np.flatnonzero(past)[np.argmax(time_s[past])]
            if not time_s[last] < stop_s[last] < before:
                since_s = stop - time_s[last]
                value[k], known[k] = marks[last] * np.exp(-since_s / np.array([np.inf, *FADE_S])), True
    return value, known
