"""Write one session of an IBL-like recording: the store beside a temporaldata HDF5 and a compressed NWB."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np

from nhdata.features.warm_up import warm_up
from nhdata.recording import Recording, Spikes
from nhdata.store.commit import add_session
from nhdata.store.encode import encode

from .data import N_SPIKES, SAMPLE_RATE_HZ, recording


def ibl_like(n_spikes: int = N_SPIKES) -> Recording:
    """The benchmarks' recording with times in float64 seconds on a session clock that drifts, as IBL's are."""
    one = recording(n_spikes)
    time_s = one.spikes.time / SAMPLE_RATE_HZ * (1 + 1.7e-5) + 0.0123
    return replace(one, spikes=Spikes(time_s, one.spikes.unit.astype(np.int32)), stop_s=one.stop_s + 1)


def write_ours(folder: Path, one: Recording) -> None:
    add_session(folder / "data.zarr", encode(one), replace=True)


def write_temporaldata(folder: Path, one: Recording) -> None:
    from temporaldata import ArrayDict, Data, IrregularTimeSeries

    spikes = one.spikes
    data = Data(
        spikes=IrregularTimeSeries(spikes.time, unit_index=spikes.unit.astype(np.int64), domain="auto"),
        units=ArrayDict(id=np.arange(one.n_units).astype(str)),
        domain="auto",
    )
    with h5py.File(folder / "session.h5", "w") as file:
        data.to_hdf5(file)
    sync(folder / "session.h5")


def write_nwb_gzip(folder: Path, one: Recording) -> None:
    from hdmf.backends.hdf5 import H5DataIO
    from hdmf.common import VectorData, VectorIndex
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.misc import Units

    by_unit = one.spikes.time[np.argsort(one.spikes.unit, kind="stable")]
    stops = np.cumsum(np.bincount(one.spikes.unit, minlength=one.n_units))
    times = VectorData(name="spike_times", description="s", data=H5DataIO(by_unit, compression="gzip"))
    index = VectorIndex(name="spike_times_index", target=times, data=stops)
    file = NWBFile("benchmark", "bench", datetime(2026, 1, 1, tzinfo=UTC))
    file.units = Units(name="units", description="units", id=np.arange(len(stops)), columns=[times, index])
    with NWBHDF5IO(folder / "session.nwb", "w") as io:
        io.write(file)
    sync(folder / "session.nwb")


class _Recorded:
    """The recording in memory, and a folder to write to."""

    number = 1
    timeout = 600

    def setup(self) -> None:
        warm_up()
        self.recording = ibl_like()
        self.folder = Path(tempfile.mkdtemp(prefix="bench-ingest-"))

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


class WriteSession(_Recorded):
    """Spikes in memory to files that would survive a power cut.

    The store's time includes what only it does: integer ticks in order, the content hash, the index, the reference
    features and the commit. temporaldata writes float64 times and int64 units, contiguous, by its own `to_hdf5`. NWB is
    written by PyNWB with gzip, grouped by unit.
    """

    def time_ours(self) -> None:
        write_ours(self.folder, self.recording)

    def time_temporaldata(self) -> None:
        write_temporaldata(self.folder, self.recording)

    def time_nwb_gzip(self) -> None:
        write_nwb_gzip(self.folder, self.recording)


class FileSize(_Recorded):
    """All files of a session."""

    unit = "bytes/spike"

    def track_ours(self) -> float:
        return self._bytes_per_spike(write_ours)

    def track_temporaldata(self) -> float:
        return self._bytes_per_spike(write_temporaldata)

    def track_nwb_gzip(self) -> float:
        return self._bytes_per_spike(write_nwb_gzip)

    def _bytes_per_spike(self, write: Callable[[Path, Recording], None]) -> float:
        write(self.folder, self.recording)
        return sum(p.stat().st_size for p in self.folder.rglob("*") if p.is_file()) / N_SPIKES


class WritingMemory(_Recorded):
    """Of a process that holds the raw arrays and writes them: its peak over what it had before, in raw arrays."""

    unit = "times the raw arrays"

    def setup(self) -> None:
        if not Path("/proc/self/status").exists():
            raise NotImplementedError("peak memory is read from Linux's /proc")
        super().setup()

    def track_ours(self) -> float:
        return self._peak("write_ours")

    def track_temporaldata(self) -> float:
        return self._peak("write_temporaldata")

    def track_nwb_gzip(self) -> float:
        return self._peak("write_nwb_gzip")

    def _peak(self, write: str) -> float:
        spikes = self.recording.spikes
        np.save(self.folder / "time.npy", spikes.time)
        np.save(self.folder / "unit.npy", spikes.unit)
        code = f"from {__name__} import *; print(peak_bytes({write}, Path({str(self.folder)!r})))"
        command = [sys.executable, "-W", "ignore", "-c", code]
        root = str(Path(__file__).parents[1])
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])}
        said = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
        return float(said) / (spikes.time.nbytes + spikes.unit.nbytes)


def peak_bytes(write: Callable[[Path, Recording], None], folder: Path) -> int:
    """What `write` needs beyond what a first call of it, on few spikes, imports and compiles."""
    warm_up()
    small = ibl_like(1000)
    (folder / "warm").mkdir()
    write(folder / "warm", small)
    before = most_bytes()
    spikes = Spikes(np.load(folder / "time.npy"), np.load(folder / "unit.npy"))
    stop_s = float(spikes.time[-1]) + 1
    write(folder, replace(small, spikes=spikes, stop_s=stop_s))
    return most_bytes() - before


def most_bytes() -> int:
    """The most memory that this process ever had; getrusage would count what its parent had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def sync(path: Path) -> None:
    """fsync one file, as the store does its own."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
