"""One session to be scored: what may be looked at, and what is forecast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhcatalog.place import Place
from nhdata.loading import NoWindows, WindowDataset
from nhdata.loading.selection import Selection
from nhdata.store.session import Session
from nhmodel.baselines import BASELINES
from nhmodel.baselines.protocol import Baseline, null_expected, poisson_loss
from nhmodel.config import Config
from nhmodel.data import open_windows
from nhmodel.evaluation.collect import session_windows
from nhmodel.model import UnitTable
from nhmodel.units import unit_table
from nhmodel.windows import SessionWindows


@dataclass(frozen=True)
class ScoredSession:
    """Windows of one session, for every model alike.

    Attributes
    ----------
    known : WindowDataset
        Unshuffled windows of what may be looked at: the training split, or the reference.
    scored : WindowDataset
        Unshuffled windows to forecast.
    tuning : WindowDataset or None
        The windows of the validation split, where there is one.
    past, truth : SessionWindows
        `known` and `scored` as arrays.
    fit, tune : SessionWindows
        What baselines are fitted to and tuned on: training and validation split, or the first three quarters of the
        reference and its last.
    refit : bool
        Whether they are then fitted once more to all of `past`: where all that is known is a reference.
    """

    known: WindowDataset
    scored: WindowDataset
    tuning: WindowDataset | None
    past: SessionWindows
    truth: SessionWindows
    fit: SessionWindows
    tune: SessionWindows
    refit: bool

    @cached_property
    def null(self) -> NDArray[np.float32]:
        """(N,) expected count per bin of each unit, from `past`: the null of every score."""
        return null_expected(self.past)

    @cached_property
    def strangers(self) -> UnitTable:
        """Its units as a run knows them that never saw them."""
        return unit_table(self.known, None, mean=self.null)

    @cached_property
    def since_onset(self) -> NDArray[np.int64]:
        """(W, T) bins from the latest onset of a trial to each bin of `truth`; -1 before any."""
        return self.truth.bins_since_onset(known=False)

    @classmethod
    def open(
        cls, store: Place, selection: Selection, config: Config, split: str, reference_s: float | None
    ) -> ScoredSession:
        """Read a session.

        Parameters
        ----------
        store : path
        selection : Selection
            Of one session.
        config : Config
        split : str
            The split to score, where there is no reference.
        reference_s : float or None
            Seconds that the session is known by; None for a session with splits.

        Raises
        ------
        NoWindows
            If the session is too short.
        """

        def windows(split: str) -> WindowDataset:
            return open_windows(store, selection, config, split, reference_s=reference_s)

        known = windows("train" if reference_s is None else "reference")
        scored = windows(split if reference_s is None else "rest")
        past = session_windows(known)
        cut = max(1, round(0.75 * past.n_windows))
        fit, tune, tuning = past[slice(0, cut)], past[slice(cut, None)], None
        if reference_s is None:
            with suppress(NoWindows):  # a short session is tuned on the end of its training split
                tuning = windows("valid")
                fit, tune = past, session_windows(tuning)
        return cls(known, scored, tuning, past, session_windows(scored), fit, tune, refit=reference_s is not None)


@dataclass(frozen=True)
class BaselineForecast:
    """What a baseline says of the scored windows, and how well it did on those it was tuned on."""

    name: str
    expected: NDArray[np.float32]
    tuned: NDArray[np.float32]
    tuned_loss: float


def baseline_forecasts(session: ScoredSession, names: Sequence[str]) -> Iterator[BaselineForecast]:
    """Fit, tune and apply baselines, one after another."""
    for name in names:
        tuned = name != "mean"  # which has nothing to tune, and is the null
        baseline: Baseline = BASELINES[name]().fit(session.fit if tuned else session.past, session.tune)
        on_tune = baseline.predict(session.tune)
        if session.refit:
            baseline.refit(session.past)
        expected = baseline.predict(session.truth)
        yield BaselineForecast(name, expected, on_tune, poisson_loss(session.tune.counts, on_tune))


def oracle_forecasts(session: ScoredSession) -> Iterator[tuple[str, NDArray[Any]]]:
    """What no forecaster can know: the mean of the scored windows, and the true rate where it was simulated."""
    truth = session.truth
    yield "flat", np.broadcast_to(truth.counts.mean((0, 1)), truth.counts.shape)
    (selected,) = session.scored.selection.sessions
    rate = Session(selected.path).series().get("true_rate_hz")
    if rate is not None and rate[1].ndim == 2 and rate[1].shape[1] == selected.n_units:
        time_s, rate_hz = rate[0], rate[1][:, selected.rows]
        at_s = truth.t_s[:, None] + (np.arange(truth.n_bins) + 0.5) * truth.bin_s
        place = np.interp(at_s, time_s, np.arange(len(time_s)))
        before = np.minimum(place.astype(np.int64), len(time_s) - 2)
        share = (place - before)[..., None].astype(np.float32)
        yield "true_rate", (rate_hz[before] * (1 - share) + rate_hz[before + 1] * share) * np.float32(truth.bin_s)
