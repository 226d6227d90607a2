"""Write one session: the store's Zarr group beside plain HDF5."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nhdata.features.warm_up import warm_up
from nhdata.store.encode import encode
from nhdata.store.write import write_session

from .data import SAMPLE_RATE_HZ, recording


class WriteSession:
    """Spikes in memory to files that would survive a power cut.

    HDF5 as temporaldata lays it out (time in float64 seconds, unit in int64, contiguous), and the same with gzip. The
    store's time includes what only it does: integer ticks, the content hash, the index and the reference features.
    """

    number = 1
    timeout = 600

    def setup(self) -> None:
        warm_up()
        self.recording = recording()
        self.time_s = self.recording.spikes.time / SAMPLE_RATE_HZ
        self.unit = self.recording.spikes.unit.astype(np.int64)
        self.folder = Path(tempfile.mkdtemp(prefix="bench-ingest-"))

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def time_store(self) -> None:
        write_session(self.folder / "session", encode(self.recording))

    def time_hdf5(self) -> None:
        self._hdf5()

    def time_hdf5_gzip(self) -> None:
        self._hdf5(compression="gzip")

    def track_store(self) -> float:
        self.time_store()
        return self._bytes_per_spike()

    def track_hdf5(self) -> float:
        self.time_hdf5()
        return self._bytes_per_spike()

    def track_hdf5_gzip(self) -> float:
        self.time_hdf5_gzip()
        return self._bytes_per_spike()

    for track in (track_store, track_hdf5, track_hdf5_gzip):
        track.unit = "bytes/spike"  # type: ignore[attr-defined]
    del track

    def _hdf5(self, **options: Any) -> None:
        with h5py.File(self.folder / "session.h5", "w") as file:
            file.create_dataset("spikes/timestamps", data=self.time_s, **options)
            file.create_dataset("spikes/unit_index", data=self.unit, **options)
        handle = os.open(self.folder / "session.h5", os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)

    def _bytes_per_spike(self) -> float:
        return sum(p.stat().st_size for p in self.folder.rglob("*") if p.is_file()) / len(self.unit)
