"""The ways to forecast a session, by what is known of its units.

Of a session of training:

``seen``
    By the run alone.
``seen-hybrid``
    On top of the best baseline, as ``hybrid``, weighted on the validation split.

Of a session that the run never saw, with nothing but a reference to know its units by:

``zero-shot``
    Embeddings by the IDEncoder, from the reference features.
``adapted``
    The same, and a residual for each unit, fitted to the reference; the network stays as it is.
``learned``
    Embeddings fitted to the reference alone, all from one start: what the features are worth by contrast.
``hybrid``
    The best baseline's log rate as offset, the adapted network's gain on top; both weighted (two numbers) on the
    last quarter of the reference, while baseline and embeddings knew the first three.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nhdata.loading import WindowBatch, WindowDataset
from nhmodel.baselines.newton import fit_poisson
from nhmodel.baselines.protocol import null_expected, poisson_loss
from nhmodel.evaluation.session import BaselineForecast, ScoredSession
from nhmodel.model import NeuroHorizon, UnitTable

REGIMES = ("zero-shot", "adapted", "hybrid", "learned")
"""Of sessions never seen."""
WAYS = ("seen-hybrid", *REGIMES)
"""All that may be asked for; ``seen`` is always there."""

LEARNING_RATE = 0.01
MAX_STEPS, CHECK_EVERY, PATIENCE = 300, 10, 50
DEFAULT_STEPS = 60
"""Where the reference is too short to choose a number of steps."""
PRIOR_WEIGHT = 0.5
"""Of baseline and network alike, where the reference says nothing about them."""

Expected = NDArray[np.float32]


class FittedIdentity(nn.Module):
    """Embeddings of the units of one data set, by their row: a start, and what was learnt besides."""

    start: Tensor

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.register_buffer("start", start)
        self.residual = nn.Parameter(torch.zeros_like(start))

    def forward(self, features: Tensor, row: Tensor) -> Tensor:
        embeddings: Tensor = (self.start + self.residual)[row]
        return embeddings


@torch.no_grad()
def predict(
    model: NeuroHorizon,
    batches: WindowDataset | Sequence[WindowBatch],
    units: UnitTable,
    without: Collection[str] = (),
) -> Expected:
    """Expected counts (W, T, N) of every window of one session's batches, `without` some covariates."""
    model.eval()
    return np.concatenate([model(batch, units, without=without).exp().numpy() for batch in batches])


def seen_forecasts(
    model: NeuroHorizon,
    session: ScoredSession,
    regimes: Sequence[str],
    units: UnitTable,
    baseline: BaselineForecast | None = None,
) -> Iterator[tuple[str, Expected]]:
    """Forecasts of a session of training: by the model alone and, if `regimes` say so, on top of a baseline.

    Parameters
    ----------
    model : NeuroHorizon
    session : ScoredSession
        With a validation split where the regimes say ``seen-hybrid``.
    regimes : sequence of str
        Out of `WAYS`.
    units : UnitTable
        Its units, as the model knows them from training.
    baseline : BaselineForecast, optional
    """
    expected = predict(model, session.scored, units)
    yield "seen", expected
    if "seen-hybrid" in regimes and baseline is not None and session.tuning is not None:
        yield "seen-hybrid", blend(session, baseline, predict(model, session.tuning, units), expected)


def unseen_forecasts(
    model: NeuroHorizon,
    session: ScoredSession,
    regimes: Sequence[str],
    baseline: BaselineForecast | None = None,
    seed: int = 0,
) -> Iterator[tuple[str, Expected]]:
    """Forecasts of a session that the model never saw, one for each way to know its units.

    Parameters
    ----------
    model : NeuroHorizon
        Stays as it is.
    session : ScoredSession
        With a reference.
    regimes : sequence of str
        Out of `REGIMES`.
    baseline : BaselineForecast, optional
        The offset of ``hybrid``, which is left out without one.
    seed : int
        Of the windows that embeddings are fitted to.
    """
    units = session.strangers
    if "zero-shot" in regimes:
        yield "zero-shot", predict(model, session.scored, units)
    for regime, alike in (("adapted", False), ("learned", True)):
        if regime not in regimes and not (regime == "adapted" and "hybrid" in regimes):
            continue
        tuned, expected = fitted_forecast(model, session, units, starts(model, units, alike=alike), seed)
        if regime in regimes:
            yield regime, expected
        if regime == "adapted" and "hybrid" in regimes and baseline is not None:
            yield "hybrid", blend(session, baseline, tuned, expected)


@torch.no_grad()
def starts(model: NeuroHorizon, units: UnitTable, *, alike: bool) -> Tensor:
    """(U, dim) embeddings to start from: by the features, or the typical one for all."""
    model.eval()
    features = torch.full_like(units.features, torch.nan) if alike else units.features
    start: Tensor = model.identity(features, torch.full_like(units.row, -1))
    if alike and model.identity.table is not None:
        start = start + model.identity.table.mean(0)
    return start


def fitted_forecast(
    model: NeuroHorizon, session: ScoredSession, units: UnitTable, start: Tensor, seed: int
) -> tuple[Expected, Expected]:
    """Fit embeddings to the reference, as many steps as its last quarter asks for.

    Returns
    -------
    tuned : (W', T, N) float32
        Forecast of the last quarter, by embeddings fitted to the first three.
    expected : (W, T, N) float32
        Forecast of the scored windows, by embeddings fitted to the whole.
    """
    marks = session.known.plan().windows
    cut, size = session.fit.n_windows, session.known.batch_size
    on_fit = units._replace(log_mean=torch.from_numpy(np.log(null_expected(session.fit))))
    tune = [session.known.collate(marks[k : k + size]) for k in range(cut, len(marks), size)]
    fitted = _Fit(model, session.known, on_fit, start, marks[:cut], seed)
    steps, tuned = DEFAULT_STEPS, np.empty((0, *session.truth.counts.shape[1:]), np.float32)
    if tune:
        best = np.inf
        while fitted.steps <= MAX_STEPS and fitted.steps - (steps if best < np.inf else 0) <= PATIENCE:
            forecast = predict(fitted.model, tune, fitted.units)
            loss = poisson_loss(session.tune.counts, forecast)
            if loss < best:
                best, steps, tuned = loss, fitted.steps, forecast
            fitted.learn(CHECK_EVERY)
    whole = _Fit(model, session.known, units, start, marks, seed)
    whole.learn(steps)
    return tuned, predict(whole.model, session.scored, whole.units)


class _Fit:
    """Embeddings on their way: random windows between the first and the last mark, the network frozen."""

    def __init__(
        self,
        model: NeuroHorizon,
        windows: WindowDataset,
        units: UnitTable,
        start: Tensor,
        marks: NDArray[np.int64],
        seed: int,
    ) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        identity = FittedIdentity(start)
        self.model.set_submodule("identity", identity)
        self.units = units._replace(row=torch.arange(len(units.row)))
        self.windows, self.span, self.steps = windows, (marks[0, 1], marks[-1, 1]), 0
        self.rng = np.random.default_rng(seed)
        self.optimizer = torch.optim.Adam([identity.residual], lr=LEARNING_RATE)

    def learn(self, steps: int) -> None:
        """Make `steps` steps more."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.steps)
            self.model.train()
            for _ in range(steps):
                marks = self.rng.integers(self.span[0], self.span[1], self.windows.batch_size, endpoint=True)
                batch = self.windows.collate(np.column_stack([np.zeros_like(marks), marks]))
                self.optimizer.zero_grad()
                self.model.compute_loss(batch, self.units).backward()
                self.optimizer.step()
        self.steps += steps


def blend(session: ScoredSession, baseline: BaselineForecast, tuned: Expected, expected: Expected) -> Expected:
    """``log rate = log mean + a · log(baseline / mean) + b · log(network / mean)``.

    a and b come from the windows that baselines are tuned on, drawn (with the strength of a few
    spikes) towards equal halves.
    """
    known = null_expected(session.fit)
    features = np.stack([np.log(baseline.tuned / known), np.log(tuned / known)], axis=-1).astype(np.float64)
    counts = session.tune.counts.astype(np.float64)
    (weight,) = fit_poisson(
        features.reshape(1, -1, 2),
        counts.reshape(1, -1),
        np.broadcast_to(np.log(known.astype(np.float64)), counts.shape).reshape(1, -1),
        np.full((1, 2), PRIOR_WEIGHT),
        ridge=10.0,
    )
    a, b = weight.clip(0, 1.5).astype(np.float32)
    null = session.null
    blended: Expected = null * np.exp(a * np.log(baseline.expected / null) + b * np.log(expected / null))
    return blended
