"""Phy and Kilosort folders as labs have them: ratings by several tools, odd tables, params.py of Windows, probes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nhdata
from nhdata.ingest import ingest
from nhdata.recording import Recording
from nhdata.sources import SourceError, SourceOptions
from nhdata.sources._cells import parse_column
from nhdata.sources.phy.source import PhySource

N = 14
GROUPS = ["good"] * 12 + ["noise"] * 2


def sorting(folder: Path, seed: int = 0, *, params: str | bytes | None = "sample_rate = 30000.\n") -> Path:
    """Write the spikes of 14 clusters."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    np.save(folder / "spike_times.npy", np.sort(rng.integers(0, 30_000 * 60, 2000)))
    np.save(
        folder / "spike_clusters.npy", np.concatenate([np.arange(N), rng.integers(0, N, 2000 - N)]).astype(np.int32)
    )
    if params is not None:
        (folder / "params.py").write_bytes(params.encode() if isinstance(params, str) else params)
    return folder


def table(folder: Path, name: str, header: str, rows: Iterable[Iterable[Any]], sep: str = "\t") -> None:
    lines = [header.replace(" ", sep), *(sep.join(map(str, row)) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n")


def load(path: Path, **options: Any) -> Recording:
    source = PhySource(SourceOptions(**options))
    (ref,) = source.iter_sessions([path])
    return source.load(ref)


def good_ids(recording: Recording) -> list[int]:
    return recording.units["cluster_id"].tolist()


def test_a_table_in_which_nothing_is_rated_is_passed_over(tmp_path: Path) -> None:
    folder = sorting(tmp_path / "export")
    table(folder, "cluster_group.tsv", "cluster_id group", ((k, "unsorted") for k in range(N)))
    table(folder, "cluster_KSLabel.tsv", "cluster_id KSLabel", ((k, "good" if k < 9 else "mua") for k in range(N)))
    assert good_ids(load(folder)) == list(range(9))
    table(
        folder, "cluster_bc_unitType.tsv", "cluster_id bc_unitType", ((k, "GOOD" if k < 4 else "MUA") for k in range(N))
    )
    recording = load(folder)  # Bombcell is trusted more than Kilosort, and less than a person
    assert good_ids(recording) == list(range(4))
    assert recording.provenance.rule == "bc_unitType == 'good' in cluster_bc_unitType.tsv"
    table(folder, "cluster_group.tsv", "cluster_id group", ((k, "good" if k == 5 else "") for k in range(N)))
    assert good_ids(load(folder)) == [5]


def test_good_clusters_without_spikes_are_counted(tmp_path: Path) -> None:
    folder = sorting(tmp_path / "ks3")
    table(folder, "cluster_KSLabel.tsv", "cluster_id KSLabel", ((k, "good") for k in range(N + 3)))
    recording = load(folder)
    assert recording.n_units == N
    assert recording.provenance.dropped == {"good, but without spikes": 3}


@pytest.mark.parametrize("kind", ["blank ids", "float ids", "pandas index", "excel", "quoted", "binary", "two words"])
def test_tables_beside_the_rating_cost_no_units(kind: str, tmp_path: Path) -> None:
    folder = sorting(tmp_path / "mouse")
    table(folder, "cluster_group.tsv", "cluster_id group", enumerate(GROUPS))
    rows = [(k, g, 10 * k) for k, g in enumerate(GROUPS)]
    notes = 0
    if kind == "blank ids":
        table(folder, "cluster_info.tsv", "cluster_id group ch", [*rows, ("", "good", 3), ("nan", "good", 4)])
        notes = 1
    elif kind == "float ids":
        table(folder, "cluster_info.tsv", "cluster_id group ch", [(f"{k}.0", g, ch) for k, g, ch in rows])
    elif kind == "pandas index":
        (folder / "cluster_metrics.csv").write_text(",ch\n" + "".join(f"{k},{10 * k}\n" for k in range(N)))
    elif kind == "excel":
        text = "\r\n".join(["Cluster_ID\tgroup\tch ", *(f"{k}\t{g.upper()} \t{ch}" for k, g, ch in rows), ""])
        (folder / "cluster_group.tsv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    elif kind == "quoted":
        (folder / "cluster_ch.csv").write_text("cluster_id,ch\n" + "".join(f'"{k}","{10 * k}"\n' for k in range(N)))
    elif kind == "binary":
        (folder / "cluster_ch.tsv").write_bytes(bytes(range(256)))
        notes = 1
    else:
        (folder / "cluster_ch.tsv").write_text("nothing here\n1\t2\n")
        notes = 1
    recording = load(folder)
    assert good_ids(recording) == list(range(12))
    assert len(recording.provenance.notes) == notes
    if not notes or kind == "blank ids":
        assert recording.units.get("peak_channel", recording.units.get("ch")).tolist() == [10 * k for k in range(12)]


def test_text_that_python_takes_for_numbers_stays_text(tmp_path: Path) -> None:
    folder = sorting(tmp_path / "mouse")
    table(folder, "cluster_site.tsv", "cluster_id site", ((k, f"{k // 4}_{k}") for k in range(N)))
    table(folder, "cluster_word.tsv", "cluster_id word", ((k, ("nan", "inf")[k % 2]) for k in range(N)))
    units = load(folder).units
    assert units["site"].tolist() == [f"{k // 4}_{k}" for k in range(N)]
    assert units["word"].tolist() == [("nan", "inf")[k % 2] for k in range(N)]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", " 2 ", "", "3e2"], [1.0, 2.0, None, 300.0]),
        (["1.5", "nan", "inf"], [1.5, None, float("inf")]),
        (["1_000", "2"], ["1_000", "2"]),
        (["nan", "nan"], ["nan", "nan"]),
        (["True", "False"], [True, False]),
        (["True", ""], ["True", ""]),
        (["0x10", "1"], ["0x10", "1"]),
        (["٣", "1"], ["٣", "1"]),
        ([], []),
    ],
)
def test_cells(cells: list[str], values: list[Any]) -> None:
    parsed = [None if isinstance(v, float) and np.isnan(v) else v for v in parse_column(cells).tolist()]
    assert parsed == values


WINDOWS = b"dat_path = 'C:\\NeuroData\\Users\\x.dat'\r\nsample_rate = 25000.0\r\nhp_filtered = False\r\n"


def test_the_sample_rate_is_read_from_a_line_where_python_cannot_parse_the_file(tmp_path: Path) -> None:
    assert load(sorting(tmp_path / "a", params=WINDOWS)).spikes.sample_rate_hz == 25000
    assert load(sorting(tmp_path / "b", params=b"not python ("), sample_rate_hz=20000.0).spikes.sample_rate_hz == 20000
    with pytest.raises(SourceError, match="--sample-rate 30000"):
        load(sorting(tmp_path / "c", params=b"not python ("))


@pytest.mark.parametrize("beside", [True, False])
def test_the_sample_rate_is_read_from_spikeglx(beside: bool, tmp_path: Path) -> None:
    folder = sorting(tmp_path / "run_g0_imec0" / "ks", params=None)
    meta = (folder if beside else folder.parent) / "run_g0_t0.imec0.ap.meta"
    meta.write_text("acqApLfSy=384,384,1\nimSampRate=30000.5\n")
    recording = load(folder)
    assert recording.spikes.sample_rate_hz == 30000.5
    assert recording.provenance.notes == ("30000.5 samples per second from run_g0_t0.imec0.ap.meta",)
    with pytest.raises(SourceError, match="but 25000 Hz was given"):
        load(folder, sample_rate_hz=25000.0)


def test_spikes_before_the_start_are_refused_or_left_out(tmp_path: Path) -> None:
    folder = sorting(tmp_path / "mouse")
    times = np.load(folder / "spike_times.npy").astype(np.int64)
    times[:4] = [-10, -10, -10, -9]
    np.save(folder / "spike_times.npy", times)
    with pytest.raises(SourceError, match=r"spike 0 is at sample -10.*4 such spikes.*--drop-early-spikes"):
        load(folder)
    recording = load(folder, drop_early=True)
    assert len(recording.spikes.time) == 1996
    assert recording.provenance.notes == ("4 spikes before the start of the recording left out",)


def test_probes_and_shanks_of_a_tree_are_told_apart(tmp_path: Path) -> None:
    for probe in (0, 1):
        for shank in (0, 1):
            tail = Path(f"rec_g0_imec{probe}", "kilosort4_by_shank", str(shank), "sorter_output")
            sorting(tmp_path / "rec_g0" / tail, seed=10 * probe + shank)
    source = PhySource(SourceOptions())
    recordings = [source.load(ref) for ref in source.iter_sessions([tmp_path])]
    names = [recording.session_id.rpartition("-")[0] for recording in recordings]
    assert names == ["rec_g0_imec0_0", "rec_g0_imec0_1", "rec_g0_imec1_0", "rec_g0_imec1_1"]
    assert [set(recording.units["probe"]) for recording in recordings] == [{"imec0"}, {"imec0"}, {"imec1"}, {"imec1"}]
    assert set(load(sorting(tmp_path / "other" / "mouse7")).units["probe"]) == {"unknown"}


def test_a_copy_of_a_sorting_is_reported_as_such(tmp_path: Path) -> None:
    for name in ("a_curated", "b_before_curation"):
        table(sorting(tmp_path / "in" / name), "cluster_group.tsv", "cluster_id group", enumerate(GROUPS))
    sorting(tmp_path / "in" / "c_another", seed=5)
    report = ingest(tmp_path / "data.zarr", "phy", [tmp_path / "in"])
    assert (len(report.ingested), report.failed) == (2, [])
    (copy,) = report.skipped
    assert copy.path.endswith("b_before_curation")
    assert copy.reason == f"a copy of {tmp_path / 'in' / 'a_curated'}: the same spikes"
    assert len(nhdata.open(tmp_path / "data.zarr").session_ids) == 2


@pytest.mark.realdata
def test_real_folders_are_rated_by_who_rated_them(realdata: Path) -> None:
    bombcell = load(realdata / "phy" / "bombcell")
    assert good_ids(bombcell) == [
        int(line.split("\t")[0])
        for line in (realdata / "phy" / "bombcell" / "cluster_bc_unitType.tsv").read_text().splitlines()[1:]
        if line.split("\t")[1].strip() == "GOOD"
    ]
    assert bombcell.n_units == 4
    exported = load(realdata / "phy" / "si_export_ks4")
    assert (exported.n_units, len(exported.spikes.time)) == (30, 1742)
    kilosort = load(realdata / "phy" / "kilosort4")
    assert (kilosort.n_units, len(kilosort.spikes.time)) == (253, 175_761)
