"""Columns, tables and series keep what the source holds, whatever they are called."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.epoch import TimeIntervals

import nhdata
from nhdata.ingest import ingest
from nhdata.names import free_name
from nhdata.recording import Recording
from nhdata.sources import SourceOptions, open_source
from nhdata.sources._columns import add_columns

N_UNITS, N_TRIALS = 12, 4
UNITS = {
    "unit_id": [f"S{u}" for u in range(N_UNITS)],
    "rate_hz": [1.5] * N_UNITS,
    "source": ["imec"] * N_UNITS,
    "Depth": [float(u) for u in range(N_UNITS)],
    "depth": [100.0 * u for u in range(N_UNITS)],
    "metrics": ["m"] * N_UNITS,
    "深度": [1.0 + u for u in range(N_UNITS)],
    "质量": [2.0 * u for u in range(N_UNITS)],
}
TRIALS = {
    "good": [True, False, True, True],
    "source": ["left", "right", "left", "left"],
    "RT": [0.1, 0.2, 0.3, 0.4],
    "rt": [1.0, 2.0, 3.0, 4.0],
    "反应": [5.0, 6.0, 7.0, 8.0],
    "刺激": ["α", "β", "α", "β"],
}


@pytest.fixture
def nwb(tmp_path: Path) -> Path:
    """A file whose columns, tables and series have every kind of unhappy name."""
    file = NWBFile("names", "names", pd.Timestamp("2024-05-01T12:00:00Z").to_pydatetime())
    for name in UNITS:
        file.add_unit_column(name, name)
    for u in range(N_UNITS):
        spikes = np.sort(np.random.default_rng(u).uniform(0, 60, 50))
        file.add_unit(spike_times=spikes, **{name: values[u] for name, values in UNITS.items()})
    for name in TRIALS:
        file.add_trial_column(name, name)
    for i in range(N_TRIALS):
        values = {name: column[i] for name, column in TRIALS.items()}
        file.add_trial(start_time=3.0 * i, stop_time=3.0 * i + 2, **values)
    for name, n_rows in (("左", 1), ("右", 2), ("Trials", 3)):
        table = TimeIntervals(name=name, description=name)
        for i in range(n_rows):
            table.add_row(start_time=float(i), stop_time=i + 0.5)
        file.add_time_intervals(table)
    module = file.create_processing_module("behavior", "behavior")
    for name, value in (("位置", 1.0), ("速度", 2.0), ("Speed", 3.0), ("speed", 4.0)):
        module.add(TimeSeries(name=name, data=[value] * 3, unit="m", rate=1.0))
    path = tmp_path / "names.nwb"
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def load(source: str, path: Path) -> Recording:
    reader = open_source(source)
    (ref,) = reader.iter_sessions([path])
    return reader.load(ref)


def test_every_column_table_and_series_of_nwb_is_kept(nwb: Path) -> None:
    recording = load("nwb", nwb)
    columns = [values.tolist() for values in recording.units.values()]
    assert all(values in columns for values in UNITS.values())
    tables = recording.intervals.values()
    assert sorted(len(table["start_s"]) for table in tables) == [1, 2, 3, N_TRIALS]
    trials = next(table for table in tables if len(table["start_s"]) == N_TRIALS)
    kept = [values.tolist() for values in trials.values()]
    assert all(values in kept for values in TRIALS.values())
    assert trials["good"].tolist() == TRIALS["good"]  # nothing but start_s and stop_s is ours
    assert sorted(float(series.value[0]) for series in recording.series.values()) == [1.0, 2.0, 3.0, 4.0]
    for names in (recording.units, trials, recording.intervals, recording.series):
        assert len({name.lower() for name in names}) == len(names)


def test_each_renaming_is_noted_and_nothing_else(nwb: Path) -> None:
    notes = load("nwb", nwb).provenance.notes
    assert all(" is stored as " in note for note in notes)
    said = " ".join(notes)
    renamed = ("unit_id", "rate_hz", "source", "metrics", "深度", "质量", "反应", "刺激", "左", "右", "位置", "速度")
    assert all(f"{name} is stored as" in said for name in renamed)
    assert "good" not in said


def test_sql_reaches_them_and_the_notes(nwb: Path, tmp_path: Path) -> None:
    store = tmp_path / "data.zarr"
    assert ingest(store, "nwb", [nwb]).failed == []
    opened = nhdata.open(store)
    row = opened.sql("select rate_hz, source, metrics from units order by unit_index limit 1").to_pylist()[0]
    assert row["source"] == "nwb"
    assert row["rate_hz"] != 1.5
    metrics = json.loads(row["metrics"])
    assert (metrics["source_rate_hz"], metrics["source_source"], metrics["source_metrics"]) == (1.5, "imec", "m")
    (trial,) = opened.sql("select fields from intervals where name = 'trials' and interval_index = 1").to_pylist()
    fields = json.loads(trial["fields"])
    assert (fields["good"], fields["source"]) == (False, "right")
    assert {"RT", "rt_2"} <= fields.keys()
    notes = opened.sql("select value from provenance where kind = 'note'").to_pylist()
    assert any("rt is stored as rt_2" in note["value"] for note in notes)


def test_phy_keeps_them_too(tmp_path: Path) -> None:
    folder = tmp_path / "mouse1"
    folder.mkdir()
    clusters = np.repeat(np.arange(N_UNITS), 20)
    np.save(folder / "spike_times.npy", np.arange(len(clusters), dtype=np.int64) * 100)
    np.save(folder / "spike_clusters.npy", np.random.default_rng(0).permutation(clusters))
    (folder / "params.py").write_text("sample_rate = 30000.")
    table = {
        "cluster_id": range(N_UNITS),
        "group": ["good"] * N_UNITS,
        "rt": 1.5,
        "RT": 2.5,
        "source": "imec",
        "层": 3.5,
    }
    pd.DataFrame(table).to_csv(folder / "cluster_info.tsv", sep="\t", index=False)
    (folder / "cluster_rt.tsv").write_text("cluster_id\trt\n" + "".join(f"{k}\t1.5\n" for k in range(N_UNITS)))
    recording = load("phy", folder)
    firsts = {name: values[0] for name, values in recording.units.items()}
    assert (firsts["rt"], firsts["RT_2"], firsts["source_source"], firsts["unnamed"]) == (1.5, 2.5, "imec", 3.5)
    assert len(recording.provenance.notes) == 3  # cluster_rt.tsv repeats the table: nothing to say


def test_a_column_that_is_not_one_value_a_row_is_noted() -> None:
    columns = {"cluster_id": np.arange(2)}
    more = [("wave", np.zeros((2, 3))), ("words", np.array(["x" * 300, "y"], object)), ("z", np.array([1j, 2j]))]
    notes = add_columns(columns, more, {})
    assert list(columns) == ["cluster_id"]
    assert [note.split(" left out")[0] for note in notes] == ["column wave", "column words", "column z"]


def test_free_names() -> None:
    assert [free_name("x", taken) for taken in ([], ["x"], ["x", "x_2"])] == ["x", "x_2", "x_3"]
    assert free_name("X", ["x"]) == "X_2"


def test_options_of_ingest_do_not_hide_a_column_good(nwb: Path) -> None:
    recording = open_source("nwb", SourceOptions(no_filter=True))
    (ref,) = recording.iter_sessions([nwb])
    assert recording.load(ref).units["good"].all()
