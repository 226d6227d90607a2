"""The Phy source on a small folder and on a real one."""

import csv
from pathlib import Path

import numpy as np
import pytest

from nhdata.recording import Recording
from nhdata.sources import SourceError, SourceOptions
from nhdata.sources.phy.source import PhySource


def load_one(path: Path, sample_rate_hz: float | None = None) -> Recording:
    source = PhySource(SourceOptions(sample_rate_hz=sample_rate_hz))
    (ref,) = source.iter_sessions([path])
    recording = source.load(ref)
    assert recording.session_id == ref.session_id
    return recording


def test_curated_good_clusters(phy_folder: Path) -> None:
    recording = load_one(phy_folder)
    samples = np.load(phy_folder / "spike_times.npy").ravel()
    clusters = np.load(phy_folder / "spike_clusters.npy")
    assert recording.units["cluster_id"].tolist() == [2, 7]
    assert recording.units["quality"].tolist() == ["good", "good"]
    assert recording.units["probe"].tolist() == ["imec1", "imec1"]
    assert recording.provenance.dropped == {"mua": 1, "noise": 1, "no row in cluster_group.tsv": 1}
    assert recording.spikes.sample_rate_hz == 30000
    assert recording.stop_s == samples[-1] / 30000
    for row, cluster in enumerate([2, 7]):
        np.testing.assert_array_equal(recording.spikes.time[recording.spikes.unit == row], samples[clusters == cluster])


def test_columns_of_the_tables(phy_folder: Path) -> None:
    (phy_folder / "cluster_ContamPct.tsv").write_text("cluster_id\tContamPct\n7\t3.5\n")
    units = load_one(phy_folder).units
    assert units["depth_um"].tolist() == [80, 100]
    assert units["peak_channel"].tolist() == [4, 5]
    assert units["firing_rate_hz"].tolist() == [1.5, 2]
    assert units["ks_label"].tolist() == ["mua", "good"]
    assert units["note"].tolist() == ["a", ""]
    assert "n_spikes" not in units
    np.testing.assert_array_equal(units["ContamPct"], [np.nan, 3.5])


@pytest.mark.parametrize(
    ("files", "good", "rule"),
    [
        (["cluster_group.tsv"], [2, 7], "group == 'good' in cluster_info.tsv"),
        (
            ["cluster_group.tsv", "cluster_info.tsv"],
            [3, 7, 11, 20],
            "KSLabel == 'good' in cluster_KSLabel.tsv",
        ),
        (
            ["cluster_group.tsv", "cluster_info.tsv", "cluster_KSLabel.tsv"],
            [2, 3, 7, 11, 20],
            "every cluster",
        ),
    ],
)
def test_which_table_counts(phy_folder: Path, files: list[str], good: list[int], rule: str) -> None:
    for name in files:
        (phy_folder / name).unlink()
    recording = load_one(phy_folder)
    assert recording.units["cluster_id"].tolist() == good
    assert recording.provenance.rule.startswith(rule)
    assert set(recording.units["quality"]) == ({"unrated"} if len(good) == 5 else {"good"})


def test_kilosorts_own_copy_of_its_labels_counts(phy_folder: Path) -> None:
    (phy_folder / "cluster_group.tsv").write_bytes((phy_folder / "cluster_KSLabel.tsv").read_bytes())
    assert load_one(phy_folder).units["cluster_id"].tolist() == [3, 7, 11, 20]


def test_templates_stand_in_for_clusters(phy_folder: Path) -> None:
    whole = load_one(phy_folder)
    (phy_folder / "spike_clusters.npy").rename(phy_folder / "spike_templates.npy")
    np.testing.assert_array_equal(load_one(phy_folder).spikes.unit, whole.spikes.unit)


def test_session_id_survives_a_move_and_curation(phy_folder: Path, tmp_path: Path) -> None:
    before = load_one(phy_folder).session_id
    (phy_folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n2\tmua\n")
    (tmp_path / "away").mkdir()
    phy_folder.rename(tmp_path / "away" / phy_folder.name)
    assert load_one(tmp_path / "away").session_id == before


def test_params_is_parsed_and_never_run(phy_folder: Path, tmp_path: Path) -> None:
    trap = f"import pathlib\npathlib.Path({str(tmp_path / 'sprung')!r}).touch()\nsample_rate = 25000\n"
    (phy_folder / "params.py").write_text(trap)
    assert load_one(phy_folder).spikes.sample_rate_hz == 25000
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("params", "given", "problem", "remedy"),
    [
        (None, None, "no such file", "--sample-rate 30000"),
        ("n_channels_dat = 4\n", None, "no plain sample_rate", "--sample-rate 30000"),
        ("sample_rate = float('3e4')\n", None, "no plain sample_rate", "--sample-rate 30000"),
        ("sample_rate = (", None, "no plain sample_rate", "--sample-rate 30000"),
        ("sample_rate = 'fast'\n", None, "not a positive number", "correct it"),
        ("sample_rate = 0\n", None, "not a positive number", "correct it"),
        ("sample_rate = 30000.\n", 25000.0, "25000 Hz was given", "leave --sample-rate out"),
        (None, -1.0, "not a positive number", "correct it"),
        (None, 30.0, "too low for spikes", "30 kHz is 30000"),
        ("sample_rate = 32.552083\n", None, "too low for spikes", "32.5521 kHz is 32552.083"),
    ],
)
def test_sample_rate(phy_folder: Path, params: str | None, given: float | None, problem: str, remedy: str) -> None:
    path = phy_folder / "params.py"
    path.unlink() if params is None else path.write_text(params)
    with pytest.raises(SourceError) as caught:
        load_one(phy_folder, given)
    assert str(path) in str(caught.value)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("params", [None, "sample_rate = 25000.\n"])
def test_a_given_sample_rate_that_agrees_or_fills_in(phy_folder: Path, params: str | None) -> None:
    path = phy_folder / "params.py"
    path.unlink() if params is None else path.write_text(params)
    assert load_one(phy_folder, 25000.0).spikes.sample_rate_hz == 25000


def resave(path: Path, values: np.ndarray) -> None:
    np.save(path, values, allow_pickle=True)


SPOIL = {
    "truncated": ("spike_times.npy", lambda path: path.write_bytes(path.read_bytes()[:-3]), "truncated"),
    "negative": ("spike_times.npy", lambda path: resave(path, np.arange(-1, 799)), "spike 0 is at sample -1"),
    "unsorted": (
        "spike_times.npy",
        lambda path: resave(path, np.r_[5, 4, np.full(798, 9)]),
        "spike 1 is at 4",
    ),
    "unsigned": (
        "spike_times.npy",
        lambda path: resave(path, np.r_[5, 4, np.full(798, 9)].astype("u8")),
        "spike 1 is",
    ),
    "seconds": ("spike_times.npy", lambda path: resave(path, np.linspace(0, 1, 800)), "not a whole number"),
    "objects": ("spike_times.npy", lambda path: resave(path, np.array([None] * 800)), "Python objects"),
    "empty": ("spike_times.npy", lambda path: resave(path, np.empty(0, np.uint64)), "empty recording"),
    "lengths": ("spike_times.npy", lambda path: resave(path, np.arange(3)), "3 spike times but 800"),
    "no clusters": ("spike_clusters.npy", lambda path: path.unlink(), "no such file"),
    "bad id": (
        "cluster_group.tsv",
        lambda path: path.write_text("cluster_id\tgroup\nx\tgood\n"),
        "1 rows do not name a cluster",
    ),
    "no id": ("cluster_group.tsv", lambda path: path.write_text("nothing\n"), "no column 'cluster_id'"),
    "no group": (
        "cluster_group.tsv",
        lambda path: path.write_text("cluster_id\tmood\n"),
        "no column 'group'",
    ),
}


@pytest.mark.parametrize("what", SPOIL)
def test_bad_input_is_named_with_a_remedy(phy_folder: Path, what: str) -> None:
    name, spoil, problem = SPOIL[what]
    spoil(phy_folder / name)
    with pytest.raises(SourceError) as caught:
        load_one(phy_folder)
    assert str(phy_folder / name) in str(caught.value)
    assert problem in caught.value.problem
    assert "again" in caught.value.remedy


def test_a_folder_without_spikes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no spike_times\.npy .*: name a folder"):
        load_one(tmp_path)


@pytest.mark.realdata
def test_a_real_folder_has_the_units_its_files_say(realdata: Path) -> None:
    folder = realdata / "phy" / "neuropixels_trial"
    with (folder / "cluster_group.tsv").open() as file:
        good = [int(row["cluster_id"]) for row in csv.DictReader(file, delimiter="\t") if row["group"] == "good"]
    with pytest.raises(SourceError, match=r"params\.py.*--sample-rate"):
        load_one(folder)
    recording = load_one(folder, 30000.0)
    assert recording.n_units == len(good) == 140
    assert recording.session_id.startswith("neuropixels_trial-")
    assert len(recording.spikes.time) == np.isin(np.load(folder / "spike_clusters.npy"), good).sum()


def test_a_file_beside_sortings_is_not_taken_for_them(phy_folder) -> None:
    note = phy_folder.parent / "README.md"
    note.write_text("in folders below")
    with pytest.raises(SourceError, match=r"README\.md: no spike_times\.npy"):
        next(PhySource(SourceOptions()).iter_sessions([note]))


def test_whole_numbers_that_matlab_saved_as_doubles(phy_folder) -> None:
    before = load_one(phy_folder)
    for name in ("spike_times.npy", "spike_clusters.npy"):
        np.save(phy_folder / name, np.load(phy_folder / name).astype(np.float64))
    after = load_one(phy_folder)
    np.testing.assert_array_equal(after.spikes.time, before.spikes.time)
    np.testing.assert_array_equal(after.spikes.unit, before.spikes.unit)
    np.save(phy_folder / "spike_times.npy", np.load(phy_folder / "spike_times.npy") / 30000)
    with pytest.raises(SourceError, match=r"spike_times\.npy: entry \d+ is 0\.\d+, not a whole number"):
        load_one(phy_folder)


@pytest.mark.parametrize("delimiter", ["\t", ","])
def test_the_groups_of_phy_1_count(phy_folder, delimiter) -> None:
    before = load_one(phy_folder)
    groups = (phy_folder / "cluster_group.tsv").read_text().replace("\t", delimiter)
    for table in phy_folder.glob("cluster_*.tsv"):
        table.unlink()
    (phy_folder / "cluster_groups.csv").write_text(groups)
    after = load_one(phy_folder)
    assert after.units["cluster_id"].tolist() == before.units["cluster_id"].tolist()
    assert after.provenance.rule == "group == 'good' in cluster_groups.csv"
    assert "cluster_groups.csv" in [file.name for file in after.provenance.files]


def test_columns_by_the_names_of_ours_are_kept(phy_folder) -> None:
    ids = np.unique(np.load(phy_folder / "spike_clusters.npy"))
    for name, values in {"quality": "A", "brain_area": "CA1", "notes": "x" * 300}.items():
        rows = "".join(f"{i}\t{values}\n" for i in ids)
        (phy_folder / f"cluster_{name}.tsv").write_text(f"cluster_id\t{name}\n{rows}")
    recording = load_one(phy_folder)
    assert set(recording.units["source_quality"]) == {"A"}
    assert set(recording.units["quality"]) == {"good"}
    assert set(recording.units["region"]) == {"CA1"}
    assert [note.split(":")[0] for note in recording.provenance.notes] == ["column notes left out"]


def test_without_the_filter_every_cluster_is_kept_and_marked(phy_folder) -> None:
    good = load_one(phy_folder)
    source = PhySource(SourceOptions(no_filter=True))
    recording = source.load(next(source.iter_sessions([phy_folder])))
    clusters = np.load(phy_folder / "spike_clusters.npy").ravel()
    assert recording.units["cluster_id"].tolist() == np.unique(clusters).tolist()
    assert len(recording.spikes.time) == len(clusters)
    assert recording.units["cluster_id"][recording.units["good"]].tolist() == good.units["cluster_id"].tolist()
    assert recording.provenance.dropped == {}


def test_clusters_beyond_int64_are_named(phy_folder: Path) -> None:
    clusters = np.load(phy_folder / "spike_clusters.npy")
    table = (phy_folder / "cluster_group.tsv").read_text()
    (phy_folder / "cluster_group.tsv").write_text(table + f"{2**63 + 5}\tgood\n")
    with pytest.raises(SourceError, match=r"cluster_group\.tsv: 1 rows do not name a cluster by a whole number"):
        load_one(phy_folder)
    np.save(phy_folder / "spike_clusters.npy", clusters.astype(np.uint64) + np.uint64(2**63))
    with pytest.raises(SourceError, match=f"cluster {int(clusters.max()) + 2**63} is beyond 64-bit integers"):
        load_one(phy_folder)
