"""Write one session of an IBL-like recording: the store beside a temporaldata HDF5 and a compressed NWB."""

import multiprocessing
import os
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nhdata.features.warm_up import warm_up
from nhdata.recording import Recording, Spikes
from nhdata.store.commit import add_session
from nhdata.store.encode import encode

from .data import SAMPLE_RATE_HZ, recording


def ibl_like() -> Recording:
    """The benchmarks' recording with times in float64 seconds on a session clock that drifts, as IBL's are."""
    one = recording()
    time_s = one.spikes.time / SAMPLE_RATE_HZ * (1 + 1.7e-5) + 0.0123
    return replace(one, spikes=Spikes(time_s, one.spikes.unit.astype(np.int32)), stop_s=one.stop_s + 1)


class WriteSession:
    """Spikes in memory to files that would survive a power cut.

    The store's time includes what only it does: integer ticks in order, the content hash, the index, the reference
    features and the commit. temporaldata writes float64 times and int64 units, contiguous, by its own `to_hdf5`. NWB is
    written by PyNWB with gzip; it gets the spikes already grouped by unit, as it stores them, at no cost.
    """

    number = 1
    timeout = 600

    def setup(self) -> None:
        warm_up()
        self.recording = ibl_like()
        self.n_spikes = len(self.recording.spikes.time)
        self.folder = Path(tempfile.mkdtemp(prefix="bench-ingest-"))
        self.by_unit = np.argsort(self.recording.spikes.unit, kind="stable")
        self.by_unit = self.recording.spikes.time[self.by_unit]
        self.stops = np.cumsum(np.bincount(self.recording.spikes.unit, minlength=self.recording.n_units))

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def time_store(self) -> None:
        add_session(self.folder / "data.zarr", encode(self.recording), replace=True)

    def time_temporaldata(self) -> None:
        from temporaldata import ArrayDict, Data, IrregularTimeSeries

        spikes = self.recording.spikes
        data = Data(
            spikes=IrregularTimeSeries(spikes.time, unit_index=spikes.unit.astype(np.int64), domain="auto"),
            units=ArrayDict(id=np.arange(self.recording.n_units).astype(str)),
            domain="auto",
        )
        with h5py.File(self.folder / "session.h5", "w") as file:
            data.to_hdf5(file)
        sync(self.folder / "session.h5")

    def time_nwb_gzip(self) -> None:
        from hdmf.backends.hdf5 import H5DataIO
        from hdmf.common import VectorData, VectorIndex
        from pynwb import NWBHDF5IO, NWBFile
        from pynwb.misc import Units

        times = VectorData(name="spike_times", description="s", data=H5DataIO(self.by_unit, compression="gzip"))
        index = VectorIndex(name="spike_times_index", target=times, data=self.stops)
        file = NWBFile("benchmark", "bench", datetime(2026, 1, 1, tzinfo=UTC))
        file.units = Units(name="units", description="units", id=np.arange(len(self.stops)), columns=[times, index])
        with NWBHDF5IO(self.folder / "session.nwb", "w") as io:
            io.write(file)
        sync(self.folder / "session.nwb")

    def track_store(self) -> float:
        self.time_store()
        return self._bytes_per_spike()

    def track_temporaldata(self) -> float:
        self.time_temporaldata()
        return self._bytes_per_spike()

    def track_nwb_gzip(self) -> float:
        self.time_nwb_gzip()
        return self._bytes_per_spike()

    for track in (track_store, track_temporaldata, track_nwb_gzip):
        track.unit = "bytes/spike"  # type: ignore[attr-defined]
    del track

    def track_peak_memory(self) -> float:
        """Of a process that holds the raw arrays and writes them: its peak over what it had before, in raw arrays."""
        if not Path("/proc/self/status").exists():
            raise NotImplementedError("peak memory is read from Linux's /proc")
        spikes = self.recording.spikes
        np.save(self.folder / "time.npy", spikes.time)
        np.save(self.folder / "unit.npy", spikes.unit)
        rest = replace(self.recording, spikes=Spikes(spikes.time[:0], spikes.unit[:0]))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak: int = pool.apply(_peak_bytes, (self.folder, rest))
        return peak / (spikes.time.nbytes + spikes.unit.nbytes)

    track_peak_memory.unit = "times the raw arrays"  # type: ignore[attr-defined]

    def _bytes_per_spike(self) -> float:
        return sum(p.stat().st_size for p in self.folder.rglob("*") if p.is_file()) / self.n_spikes


def _peak_bytes(folder: Path, rest: Recording) -> int:
    warm_up()
    small = replace(rest, spikes=Spikes(np.array([0.5, 1.0]), np.array([0, 1], np.int32)), session_id="small")
    add_session(folder / "warm.zarr", encode(small))  # all that is imported and compiled once
    before = _most_bytes()
    spikes = Spikes(np.load(folder / "time.npy"), np.load(folder / "unit.npy"))
    add_session(folder / "data.zarr", encode(replace(rest, spikes=spikes)))
    return _most_bytes() - before


def _most_bytes() -> int:
    """The most memory that this process ever had; getrusage would count what its parent had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def sync(path: Path) -> None:
    """fsync one file, as the store does its own."""
    handle: Any = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
