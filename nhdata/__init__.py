"""Spike-sorted recordings in chunked Zarr stores, found by SQL, read as arrays and training batches.

>>> import nhdata
>>> store = nhdata.open("data.zarr")  # doctest: +SKIP
>>> store.sql("select region, count(*) from units where good group by 1")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nhdata.store.store import open_store as open

__all__ = ["open"]


def __getattr__(name: str) -> Any:
    if name == "open":
        from nhdata.store.store import open_store

        return open_store
    raise AttributeError(f"module 'nhdata' has no attribute {name!r}")
