"""From a SQL query to training batches: selection, plan (pure), fetch, collate.

torch is imported when a name that needs it is: `selection` and `plan` need none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nhdata.loading.batch import WindowBatch
    from nhdata.loading.dataset import NoWindows, WindowDataset
    from nhdata.loading.loader import WindowLoader, make_loader
    from nhdata.loading.splits import Splits

__all__ = ["NoWindows", "Splits", "WindowBatch", "WindowDataset", "WindowLoader", "make_loader"]

_HOME = {"WindowBatch": "batch", "NoWindows": "dataset", "WindowDataset": "dataset", "Splits": "splits"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nhdata.loading' has no attribute {name!r}")
    return getattr(import_module(f"nhdata.loading.{_HOME.get(name, 'loader')}"), name)
