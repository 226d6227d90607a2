"""Features by name, in sets that go together: what ``nhdata features --set`` offers besides the 33."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.bursts import burst_index
from nhdata.features.coupling import population_coupling
from nhdata.features.fano import fano_factor
from nhdata.features.firing import presence_ratio
from nhdata.features.isi import cv2, local_variation
from nhdata.features.quality import contamination_hill, contamination_llobet, refractory_violations
from nhdata.features.reference import FEATURE_NAMES, reference_features
from nhdata.features.sliding_rp import max_confidence
from nhdata.features.trains import Trains

Columns = dict[str, NDArray[Any]]

SETS: dict[str, Callable[[Trains], Columns]] = {
    "reference": lambda trains: dict(zip(FEATURE_NAMES, reference_features(trains).T, strict=True)),
    "irregularity": lambda trains: {"cv2": cv2(trains), "local_variation": local_variation(trains)},
    "bursts": lambda trains: {"burst_index_6ms": burst_index(trains, 0.006)},
    "fano": lambda trains: dict(
        zip(("fano_50ms", "fano_100ms", "fano_1s"), fano_factor(trains, (0.05, 0.1, 1.0)).T, strict=True)
    ),
    "quality": lambda trains: {
        "presence_ratio_60s": presence_ratio(trains, 60.0),
        "refractory_violations_1500us": refractory_violations(trains, 0.0015),
        "contamination_hill_1500us": contamination_hill(trains, 0.0015),
        "contamination_llobet_1ms": contamination_llobet(trains, 0.001),
        "max_confidence": max_confidence(trains),
    },
    "population": lambda trains: {"population_coupling_10ms": population_coupling(trains, 0.01)},
}


def check_sets(names: Sequence[str]) -> None:
    """Hold names of sets against those there are.

    Raises
    ------
    UserError
        If one is not there.
    """
    if unknown := [name for name in names if name not in SETS]:
        raise UserError(f"there is no set of features {unknown[0]!r}", f"choose from {', '.join(SETS)}")


def feature_columns(trains: Trains, names: Sequence[str] = ("reference",)) -> Columns:
    """The columns of several sets, each (n_units,), in the order asked for.

    Raises
    ------
    UserError
        If a set is not there.

    Examples
    --------
    >>> import numpy as np
    >>> from nhdata.features.trains import spike_trains
    >>> tick = np.arange(0, 1000, 20, dtype=np.uint32)
    >>> one = spike_trains(tick, np.zeros(50, np.uint16), n_units=1, tick_hz=1000.0, pieces=[(0, 1000)])
    >>> {name: float(values[0]) for name, values in feature_columns(one, ["irregularity", "bursts"]).items()}
    {'cv2': 0.0, 'local_variation': 0.0, 'burst_index_6ms': 0.0}
    """
    check_sets(names)
    columns: Columns = {}
    for name in names:
        columns |= SETS[name](trains)
    return columns
