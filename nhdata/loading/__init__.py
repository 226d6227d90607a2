"""From a SQL query to training batches: selection, plan (pure), fetch, collate.

torch is imported when a name that needs it is: `selection` and `plan` need none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nhdata.loading.audit import audit_batches, audit_splits
    from nhdata.loading.batch import WindowBatch
    from nhdata.loading.dataset import NoWindows, WindowDataset
    from nhdata.loading.loader import WindowLoader, make_loader
    from nhdata.loading.quality import ShuffleQuality, shuffle_quality
    from nhdata.loading.splits import Splits

_HOME = {
    "NoWindows": "dataset",
    "ShuffleQuality": "quality",
    "Splits": "splits",
    "WindowBatch": "batch",
    "WindowDataset": "dataset",
    "WindowLoader": "loader",
    "audit_batches": "audit",
    "audit_splits": "audit",
    "make_loader": "loader",
    "shuffle_quality": "quality",
}
__all__ = [
    "NoWindows",
    "ShuffleQuality",
    "Splits",
    "WindowBatch",
    "WindowDataset",
    "WindowLoader",
    "audit_batches",
    "audit_splits",
    "make_loader",
    "shuffle_quality",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nhdata.loading' has no attribute {name!r}")
    return getattr(import_module(f"nhdata.loading.{_HOME[name]}"), name)
