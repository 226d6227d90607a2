"""NeuroHorizon: forecasts of every unit's spike counts, scored against honest baselines.

>>> import nhmodel
>>> model = nhmodel.load("runs/x")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nhmodel.run import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from nhmodel.run import load

        return load
    raise AttributeError(f"module 'nhmodel' has no attribute {name!r}")
