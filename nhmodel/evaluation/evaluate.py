"""Score a run, session by session, beside the null, a flat forecast and the baselines."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.loading import NoWindows, WindowDataset
from nhdata.loading.selection import Selection, select_units, units_by_id
from nhdata.store.store import Store, open_store
from nhmodel.baselines import BASELINES
from nhmodel.baselines.protocol import null_expected
from nhmodel.bootstrap import bootstrap_delta, bootstrap_fp_bps
from nhmodel.data import open_windows
from nhmodel.evaluation.collect import session_windows
from nhmodel.metrics import ScoreSums, scores
from nhmodel.model import NeuroHorizon, UnitTable
from nhmodel.run import RunInfo, fingerprints, load
from nhmodel.training.schedule import free_threads
from nhmodel.units import rows_by_id, unit_table
from nhmodel.windows import SessionWindows

MODEL = "neurohorizon"
ORACLES = ("null", "flat")
N_EXAMPLES = 6


@dataclass(frozen=True)
class Example:
    """A unit's counts and forecasts, summed over each window's horizon: for pictures."""

    session_id: str
    unit_id: str
    t_s: NDArray[np.float64]
    counts: NDArray[np.float64]
    expected: NDArray[np.float64]


@dataclass
class Evaluation:
    """Scores of all models on the same windows.

    Attributes
    ----------
    split : str
    horizon_s, bin_s : float
    sums : dict of (regime, model) to ScoreSums
    windows_hash : str
        Of all scored windows, over all sessions.
    skipped : dict
        Sessions that are too short to be scored, with the reason.
    examples : list of Example
    """

    split: str
    horizon_s: float
    bin_s: float
    sums: dict[tuple[str, str], ScoreSums] = field(default_factory=dict)
    windows_hash: str = ""
    skipped: dict[str, str] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)

    @property
    def regimes(self) -> list[str]:
        """``seen``, ``zero-shot``: those that were scored."""
        return list(dict.fromkeys(regime for regime, _ in self.sums))

    def rows(self, regime: str) -> list[dict[str, Any]]:
        """One row of scores per model."""
        out = []
        for (of, model), sums in self.sums.items():
            if of == regime:
                lo, hi = bootstrap_fp_bps(sums)
                out.append({"model": model, "regime": regime, **scores(sums), "fp_bps_ci95": [lo, hi]})
        return out

    def best_baseline(self, regime: str) -> str:
        """The baseline of the highest fp-bps; oracles and the null do not count."""
        names = [m for r, m in self.sums if r == regime and m != MODEL and m not in ORACLES] or ["null"]
        best: dict[str, float] = {m: scores(self.sums[regime, m])["fp_bps"] or 0.0 for m in names}
        return max(best, key=best.__getitem__)

    def delta(self, regime: str) -> dict[str, Any]:
        """Model minus best baseline, in fp-bps, with a paired bootstrap interval."""
        best = self.best_baseline(regime)
        mine, other = self.sums[regime, MODEL], self.sums[regime, best]
        lo, hi = bootstrap_delta(mine, other)
        delta = (scores(mine)["fp_bps"] or 0.0) - (scores(other)["fp_bps"] or 0.0)
        return {"baseline": best, "fp_bps": delta, "ci95": [lo, hi], "regime": regime}

    def sessions(self) -> list[dict[str, Any]]:
        """fp-bps of every model in every session."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for (regime, model), sums in self.sums.items():
            for session_id, part in sums.sessions.items():
                row = found.setdefault(
                    (regime, session_id),
                    {"session_id": session_id, "regime": regime, "n_units": len(part.unit_spikes)},
                )
                row.setdefault("fp_bps", {})[model] = scores(ScoreSums({session_id: part}))["fp_bps"]
        return list(found.values())

    def to_json(self, run: str) -> dict[str, Any]:
        """The object that ``nhmodel evaluate --json`` prints."""
        rows = [row for regime in self.regimes for row in self.rows(regime)]
        deltas = [self.delta(regime) for regime in self.regimes]
        return {
            "schema": 1,
            "run": run,
            "split": self.split,
            "horizon_s": self.horizon_s,
            "bin_s": self.bin_s,
            "n_windows": sum(self.rows(r)[0]["n_windows"] for r in self.regimes),
            "windows_hash": self.windows_hash,
            "scores": rows,
            "delta_best_baseline": deltas[0],
            "deltas_by_regime": deltas,
            "sessions": self.sessions(),
            "skipped": [{"session_id": session_id, "reason": why} for session_id, why in self.skipped.items()],
        }


def evaluate(
    run: str | Path,
    store_path: str | Path,
    *,
    split: str = "test",
    select: str | None = None,
    reference_s: float = 60.0,
    weights: str = "best",
    baselines: Sequence[str] | None = None,
    on_start: Callable[[int], None] = lambda n: None,
    on_session: Callable[[str], None] = lambda session_id: None,
) -> Evaluation:
    """Score a run on a store.

    Sessions that the run was trained on are scored on `split`; baselines and the null come from their training
    split. Sessions it never saw are scored from their first `reference_s` seconds on ("zero-shot"): that
    reference alone gives the model its features, and the baselines and the null their fit (baselines are fitted to
    its first three quarters and tuned on the last). Only ``test`` is a fair split: ``valid`` chose the weights and
    tuned the baselines, ``train`` is what both learnt from.

    Parameters
    ----------
    run : path
    store_path : path
    split : {"test", "valid", "train"}
    select : str, optional
        Units to score in sessions that the run never saw; the run's own query by default.
    reference_s : float
    weights : {"best", "last"}
    baselines : sequence of str, optional
        Names in `nhmodel.baselines.BASELINES`; all of them by default.
    on_start, on_session : callable
        Told the number of sessions, then each one before it is scored.

    Raises
    ------
    UserError
        If the run or the store is not there, a session of training has changed, or nothing can be scored.
    """
    if split not in ("train", "valid", "test"):
        raise UserError(f"unknown split '{split}'", "choose train, valid or test")
    if not 0 < reference_s < math.inf:
        raise UserError(f"a reference of {reference_s} s", "give a positive number of seconds, e.g. 60")
    names = list(BASELINES) if baselines is None else list(baselines)
    for name in names:
        if name not in BASELINES:
            raise UserError(f"unknown baseline '{name}'", f"choose from {', '.join(BASELINES)}")
    info, model = RunInfo.read(Path(run)), load(run, weights)
    torch.set_num_threads(info.config.train.threads or free_threads())
    store = open_store(store_path)
    query = info.query if select is None else select
    plan = [("seen", s) for s in _seen(info, store)] + [("zero-shot", s) for s in _unseen(info, store, query)]
    if not plan:
        raise UserError(f"{store_path} has no unit to score for {query!r}", "name another store, or other units")
    out = Evaluation(split, info.config.data.horizon_s, info.config.data.bin_s)
    marks, trained = fingerprints(store), {mark: s for s, mark in info.fingerprint.items()}
    digest = hashlib.sha256()
    on_start(len(plan))
    for regime, selection in plan:
        (session_id,) = (session.session_id for session in selection.sessions)
        on_session(session_id)
        if regime == "zero-shot" and marks[session_id] in trained:
            out.skipped[session_id] = (
                f"the same recording as {trained[marks[session_id]]}, which the run was trained on"
            )
            continue
        try:
            digest.update(_score_session(out, model, info, store, selection, regime, names, reference_s).encode())
        except NoWindows as error:
            out.skipped[session_id] = error.problem
    if not out.sums:
        raise UserError("; ".join(out.skipped.values()), "name a store with longer sessions, or a shorter reference")
    out.windows_hash = digest.hexdigest()
    return out


def _seen(info: RunInfo, store: Store) -> list[Selection]:
    """Sessions of training that the store holds, one selection each; refuses those that changed."""
    here = [s for s in sorted(info.content_hash) if s in store.snapshot.entries]
    for session_id in here:
        if store.snapshot.entries[session_id].content_hash != info.content_hash[session_id]:
            raise UserError(
                f"session {session_id} in {store.path} is not the one that the run was trained on",
                "evaluate on the store as it was, or train again",
            )
    selection = units_by_id(store, set(info.unit_ids), info.query)
    return [selection.only([session_id]) for session_id in here]


def _unseen(info: RunInfo, store: Store, query: str) -> list[Selection]:
    """Sessions that the run never saw, one selection each."""
    if all(session_id in info.content_hash for session_id in store.snapshot.entries):
        return []
    selection = select_units(store, query)
    new = [s.session_id for s in selection.sessions if s.session_id not in info.content_hash]
    return [selection.only([session_id]) for session_id in new]


def _score_session(
    out: Evaluation,
    model: NeuroHorizon,
    info: RunInfo,
    store: Store,
    selection: Selection,
    regime: str,
    baselines: list[str],
    reference_s: float,
) -> str:
    """Add one session's sums of every model; returns the hash of its windows."""

    def windows(split: str) -> WindowDataset:
        return open_windows(store.path, selection, info.config, split, reference_s=reference_s)

    known = windows("train" if regime == "seen" else "reference")
    scored = windows(out.split if regime == "seen" else "rest")
    past = session_windows(known)
    null = null_expected(past)
    units = unit_table(known, rows_by_id(info.unit_ids) if regime == "seen" else None, mean=null)
    fit, tune = _last_quarter(past)
    if regime == "seen":
        with suppress(NoWindows):  # a short session is tuned on the end of its training split
            fit, tune = past, session_windows(windows("valid"))
    truth = session_windows(scored)

    def add(name: str, expected: NDArray[Any]) -> None:
        sums = out.sums.setdefault((regime, name), ScoreSums())
        sums.add(truth.session_id, truth.t_s, truth.counts, expected, null)

    forecast = predict(model, scored, units)
    add(MODEL, forecast)
    add("null", np.broadcast_to(null, truth.counts.shape))
    add("flat", np.broadcast_to(truth.counts.mean((0, 1)), truth.counts.shape))
    for name in baselines:
        tuned = name != "mean"  # which has nothing to tune, and is the null
        add(name, BASELINES[name]().fit(fit if tuned else past, tune).predict(truth))
    out.examples += _examples(truth, forecast)[: N_EXAMPLES - len(out.examples)]
    return scored.windows_hash


def _last_quarter(known: SessionWindows) -> tuple[SessionWindows, SessionWindows]:
    """What baselines are fitted to and what they are tuned on, where there is nothing but a reference."""
    cut = max(1, round(0.75 * known.n_windows))
    return known[slice(0, cut)], known[slice(cut, None)]


@torch.no_grad()
def predict(model: NeuroHorizon, windows: WindowDataset, units: UnitTable) -> NDArray[np.float32]:
    """Expected counts (W, T, N) of every window of an unshuffled data set of one session."""
    model.eval()
    return np.concatenate([model(batch, units).exp().numpy() for batch in windows])


def _examples(truth: SessionWindows, forecast: NDArray[np.float32]) -> list[Example]:
    """The two units of a session with the most spikes."""
    busiest = np.argsort(truth.counts.sum((0, 1), dtype=np.int64))[::-1][:2]
    return [
        Example(
            truth.session_id,
            str(truth.unit_id[u]),
            truth.t_s,
            truth.counts[:, :, u].sum(1).astype(float),
            forecast[:, :, u].sum(1).astype(float),
        )
        for u in busiest
    ]
