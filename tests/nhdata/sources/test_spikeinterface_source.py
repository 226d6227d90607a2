"""The source spikeinterface: saved Sortings and SortingAnalyzers as folders and as Zarr."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from nhcli.data import cli
from nhdata.recording import Recording
from nhdata.sources import SourceError, SourceOptions
from nhdata.sources._object_text import read_text_npy
from nhdata.sources.spikeinterface.source import SpikeInterfaceSource

RATE_HZ = 25_000.0
IDS = [3, 5, 8, 9]
SPIKES = np.array(
    [(10, 0, 0), (20, 1, 0), (20, 3, 0), (45, 0, 0), (70, 2, 0), (5, 3, 1), (90, 0, 1)],
    [("sample_index", "i8"), ("unit_index", "i8"), ("segment_index", "i8")],
)
Write = Callable[..., Path]


def write_folder(folder: Path, spikes: Any = SPIKES, ids: list[Any] = IDS, **properties: Any) -> Path:
    """Write a Sorting as SpikeInterface's format ``numpy_folder``."""
    (folder / "properties").mkdir(parents=True)
    info = {"sampling_frequency": RATE_HZ, "unit_ids": ids, "num_segments": int(spikes["segment_index"].max()) + 1}
    (folder / "numpysorting_info.json").write_text(json.dumps(info))
    np.save(folder / "spikes.npy", spikes)
    for name, values in properties.items():
        np.save(folder / "properties" / f"{name}.npy", np.asarray(values))
    return folder


def write_zarr(folder: Path, spikes: Any = SPIKES, ids: list[Any] = IDS, **properties: Any) -> Path:
    """Write a Sorting as SpikeInterface up to 0.105 writes Zarr: format 2, differences of samples in Blosc."""
    return _write_zarr(folder, 2, spikes, ids, properties)


def write_zarr_v3(folder: Path, spikes: Any = SPIKES, ids: list[Any] = IDS, **properties: Any) -> Path:
    """Write a Sorting as Zarr format 3."""
    return _write_zarr(folder, 3, spikes, ids, properties)


def _write_zarr(folder: Path, version: Any, spikes: Any, ids: list[Any], properties: dict[str, Any]) -> Path:
    root = zarr.open_group(folder, mode="w", zarr_format=version)
    segments = int(spikes["segment_index"].max()) + 1
    root.attrs["zarr_class_info"] = {"class": "spikeinterface.core.zarrextractors.ZarrSortingExtractor"}
    root.attrs["sampling_frequency"], root.attrs["num_segments"] = RATE_HZ, segments
    starts = np.searchsorted(spikes["segment_index"], np.arange(segments + 1))
    arrays = {
        "unit_ids": np.asarray(ids),
        "spikes/segment_slices": np.stack([starts[:-1], starts[1:]], axis=1),
        **{f"properties/{name}": np.asarray(values) for name, values in properties.items()},
    }
    for name, values in arrays.items():
        if values.dtype.kind == "U" and version == 3:
            root.create_array(name, shape=values.shape, dtype=str)[:] = values.astype(object)
        else:
            root.create_array(name, data=values, compressors=None)
    for name in ("sample_index", "unit_index"):
        codecs: Any = {}
        if version == 2:
            codecs = {"filters": [numcodecs.Delta("<i8")], "compressors": numcodecs.Blosc("zstd")}
        root.create_array(f"spikes/{name}", data=spikes[name], chunks=(3,), **codecs)
    return folder


ALL_FORMATS = pytest.mark.parametrize("write", [write_folder, write_zarr, write_zarr_v3])


def load_all(path: Path, **options: Any) -> list[Recording]:
    source = SpikeInterfaceSource(SourceOptions(**options))
    return [source.load(ref) for ref in source.iter_sessions([path])]


def trains(recording: Recording) -> dict[int, list[int]]:
    """Samples of the spikes of each unit, by its id."""
    ids = recording.units["cluster_id"].tolist()
    return {one: recording.spikes.time[recording.spikes.unit == row].tolist() for row, one in enumerate(ids)}


@ALL_FORMATS
def test_each_segment_is_a_recording_with_the_spikes_of_its_units(write: Write, tmp_path: Path) -> None:
    write(tmp_path / "mouse1")
    first, second = load_all(tmp_path)
    assert trains(first) == {3: [10, 45], 5: [20], 8: [70], 9: [20]}
    assert trains(second) == {3: [90], 5: [], 8: [], 9: [5]}
    assert first.spikes.sample_rate_hz == RATE_HZ
    assert first.session_id.startswith("mouse1-")
    assert (first.session_id[-9:], second.session_id[-9:]) == ("-segment0", "-segment1")
    assert first.units["quality"].tolist() == ["unrated"] * 4


@ALL_FORMATS
def test_the_id_does_not_depend_on_the_format(write: Write, tmp_path: Path) -> None:
    one = SPIKES[SPIKES["segment_index"] == 0]
    (recording,) = load_all(write(tmp_path / "mouse1", one))
    (as_folder,) = load_all(write_folder(tmp_path / "other" / "mouse1", one))
    assert recording.session_id == as_folder.session_id


@ALL_FORMATS
def test_curation_counts_before_the_label_of_the_sorter(write: Write, tmp_path: Path) -> None:
    one = SPIKES[SPIKES["segment_index"] == 0]
    labels = {"KSLabel": ["good"] * 4, "bc_unitType": ["GOOD", "MUA", "NOISE", "NON-SOMA"]}
    (by_bombcell,) = load_all(write(tmp_path / "a", one, **labels))
    assert by_bombcell.units["cluster_id"].tolist() == [3]
    assert by_bombcell.provenance.dropped == {"rated 'mua'": 1, "rated 'noise'": 1, "rated 'non-soma'": 1}
    (curated,) = load_all(write(tmp_path / "b", one, quality=["mua", "good", "", "noise"], **labels))
    assert curated.units["cluster_id"].tolist() == [5]
    assert curated.provenance.rule == "quality is good"
    (nothing_curated,) = load_all(write(tmp_path / "c", one, quality=["unsorted"] * 4, **labels))
    assert nothing_curated.units["cluster_id"].tolist() == [3]
    (everything,) = load_all(tmp_path / "b", no_filter=True)
    assert everything.units["good"].tolist() == [False, True, False, False]


@ALL_FORMATS
def test_properties_are_kept_and_those_that_are_not_one_value_a_unit_are_noted(write: Write, tmp_path: Path) -> None:
    one = SPIKES[SPIKES["segment_index"] == 0]
    properties = {"brain_area": ["CA1", "CA1", "CA3", "DG"], "snr": [1.5, 2.5, 3.5, 4.5], "vector": np.zeros((4, 2))}
    (recording,) = load_all(write(tmp_path / "a", one, **properties))
    assert recording.units["region"].tolist() == ["CA1", "CA1", "CA3", "DG"]
    assert recording.units["snr"].tolist() == [1.5, 2.5, 3.5, 4.5]
    assert recording.provenance.notes == ("property vector left out: shape (4, 2), not one value a unit",)


@ALL_FORMATS
def test_ids_that_are_words_are_kept_as_a_column(write: Write, tmp_path: Path) -> None:
    (first, _) = load_all(write(tmp_path / "a", ids=["a", "b", "c", "d"]))
    assert first.units["cluster_id"].tolist() == [0, 1, 2, 3]
    assert first.units["source_id"].tolist() == ["a", "b", "c", "d"]
    assert any("cluster_id is the row" in note for note in first.provenance.notes)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("unit_index", 4, "spike 2 is of unit 4, but there are 4 units"),
        ("unit_index", -1, "spike 2 is of unit -1"),
        ("sample_index", -7, "spike 2 is at sample -7, before the start"),
    ],
)
@ALL_FORMATS
def test_a_spike_that_cannot_be_is_refused(write: Write, field: str, value: int, message: str, tmp_path: Path) -> None:
    spikes = SPIKES.copy()
    spikes[field][2] = value
    write(tmp_path / "a", spikes)
    (ref,) = SpikeInterfaceSource(SourceOptions()).iter_sessions([tmp_path])
    assert ref.session_id is None
    with pytest.raises(SourceError, match=message):
        SpikeInterfaceSource(SourceOptions()).load(ref)


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    whole = (folder / "spikes.npy").read_bytes()
    for damage in (b"", whole[:60], whole[:-5], b"not an array"):
        (folder / "spikes.npy").write_bytes(damage)
        with pytest.raises(SourceError, match=r"spikes\.npy: cannot be read"):
            load_all(folder)
    (folder / "spikes.npy").write_bytes(whole)
    (folder / "numpysorting_info.json").write_text("{")
    with pytest.raises(SourceError, match="cannot be read"):
        load_all(folder)
    as_zarr = write_zarr(tmp_path / "z")
    (as_zarr / "spikes" / "sample_index" / "1").write_bytes(b"damaged")
    with pytest.raises(SourceError, match="damaged chunk"):
        load_all(as_zarr)


def test_text_saved_as_objects_is_read_without_unpickling(tmp_path: Path) -> None:
    for texts in (["good", "mua", "good", None], ["x"] * 2500, [f"unit {i}" for i in range(1500)], ["é", "", "日本"]):
        path = tmp_path / "text.npy"
        np.save(path, np.array(texts, dtype=object))
        assert read_text_npy(path).tolist() == [text or "" for text in texts]


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["HARM"],)


@pytest.mark.parametrize("values", [[Harmful()], ["good", Harmful()], [["good"]], [1, "a"], [b"good"], [{"a": "b"}]])
def test_other_objects_are_never_unpickled(values: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    array = np.empty(len(values), dtype=object)
    array[:] = values
    np.save(tmp_path / "objects.npy", array)
    with pytest.raises(SourceError, match="not a list of texts"):
        read_text_npy(tmp_path / "objects.npy")
    assert not (tmp_path / "harm").exists()
    if any(isinstance(value, Harmful) for value in values):  # it would do harm if it were unpickled
        np.load(tmp_path / "objects.npy", allow_pickle=True)
        assert (tmp_path / "harm").exists()


def test_a_property_that_cannot_be_read_is_left_out_with_a_note(tmp_path: Path) -> None:
    one = SPIKES[SPIKES["segment_index"] == 0]
    folder = write_folder(tmp_path / "a", one, snr=[1.0, 2.0, 3.0, 4.0])
    (folder / "properties" / "bad.npy").write_bytes(b"not an array")
    (recording,) = load_all(folder)
    assert recording.n_units == 4
    assert recording.units["snr"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert any(note.startswith("property bad left out") for note in recording.provenance.notes)


def write_analyzer(folder: Path) -> Path:
    """Write a SortingAnalyzer as ``binary_folder``: templates on three channels, locations and metrics."""
    write_folder(folder / "sorting", SPIKES[SPIKES["segment_index"] == 0])
    (folder / "spikeinterface_info.json").write_text(json.dumps({"version": "0.101.2", "object": "SortingAnalyzer"}))
    (folder / "settings.json").write_text(json.dumps({"peak_sign": "neg"}))
    (folder / "recording_info").mkdir()
    areas = {"brain_area": ["VISp", "CA1", "DG"]}
    attributes = {"channel_ids": ["AP7", "AP8", "AP9"], "num_samples": [RATE_HZ], "properties": areas}
    (folder / "recording_info" / "recording_attributes.json").write_text(json.dumps(attributes))
    contacts = {"contact_positions": [[0, 40], [0, 0], [0, 20]], "device_channel_indices": [2, 0, 1], "si_units": "um"}
    (folder / "recording_info" / "probegroup.json").write_text(json.dumps({"probes": [contacts]}))
    average = np.zeros((4, 5, 3), np.float32)
    for unit, channel in enumerate([2, 0, 1, 1]):
        average[unit, 2, channel] = -50
        average[unit, 3, (channel + 1) % 3] = 60  # a larger positive peak elsewhere: the sign of peaks is negative
    for extension in ("templates", "quality_metrics"):
        (folder / "extensions" / extension).mkdir(parents=True)
    np.save(folder / "extensions" / "templates" / "average.npy", average)
    (folder / "extensions" / "quality_metrics" / "metrics.csv").write_text(
        ",num_spikes,snr,code\n8,1,3.5,1_4\n3,2,1.5,2\n5,1,2.5,3\n"
    )
    return folder


def test_an_analyzer_gives_metrics_peak_channels_and_depths(tmp_path: Path) -> None:
    (recording,) = load_all(write_analyzer(tmp_path / "a"))
    units = recording.units
    assert units["peak_channel"].tolist() == ["AP9", "AP7", "AP8", "AP8"]
    assert units["depth_um"].tolist() == [40, 0, 20, 20]
    assert units["region"].tolist() == ["DG", "VISp", "CA1", "CA1"]
    assert units["num_spikes"].tolist()[:3] == [2, 1, 1]
    assert np.isnan(units["num_spikes"][3])  # no row
    assert units["code"].tolist() == ["2", "3", "1_4", ""]
    assert recording.stop_s == 1.0
    (tmp_path / "a" / "settings.json").unlink()
    (of_older_version,) = load_all(tmp_path / "a")
    assert of_older_version.units["peak_channel"].tolist() == ["AP7", "AP8", "AP9", "AP9"]


def test_damage_beside_the_spikes_costs_a_note_and_no_spikes(tmp_path: Path) -> None:
    folder = write_analyzer(tmp_path / "a")
    (folder / "extensions" / "templates" / "average.npy").write_bytes(b"damaged")
    (folder / "extensions" / "quality_metrics" / "metrics.csv").write_text(",a\n3,1,2\n")
    (folder / "recording_info" / "probegroup.json").write_text("[")
    (recording,) = load_all(folder)
    assert len(recording.spikes.time) == 5
    left_out = {note.split(" left out")[0] for note in recording.provenance.notes}
    assert left_out == {"templates", "quality_metrics", "probegroup"}


def test_ingest_detects_the_format(tmp_path: Path) -> None:
    write_folder(tmp_path / "in" / "mouse1")
    store = str(tmp_path / "s.zarr")
    args = ["ingest", str(tmp_path / "in"), "--store", store, "--min-good-units", "1"]
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 0, done.output
    query = "select n_units, n_spikes from sessions order by session_id"
    asked = CliRunner().invoke(cli, ["sql", "--store", store, "--format", "csv", query])
    assert asked.output.split() == ["n_units,n_spikes", "4,5", "4,2"]


@pytest.mark.realdata
def test_real_sortings_have_the_spikes_that_are_in_their_files(realdata: Path) -> None:
    folder = realdata / "spikeinterface"
    as_folder, as_zarr, kilosort = load_all(folder)
    spikes = np.load(folder / "analyzer_binary_folder" / "sorting" / "spikes.npy")
    ids = json.loads((folder / "analyzer_binary_folder" / "sorting" / "numpysorting_info.json").read_text())["unit_ids"]
    expected = {one: spikes["sample_index"][spikes["unit_index"] == row].tolist() for row, one in enumerate(ids)}
    assert trains(as_folder) == trains(as_zarr) == expected
    assert as_folder.units["ks_label"].tolist() == ["good"] * 30
    samples = np.load(realdata / "phy" / "kilosort4" / "spike_times.npy").ravel()
    clusters = np.load(realdata / "phy" / "kilosort4" / "spike_clusters.npy").ravel()
    assert kilosort.n_units == 403
    assert trains(kilosort) == {one: np.sort(samples[clusters == one]).tolist() for one in np.unique(clusters).tolist()}


@pytest.mark.skipif(
    shutil.which("uv") is None or os.environ.get("NH_TEST_SPIKEINTERFACE") != "1",
    reason="makes SpikeInterface's environment (minutes): set NH_TEST_SPIKEINTERFACE=1 and install uv",
)
@pytest.mark.realdata
@pytest.mark.timeout(1200)
def test_spikeinterface_reads_the_same(realdata: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("spikeinterface_reference.py")
    out = tmp_path / "reference.json"
    made = tmp_path / "made"
    arguments = [str(realdata / "spikeinterface"), str(made), str(out)]
    subprocess.run(["uv", "run", "--quiet", "--script", str(script), *arguments], check=True)
    reference = json.loads(out.read_text())
    ours = [*load_all(realdata / "spikeinterface"), *load_all(made)]
    assert len(ours) == len(reference) >= 9
    for recording, theirs in zip(ours, reference, strict=True):
        ids = recording.units.get("source_id", recording.units["cluster_id"]).tolist()
        rows = [theirs["ids"].index(str(one)) for one in ids]
        time, unit = recording.spikes.time, recording.spikes.unit
        assert [time[unit == k].tolist() for k in range(len(ids))] == [theirs["samples"][row] for row in rows]
        assert recording.spikes.sample_rate_hz == theirs["rate_hz"]
        if theirs["peaks"]:
            assert list(map(str, recording.units["peak_channel"])) == [theirs["peaks"][row] for row in rows]
        for name, values in theirs["metrics"].items():
            column = recording.units["firing_rate_hz" if name == "firing_rate" else name]
            np.testing.assert_allclose(column, np.array(values, float)[rows], rtol=1e-12)
