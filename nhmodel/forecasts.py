"""Forecasts of a run, session by session, and files of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.loading import NoWindows
from nhdata.store.store import open_store
from nhmodel.baselines import BASELINES
from nhmodel.evaluation.identity import REGIMES, predict, unseen_forecasts
from nhmodel.evaluation.plan import plan_sessions
from nhmodel.evaluation.session import ScoredSession, baseline_forecasts
from nhmodel.run import RunInfo, load
from nhmodel.units import rows_by_id, unit_table


@dataclass(frozen=True)
class Forecast:
    """What a run says of one session.

    Attributes
    ----------
    session_id : str
    regime : str
        ``seen``, or how the units of a session never seen are known.
    unit_ids : tuple of str
    t_s : (W,) float64
        End of each window's history.
    expected : (W, T, N) float32
        Expected counts per bin.
    counts : (W, T, N) unsigned integer
        What came.
    bin_s : float
    """

    session_id: str
    regime: str
    unit_ids: tuple[str, ...]
    t_s: NDArray[np.float64]
    expected: NDArray[np.float32]
    counts: NDArray[np.unsignedinteger]
    bin_s: float


def forecasts(
    run: str | Path,
    store_path: str | Path,
    *,
    split: str = "test",
    select: str | None = None,
    reference_s: float = 60.0,
    regime: str = "adapted",
    on_skip: Callable[[str, str], None] = lambda session_id, reason: None,
) -> Iterator[Forecast]:
    """Forecast the windows that `nhmodel.evaluation.evaluate` scores.

    Parameters
    ----------
    run, store_path, split, select, reference_s
        As `nhmodel.evaluation.evaluate`; `split` may also be ``all``, for a whole recording.
    regime : str
        How units of sessions never seen are known, out of `nhmodel.evaluation.identity.REGIMES`.
    on_skip : callable
        Told of sessions that are left out, and why.

    Raises
    ------
    UserError
        If the run or the store is not there, or nothing can be forecast.
    """
    if regime not in REGIMES:
        raise UserError(f"unknown regime '{regime}'", f"choose from {', '.join(REGIMES)}")
    info, model = RunInfo.read(Path(run)), load(run)
    store, found = open_store(store_path), False
    for planned in plan_sessions(info, store, select):
        if planned.refused is not None:
            on_skip(planned.session_id, planned.refused)
            continue
        try:
            session = ScoredSession.open(
                store.path, planned.selection, info.config, split, None if planned.seen else reference_s
            )
        except NoWindows as error:
            on_skip(planned.session_id, error.problem)
            continue
        if planned.seen:
            units = unit_table(session.known, rows_by_id(info.unit_ids), mean=session.null)
            way, expected = "seen", predict(model, session.scored, units)
        else:
            best = None
            if regime == "hybrid":
                best = min(baseline_forecasts(session, list(BASELINES)), key=lambda forecast: forecast.tuned_loss)
            ((way, expected),) = unseen_forecasts(model, session, [regime], best)
        found = True
        truth = session.truth
        unit_ids = planned.selection.unit_ids
        yield Forecast(planned.session_id, way, unit_ids, truth.t_s, expected, truth.counts, truth.bin_s)
    if not found:
        raise UserError("no session has a window to forecast", "name a store with longer sessions")


def write_zarr(found: Iterator[Forecast], path: Path, attrs: dict[str, Any]) -> list[str]:
    """Rates as a Zarr store that xarray opens: a group for every session, dimensions (window, bin, unit).

    Parameters
    ----------
    found : iterator of Forecast
    path : path
        Must not be there; it appears whole, by one rename.
    attrs : dict
        Kept with every group.

    Returns
    -------
    list of str
        Ids of the sessions.
    """
    session_ids = []
    with staged(path) as folder:
        for forecast in found:
            rate = xr.DataArray(
                forecast.expected / np.float32(forecast.bin_s),
                dims=("window", "bin", "unit"),
                coords={
                    "t_s": ("window", forecast.t_s, {"unit": "s", "description": "end of the history"}),
                    "ahead_s": (
                        "bin",
                        (np.arange(forecast.expected.shape[1]) + 0.5) * forecast.bin_s,
                        {"unit": "s", "description": "centre of the bin after t_s"},
                    ),
                },
                attrs={"unit": "Hz"},
            )
            about = {"session_id": forecast.session_id, "regime": forecast.regime, "unit_id": list(forecast.unit_ids)}
            data = xr.Dataset({"rate_hz": rate}, attrs={**attrs, **about})
            data.to_zarr(folder, group=forecast.session_id, mode="a", consolidated=False, zarr_format=3)
            session_ids.append(forecast.session_id)
    return session_ids


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A folder to write to that becomes `path` at the end, or vanishes.

    Raises
    ------
    UserError
        If `path` is there already.
    """
    if path.exists():
        raise UserError(f"{path} is there already", "name another --out, or remove it")
    folder = path.with_name(f".{path.name}.{os.getpid()}.part")
    folder.mkdir(parents=True)
    try:
        yield folder
        os.rename(folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
