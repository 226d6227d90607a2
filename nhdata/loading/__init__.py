"""From a SQL query to training batches: selection, plan (pure), fetch, collate."""

from nhdata.loading.batch import WindowBatch
from nhdata.loading.dataset import NoWindows, WindowDataset
from nhdata.loading.loader import WindowLoader, make_loader

__all__ = ["NoWindows", "WindowBatch", "WindowDataset", "WindowLoader", "make_loader"]
