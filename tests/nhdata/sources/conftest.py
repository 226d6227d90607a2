"""Small recordings of each format, written without the project's own code."""

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import Position, SpatialSeries
from pynwb.file import Subject

RATE_HZ = 30_000


class Trains(NamedTuple):
    """Spikes of one probe, sorted by time."""

    times: np.ndarray
    clusters: np.ndarray


def random_trains(seed: int, n_spikes: int, n_clusters: int, stop_s: float = 60.0) -> Trains:
    rng = np.random.default_rng(seed)
    return Trains(np.sort(rng.uniform(0, stop_s, n_spikes)), rng.integers(0, n_clusters, n_spikes))


def write_alf_probe(folder: Path, trains: Trains, labels: dict[int, float]) -> None:
    """A probe with 8 channels, 6 clusters and metrics for the clusters in `labels`, in an unlucky order."""
    folder.mkdir(parents=True)
    np.save(folder / "spikes.times.npy", trains.times)
    np.save(folder / "spikes.clusters.npy", trains.clusters.astype(np.uint16))
    np.save(folder / "clusters.channels.npy", np.array([7, 0, 3, 3, 5, 1]))
    np.save(folder / "clusters.depths.npy", np.arange(6) * 20.0)
    np.save(folder / "channels.localCoordinates.npy", np.column_stack([np.arange(8) * 10.0, np.arange(8) * 20.0]))
    region_ids = np.array([997, 385, 0, -672, 123456789, 382, 1, 8])
    np.save(folder / "channels.brainLocationIds_ccf_2017.npy", region_ids)
    uuids = [f"00000000-0000-4000-8000-00000000000{i}" for i in range(6)]
    (folder / "clusters.uuids.csv").write_text("uuids\n" + "\n".join(uuids) + "\n")
    ids = list(labels)[::-1]
    pd.DataFrame(
        {
            "cluster_id": ids,
            "label": [labels[i] for i in ids],
            "firing_rate": [i + 0.5 for i in ids],
            "amp_median": [i * 1e-5 for i in ids],
            "ks2_label": ["good"] * len(ids),
        }
    ).to_parquet(folder / "clusters.metrics.pqt")


@pytest.fixture
def alf_session(tmp_path: Path) -> Path:
    """An IBL session with two probes, trials and a wheel."""
    session = tmp_path / "cache" / "alab" / "Subjects" / "AB_001" / "2023-04-05" / "002"
    alf = session / "alf"
    write_alf_probe(alf / "probe00" / "pykilosort", random_trains(0, 900, 6), {1: 1, 2: 1 / 3, 3: 1, 5: 1})
    write_alf_probe(alf / "probe01", random_trains(1, 500, 6), {0: 1, 1: 2 / 3, 2: 1, 3: 0, 4: 1, 5: 1})
    trials = pd.DataFrame({"intervals_0": [1.0, 4.0, np.nan], "intervals_1": [3.0, 70.0, 9.0], "choice": [1.0, -1, 0]})
    trials.to_parquet(alf / "_ibl_trials.table.pqt")
    np.save(alf / "_ibl_trials.stimOff_times.npy", np.array([2.5, 6.5, 8.5]))
    rng = np.random.default_rng(2)
    np.save(alf / "_ibl_wheel.timestamps.npy", np.cumsum(rng.uniform(0.001, 0.02, 3000)) + 2)
    np.save(alf / "_ibl_wheel.position.npy", np.cumsum(rng.normal(0, 0.01, 3000)))
    np.save(alf / "_ibl_wheelMoves.intervals.npy", np.array([[3.0, 4.0], [5.0, 5.5]]))
    np.save(alf / "_ibl_wheelMoves.peakAmplitude.npy", np.array([0.2, -0.1]))
    return session


@pytest.fixture
def phy_folder(tmp_path: Path) -> Path:
    """A curated Phy folder of five clusters with gaps in their ids; cluster 20 was never rated."""
    folder = tmp_path / "mouse imec1"
    folder.mkdir()
    ids = np.array([2, 3, 7, 11, 20])
    trains = random_trains(3, 800, len(ids))
    np.save(folder / "spike_times.npy", (trains.times * RATE_HZ).astype(np.uint64)[:, None])
    np.save(folder / "spike_clusters.npy", ids[trains.clusters].astype(np.int32))
    (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n2\tgood\n3\tmua\n7\tGood\n11\tnoise\n")
    (folder / "cluster_KSLabel.tsv").write_text("cluster_id\tKSLabel\n2\tmua\n3\tgood\n7\tgood\n11\tgood\n20\tgood\n")
    (folder / "cluster_info.tsv").write_text(
        "id\tamp\tch\tdepth\tfr\tgroup\tn_spikes\tnote\n2\t9.5\t4\t80.0\t1.5\tgood\t9\ta\n7\t8\t5\t100\t2\tgood\t9\t\n"
    )
    (folder / "params.py").write_text("dat_path = r'C:\\data\\x.bin'\nsample_rate = 30000.\nn = len([1])\n")
    return folder


@pytest.fixture
def nwb_file(tmp_path: Path) -> Path:
    """An NWB file written by PyNWB: five units on two probes, trials, position and running speed."""
    path = tmp_path / "session.nwb"
    nwb = NWBFile("test", "Mouse 1/é", datetime(2022, 3, 4, 12, tzinfo=UTC), lab="A lab")
    nwb.subject = Subject(subject_id="M1", species="Mus musculus", sex="U", age="P60D")
    device = nwb.create_device("array")
    groups = [nwb.create_electrode_group(name, "d", "brain", device) for name in ("probeA", "probeB")]
    for i, location in enumerate(["VISp", "unknown", "CA1", "CA3"]):
        nwb.add_electrode(x=float(i), y=10.0 * i, z=0.0, location=location, group=groups[i // 2])
    nwb.add_unit_column("quality", "rating")
    nwb.add_unit_column("snr", "signal to noise")
    nwb.add_unit_column("firing_rate", "Hz")
    nwb.add_unit_column("shape", "not scalar")
    rng = np.random.default_rng(4)
    for i, (quality, electrodes) in enumerate(
        [("good", [0, 1]), ("mua", [1]), ("Good", [3, 2]), ("noise", [2]), ("good", [1])]
    ):
        nwb.add_unit(
            spike_times=np.sort(rng.uniform(0, 50, 40 + i)),
            quality=quality,
            snr=1.0 + i,
            firing_rate=2.0 * i,
            shape=np.zeros(3),
            electrodes=electrodes,
            electrode_group=groups[electrodes[0] // 2],
            id=100 + i,
        )
    nwb.add_trial_column("side", "of the stimulus")
    nwb.add_trial_column("cues", "ragged", index=True)
    for start, stop, side, cues in [
        (0.0, 2.0, "left", [1.0]),
        (3.0, np.nan, "right", []),
        (5.0, 80.0, "left", [6.0]),
    ]:
        nwb.add_trial(start_time=start, stop_time=stop, side=side, cues=cues)
    behavior = nwb.create_processing_module("behavior", "b")
    place = SpatialSeries(
        name="xy",
        data=np.arange(10.0).reshape(5, 2),
        timestamps=np.arange(5) * 0.5,
        unit="cm",
        reference_frame="r",
    )
    behavior.add(Position(spatial_series=place, name="Position"))
    running = nwb.create_processing_module("running", "r")
    counts = np.array([1, 2, 3], np.int16)
    running.add(TimeSeries(name="speed", data=counts, rate=10.0, starting_time=4.0, unit="cm/s", conversion=0.5))
    running.add(TimeSeries(name="xy", data=np.zeros(2), rate=1.0, unit="m"))
    running.add(TimeSeries(name="video", data=np.zeros((2, 9)), rate=1.0, unit="m"))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)
    return path
