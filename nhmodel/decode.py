"""Behaviour read from a trained encoder: a linear readout, beside one of the binned spikes themselves.

The network stays as it is. What it makes of a window's past (the latents after the processor, their mean at each step
of the latent grid) is regressed on what the animal did at the end of that past.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from nhcatalog.errors import UserError
from nhdata.loading import NoWindows, WindowDataset
from nhdata.store.session import Session
from nhdata.store.store import open_store
from nhmodel.data import open_windows
from nhmodel.evaluation.collect import onsets
from nhmodel.evaluation.plan import plan_sessions
from nhmodel.model import NeuroHorizon, UnitTable
from nhmodel.run import RunInfo, load
from nhmodel.units import rows_by_id, unit_table

SPLITS = ("train", "valid", "test")
STRENGTHS = (1e1, 1e2, 1e3, 1e4, 1e5)
TARGET_S = 0.1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Decoded:
    """How well one session's behaviour is read.

    Attributes
    ----------
    session_id, target : str
    kind : {"r2", "balanced_accuracy"}
    encoder, spikes, chance : float
        On test windows: from the encoder, from binned spikes, and from neither.
    n_windows : int
    """

    session_id: str
    target: str
    kind: str
    encoder: float
    spikes: float
    chance: float
    n_windows: int


def decode(
    run: str | Path,
    store_path: str | Path,
    target: str,
    *,
    on_skip: Callable[[str, str], None] = lambda session_id, reason: None,
) -> list[Decoded]:
    """Read a behaviour from every session of training that has it.

    Parameters
    ----------
    run, store_path : path
    target : str
        A series (``wheel_velocity``, ``running_speed``, …; ``position.0`` for one column of several), of which the
        mean over the last 100 ms of each history is read and scored by R²; or ``trials.<column>``, the label of a
        trial, read from the first window that ends at least a history after the onset and scored by balanced accuracy.
    on_skip : callable
        Told of sessions that are left out, and why.

    Returns
    -------
    list of Decoded
        Readouts are fitted to the training split and their strength chosen on the validation split.

    Raises
    ------
    UserError
        If no session has the target, or it is a series of several columns and names none of them.
    """
    info, model = RunInfo.read(Path(run)), load(run)
    store, out = open_store(store_path), []
    for planned in plan_sessions(info, store, None):
        if not planned.seen:
            continue
        (selected,) = planned.selection.sessions
        values = _target(Session(selected.path), target)
        if values is None:
            on_skip(planned.session_id, f"it has no {target}")
            continue
        try:
            parts = {s: open_windows(store.path, planned.selection, info.config, s) for s in SPLITS}
        except NoWindows as error:
            on_skip(planned.session_id, error.problem)
            continue
        units = unit_table(parts["train"], rows_by_id(info.unit_ids))
        read = {split: _read(model, windows, units, values) for split, windows in parts.items()}
        if min(len(y) for _, _, y in read.values()) < 2:
            on_skip(planned.session_id, f"too few windows with {target}")
            continue
        out.append(_score(planned.session_id, target, read))
    if not out:
        raise UserError(f"no session of the run has '{target}'", "name a series or trials.<column> ('nhdata info')")
    return out


def _target(session: Session, target: str) -> Callable[[Floats, float], NDArray[Any]] | None:
    """What gives the target at some times, NaN (or '') where there is none; None if the session lacks it."""
    table, dot, column = target.partition(".")
    found = session.series().get(table)
    if found is not None:
        return _mean(found[0], _column(table, found[1], column))
    if not dot:
        return None
    trials = session.intervals().get(table, {})
    if column not in trials:
        return None
    start_s, label = onsets(trials), np.asarray(trials[column]).astype(str)

    def of_trial(at_s: Floats, history_s: float) -> NDArray[Any]:
        out = np.full(len(at_s), "", dtype=object)
        for onset_s, name in zip(start_s, label, strict=True):
            first = np.searchsorted(at_s, onset_s + history_s)
            if first < len(at_s) and at_s[first] < onset_s + 2 * history_s and name not in ("", "nan"):
                out[first] = name
        return out

    return of_trial


def _column(name: str, value: NDArray[Any], column: str) -> Floats:
    """The one signal of a series, or the column of that number. Raises UserError if there is none such."""
    if value.ndim == 1 and not column:
        return value.astype(np.float64)
    if value.ndim == 2 and column.isdecimal() and int(column) < value.shape[1]:
        return value[:, int(column)].astype(np.float64)
    n = 1 if value.ndim == 1 else value.shape[1]
    names = name if value.ndim == 1 else ", ".join(f"{name}.{k}" for k in range(n))
    raise UserError(f"{name} has {n} columns", f"name one: {names}")


def _mean(time_s: Floats, value: Floats) -> Callable[[Floats, float], NDArray[Any]] | None:
    """The mean of what was measured in the last `TARGET_S` before some times; None of an empty signal."""
    if not len(time_s):
        return None
    measured = np.isfinite(value)
    total = np.concatenate([[0.0], np.cumsum(np.where(measured, value, 0.0))])
    count = np.concatenate([[0], np.cumsum(measured)])

    def mean(at_s: Floats, history_s: float) -> NDArray[Any]:
        lo, hi = (np.searchsorted(time_s, edge) for edge in (at_s - TARGET_S, at_s))
        n = count[hi] - count[lo]
        return np.where(n > 0, (total[hi] - total[lo]) / np.maximum(n, 1), np.nan)

    return mean


@torch.no_grad()
def _read(
    model: NeuroHorizon, windows: WindowDataset, units: UnitTable, target: Callable[[Floats, float], NDArray[Any]]
) -> tuple[Floats, Floats, NDArray[Any]]:
    """States of the encoder, binned spikes and target of every window that has one."""
    batches = list(windows)
    y = target(np.concatenate([b.t_s.numpy() for b in batches]), windows.history_s)
    states = np.concatenate([model.states(b, units).flatten(1).numpy() for b in batches])
    spikes = np.concatenate([b.history.float().sqrt().flatten(1).numpy() for b in batches])
    there = y != "" if y.dtype == object else np.isfinite(y)
    return states[there].astype(np.float64), spikes[there].astype(np.float64), y[there]


def _score(session_id: str, target: str, read: dict[str, tuple[Floats, Floats, NDArray[Any]]]) -> Decoded:
    fit, tune, test = (read[split] for split in SPLITS)
    labels = fit[2].dtype == object
    found = [_readout(fit[k], tune[k], test[k], fit[2], tune[2], test[2], labels) for k in (0, 1)]
    chance = 1 / len(np.unique(fit[2])) if labels else r2_score(test[2], np.full(len(test[2]), fit[2].mean()))
    kind = "balanced_accuracy" if labels else "r2"
    return Decoded(session_id, target, kind, found[0], found[1], float(chance), len(test[2]))


def _readout(fit: Floats, tune: Floats, test: Floats, y_fit: Any, y_tune: Any, y_test: Any, labels: bool) -> float:
    """Score on `test` of the readout whose strength is best on `tune`."""
    scale = StandardScaler().fit(fit)
    x_fit, x_tune, x_test = (scale.transform(x) for x in (fit, tune, test))
    score = balanced_accuracy if labels else r2_score
    if labels and len(np.unique(y_fit)) < 2:
        raise UserError("all trials of the training split have one label", "name another column")
    made = [(LogisticRegression(C=1 / s, max_iter=2000) if labels else Ridge(s)).fit(x_fit, y_fit) for s in STRENGTHS]
    best = max(made, key=lambda readout: score(y_tune, readout.predict(x_tune)))
    return float(score(y_test, best.predict(x_test)))


def balanced_accuracy(labels: NDArray[Any], said: NDArray[Any]) -> float:
    """Share of right answers, for each label that there is, and then their mean."""
    return float(np.mean([np.mean(said[labels == label] == label) for label in set(labels)]))
