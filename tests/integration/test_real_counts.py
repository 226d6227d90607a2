"""Four real recordings in one store: its counts against counts read from the files without our readers."""

import csv
from collections import defaultdict
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

import nhdata
from nhdata.ingest import ingest
from nhdata.sources import SourceOptions

pytestmark = pytest.mark.realdata

ALF = "ibl_alf/cortexlab/Subjects/REAL_001/2022-06-01/001/alf/probe00/pykilosort"
HC3 = "nwb/hc3/ec013_626.nwb"
HUMAN = "nwb/human/sub-4_ses-4_ecephys+image.nwb"
PHY = "phy/neuropixels_trial"


def good_alf(folder: Path) -> dict[int, int]:
    """Spikes of each cluster with label 1."""
    metrics = pq.read_table(folder / "clusters.metrics.pqt", columns=["cluster_id", "label"]).to_pylist()
    clusters = np.load(folder / "spikes.clusters.npy")
    return {row["cluster_id"]: int((clusters == row["cluster_id"]).sum()) for row in metrics if row["label"] == 1}


def good_phy(folder: Path) -> dict[int, int]:
    """Spikes of each cluster that was curated as good."""
    with open(folder / "cluster_group.tsv") as file:
        ids, groups = zip(*[list(row.values())[:2] for row in csv.DictReader(file, delimiter="\t")], strict=True)
    good = [int(i) for i, group in zip(ids, groups, strict=True) if group == "good"]
    clusters = np.load(folder / "spike_clusters.npy").ravel()
    return {i: int((clusters == i).sum()) for i in good if (clusters == i).any()}


def good_nwb(path: Path) -> dict[int, int]:
    """Spikes of each unit that the file calls good; of all where it rates none."""
    with h5py.File(path) as file:
        units = file["units"]
        n_spikes = np.diff(units["spike_times_index"][:].astype(np.int64), prepend=0)
        quality = units["quality"].asstr()[:] if "quality" in units else np.full(n_spikes.size, "good")
        return {int(i): int(n) for i, n, q in zip(units["id"][:], n_spikes, quality, strict=True) if q == "good"}


@pytest.fixture(scope="module")
def root(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("real") / "data.zarr"
    for source, paths in {
        "ibl": ["ibl_alf"],
        "nwb": ["nwb/hc3", "nwb/human"],
        "phy": ["phy/neuropixels_trial"],
    }.items():
        options = SourceOptions(sample_rate_hz=30000.0) if source == "phy" else SourceOptions()
        report = ingest(root, source, [realdata / path for path in paths], options=options)
        assert (report.skipped, report.failed) == ([], [])
    return root


@pytest.fixture(scope="module")
def expected(realdata: Path) -> dict[str, list[dict[int, int]]]:
    """Spikes by unit of every recording, by source."""
    return {
        "ibl": [good_alf(realdata / ALF)],
        "nwb": [good_nwb(realdata / HC3), good_nwb(realdata / HUMAN)],
        "phy": [good_phy(realdata / PHY)],
    }


def test_one_query_over_all_sources_counts_what_the_files_hold(root, expected):
    store = nhdata.open(root)
    assert len(store.session_ids) == 4
    rows = store.sql("select source, count(*) as n, sum(n_spikes) as s from units group by 1 order by 1").to_pylist()
    assert [(row["source"], row["n"], row["s"]) for row in rows] == [
        (source, sum(len(units) for units in recordings), sum(sum(units.values()) for units in recordings))
        for source, recordings in sorted(expected.items())
    ]
    assert all(row["n"] >= 10 for row in rows)


def test_every_unit_has_its_own_spikes(root, expected):
    found = defaultdict(lambda: defaultdict(dict))
    query = "select source, session_id, cluster_id, n_spikes from units"
    for row in nhdata.open(root).sql(query).to_pylist():
        found[row["source"]][row["session_id"]][row["cluster_id"]] = row["n_spikes"]
    for source, recordings in expected.items():
        sessions = list(found[source].values())
        assert len(sessions) == len(recordings)
        assert all(units in sessions for units in recordings), source


def test_the_same_recording_as_alf_and_as_phy_has_the_same_spikes(root, realdata):
    """Both hold one Neuropixels recording; ALF in seconds, Phy in samples."""
    store = nhdata.open(root)
    (alf,) = store.sql("select session_id from sessions where source = 'ibl'")["session_id"].to_pylist()
    (phy,) = store.sql("select session_id from sessions where source = 'phy'")["session_id"].to_pylist()
    alf, phy = store.session(alf), store.session(phy)
    clusters = np.intersect1d(alf.units()["cluster_id"], phy.units()["cluster_id"])
    assert clusters.size > 100

    def train(session, cluster):
        times_s, unit = session.spikes()
        return times_s[unit == np.flatnonzero(session.units()["cluster_id"] == cluster)[0]]

    for cluster in clusters[:: clusters.size // 10]:
        np.testing.assert_allclose(train(alf, cluster), train(phy, cluster), rtol=0, atol=0.5e-6 + 1e-9)


def test_stored_spikes_are_the_files_to_half_a_tick(root, realdata):
    store = nhdata.open(root)
    for path in (HC3, HUMAN):
        with h5py.File(realdata / path) as file:
            units = file["units"]
            trains = np.split(units["spike_times"][:], units["spike_times_index"][:-1])
            ids = units["id"][:].tolist()
        n_spikes = sum(good_nwb(realdata / path).values())
        query = "select session_id from sessions where source = 'nwb' and n_spikes = ?"
        (session_id,) = store.sql(query, [n_spikes])["session_id"].to_pylist()
        session = store.session(session_id)
        times_s, unit = session.spikes()
        for row, cluster in enumerate(session.units()["cluster_id"]):
            train = np.sort(trains[ids.index(cluster)])
            np.testing.assert_allclose(times_s[unit == row], train, rtol=0, atol=0.51 / session.tick_hz + 1e-9)


def test_counts_hold_every_spike_of_whole_bins(root):
    store = nhdata.open(root)
    for session_id in store.session_ids:
        session = store.session(session_id)
        counts = session.counts(0.02)
        stop_s = float(counts["time"][-1]) + 0.02
        assert int(counts.sum()) == session.spikes(None, min(stop_s, session.t_stop_s))[0].size
