"""Read what one session of a store holds."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhcatalog.files import Files
from nhcatalog.place import Place
from nhcatalog.storage import open_files
from nhdata.store.columns import read_column, read_table
from nhdata.store.groups import open_group
from nhdata.store.html import heading, table
from nhdata.store.layout import BLOCK_S, NO_TICK, tick_at
from nhdata.store.shards import SpikeShards
from nhdata.store.window import Span

_AGAIN = "restore it from a copy, or ingest it again with 'nhdata ingest … --existing overwrite'"


class StoredSession:
    """What is stored of one session; `nhdata.store.session.Session` adds what is computed from it.

    Nothing is read before it is asked for, and nothing is ever written.

    Parameters
    ----------
    path : Path or Url
        The session's Zarr group.

    Raises
    ------
    UserError
        If no session is there.
    """

    def __init__(self, path: Place) -> None:
        self.path = path
        try:
            self._set_attrs(dict(self._group.attrs))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path}/zarr.json: not a readable session", _AGAIN) from None

    def _set_attrs(self, attrs: dict[str, Any]) -> None:
        self.attrs = attrs
        self.session_id: str = attrs["session_id"]
        self.source: str = attrs["source"]
        self.t_start_s: float = attrs["t_start_s"]
        self.duration_s: float = attrs["duration_s"]
        self.tick_hz: float = attrs["tick_hz"]
        self.n_units: int = attrs["n_units"]
        self.n_spikes: int = attrs["n_spikes"]

    def __repr__(self) -> str:
        return (
            f"<Session {self.session_id} ({self.source}): {self.n_units} units, {self.n_spikes:,} spikes, "
            f"{self.duration_s:.1f} s>"
        )

    def _repr_html_(self) -> str:
        names = ("source", "subject", "lab", "date", "duration_s", "tick_hz", "n_units", "n_spikes")
        regions = Counter(read_column(self._array("units/region")).tolist() if "units/region" in self._group else [])
        tables = [(f"intervals {name}", n_rows) for name, n_rows in self.interval_lengths().items()]
        tables += [(f"series {name}", shape[0]) for name, shape in self.series_shapes().items()]
        return (
            heading(f"Session {self.session_id}", {name: self.attrs[name] for name in names})
            + table(("region", "units"), regions.most_common())
            + table(("holds", "rows"), tables)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "attrs": self.attrs}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore without reading anything: the process may only pass the session on, e.g. a dask scheduler."""
        self.path = state["path"]
        self._set_attrs(state["attrs"])

    @property
    def span(self) -> Span:
        """The session's whole time."""
        return Span(self.session_id, self.t_start_s, self.t_stop_s, self.tick_hz)

    @property
    def t_stop_s(self) -> float:
        """End of the session, seconds on its own clock."""
        return self.t_start_s + self.duration_s

    @cached_property
    def _files(self) -> Files:
        return open_files(self.path)

    @cached_property
    def _group(self) -> zarr.Group:
        try:
            return open_group(self.path, self._files)
        except FileNotFoundError:
            raise UserError(f"{self.path}: no session here", _AGAIN) from None

    @cached_property
    def block_offsets(self) -> NDArray[np.int64]:
        """(n_blocks + 1,) offsets of the first spike at or after each 100 ms; the last is the number of spikes."""
        return np.asarray(self._array("spikes/block")[...])

    @cached_property
    def shards(self) -> SpikeShards | None:
        """The files of the spikes, to decode them straight; None if they are laid out in another way."""
        try:
            return SpikeShards(self._files)
        except (ValueError, FileNotFoundError):  # zarr reads it, or says what is wrong
            return None

    def _node(self, name: str) -> zarr.Array[Any] | zarr.Group:
        """An array or group of the session. Raises UserError if it is missing."""
        try:
            return self._group[name]
        except KeyError:
            if "zarr.json" in self._files.names(""):
                raise UserError(f"{self.path}/{name}: missing", _AGAIN) from None
            raise UserError(
                f"{self.path}: this session was moved or deleted after it was opened", "open the store again"
            ) from None

    def _array(self, name: str) -> zarr.Array[Any]:
        node = self._node(name)
        assert isinstance(node, zarr.Array)
        return node

    def _subgroup(self, name: str) -> zarr.Group:
        node = self._node(name)
        assert isinstance(node, zarr.Group)
        return node

    def ticks(self, start_tick: int = 0, stop_tick: int | None = None) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
        """Spikes of ``[start_tick, stop_tick)`` on the session's integer clock.

        Returns
        -------
        tick : (n,) uint32
            Sorted ticks since the start of the session.
        unit : (n,) uint16
            Row of each spike's unit.
        """
        tick, unit = self.read(*self.offsets(start_tick, stop_tick))
        first = np.searchsorted(tick, _uint32(start_tick))
        stop = tick.size if stop_tick is None else np.searchsorted(tick, _uint32(stop_tick))
        return tick[first:stop], unit[first:stop]

    def offsets(self, start_tick: int = 0, stop_tick: int | None = None) -> tuple[int, int]:
        """Where ``[start_tick, stop_tick)`` lies among the spikes: all of it in ``[lo, hi)``, and up to 100 ms more."""
        lo, hi = 0, self.n_spikes
        last = self.block_offsets.size - 1
        per_block = BLOCK_S * self.tick_hz
        if start_tick > 0:
            lo = int(self.block_offsets[min(int(start_tick / per_block), last)])
        if stop_tick is not None:
            hi = int(self.block_offsets[min(max(int(stop_tick / per_block) + 1, 0), last)])
        return lo, hi

    def read(self, lo: int, hi: int) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
        """Spikes ``lo:hi``, counted from the first of the session: ticks and rows of units."""
        if self.shards is not None:
            return self.shards.read(lo, hi)
        return np.asarray(self._array("spikes/tick")[lo:hi]), np.asarray(self._array("spikes/unit")[lo:hi])

    def spikes(
        self, start_s: float | None = None, stop_s: float | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
        """Spikes of the half-open window ``[start_s, stop_s)``, by default of the whole session.

        Returns
        -------
        times_s : (n,) float64
            Sorted spike times, seconds on the session's clock.
        unit : (n,) uint16
            Row of each spike's unit in `units`.

        Raises
        ------
        UserError
            If the window ends before it starts.
        """
        start_s = self.t_start_s if start_s is None else start_s
        stop_s = self.t_stop_s if stop_s is None else stop_s
        if not start_s <= stop_s:
            raise UserError(f"the window [{start_s}, {stop_s}) s ends before it starts", "give start_s <= stop_s")
        inside = (min(max(t, self.t_start_s), self.t_stop_s) for t in (start_s, stop_s))
        tick, unit = self.ticks(*(tick_at(t, self.t_start_s, self.tick_hz) for t in inside))
        return self.t_start_s + tick / self.tick_hz, unit

    def units(self) -> dict[str, NDArray[Any]]:
        """Columns of the units table, each (n_units,); missing text is ''."""
        return self._table("units")

    def intervals(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Tables of time spans by name (``trials``, …), each with ``start_s`` and ``stop_s``."""
        return {name: self._table(f"intervals/{name}") for name in self._names("intervals")}

    def interval_lengths(self) -> dict[str, int]:
        """Number of rows of all tables of time spans, without reading them."""
        return {name: self._array(f"intervals/{name}/start_s").shape[0] for name in self._names("intervals")}

    def interval_table(self, name: str) -> dict[str, NDArray[Any]]:
        """One table of time spans. Raises UserError if there is none of that name."""
        names = self._names("intervals")
        if name not in names:
            there = ", ".join(names) or "none"
            raise UserError(f"session {self.session_id} has no interval table {name!r}", f"it has: {there}")
        return self._table(f"intervals/{name}")

    def series_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the values of all continuous signals, (n,) or (n, k), without reading them."""
        return {name: self._array(f"series/{name}/value").shape for name in self._names("series")}

    def series_units(self) -> dict[str, str]:
        """Units of the values of all continuous signals, without reading the values."""
        return {name: str(self._node(f"series/{name}").attrs["unit"]) for name in self._names("series")}

    def series(self, *names: str) -> dict[str, tuple[NDArray[np.float64], NDArray[Any], str]]:
        """Continuous signals by name, all or some: ``time_s`` (n,), ``value`` (n,) or (n, k), and the value's unit."""
        return {
            name: (
                read_column(self._array(f"series/{name}/time_s")),
                read_column(self._array(f"series/{name}/value")),
                str(self._node(f"series/{name}").attrs["unit"]),
            )
            for name in self._names("series")
            if not names or name in names
        }

    def _names(self, kind: str) -> list[str]:
        return sorted(self._subgroup(kind).group_keys())

    def _table(self, name: str) -> dict[str, NDArray[Any]]:
        return read_table(self._subgroup(name))

    def reference_features(self) -> NDArray[np.float64]:
        """(n_units, 33) the reference features stored at ingest, NaN where undefined."""
        return np.asarray(self._array("features/reference/value")[...])

    @property
    def feature_attrs(self) -> dict[str, Any]:
        """Window and version of the stored reference features."""
        return dict(self._node("features/reference").attrs)


def _uint32(tick: int) -> np.uint32:
    """`tick`, or the nearest end of the clock; another integer type would make searchsorted convert all spikes."""
    return np.uint32(min(max(tick, 0), NO_TICK))
