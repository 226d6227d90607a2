"""``nhdata ingest``: what is said, where, and with which exit code."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import nhdata
import nhdata.ingest.run as run_module
from nhcli.data.ingest_progress import IngestProgress

PHY = ("--source", "phy", "--sample-rate", 30000, "--min-good-units", 1)


def write_phy(folder: Path, n: int = 50, **changes) -> Path:
    """A tiny Kilosort folder; `changes` replace arrays, None leaves a file out."""
    rng = np.random.default_rng(0)
    arrays = {
        "spike_times": np.sort(rng.integers(0, 90_000, n)),
        "spike_clusters": rng.integers(0, 3, n).astype(np.int32),
    } | changes
    folder.mkdir(parents=True)
    for name, values in arrays.items():
        if values is not None:
            np.save(folder / f"{name}.npy", values)
    (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n0\tgood\n1\tgood\n2\tmua\n")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_json_shape(nhdata_run, tmp_path) -> None:
    write_phy(tmp_path / "good")
    result = nhdata_run("ingest", *PHY, tmp_path, "--store", tmp_path / "d.zarr", "--json")
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    assert value["schema"] == 1
    assert value["skipped"] == value["failed"] == []
    (one,) = value["ingested"]
    clusters = np.load(tmp_path / "good" / "spike_clusters.npy")
    assert one["source"] == "phy"
    assert one["n_units"] == 2
    assert one["n_spikes"] == int((clusters < 2).sum())


def test_rerun_skips_and_says_so(nhdata_run, tmp_path) -> None:
    write_phy(tmp_path / "good")
    args = ("ingest", *PHY, tmp_path / "good", "--store", tmp_path / "d.zarr", "--json")
    nhdata_run(*args)
    value = json.loads(nhdata_run(*args).stdout)
    assert value["ingested"] == []
    assert value["skipped"][0]["reason"] == "already in the store"
    assert nhdata_run(*args, "--existing", "error").exit_code == 1


def test_few_good_units_is_a_skip_not_an_error(nhdata_run, tmp_path) -> None:
    write_phy(tmp_path / "good")
    result = nhdata_run(
        "ingest", "--source", "phy", "--sample-rate", 30000, tmp_path / "good", "--store", tmp_path / "d.zarr"
    )
    assert result.exit_code == 0
    assert "2 good units" in result.stderr
    assert not (tmp_path / "d.zarr").exists()


def test_a_run_that_ingests_nothing_says_so_and_is_0_unless_something_failed(nhdata_run, tmp_path, monkeypatch) -> None:
    store = tmp_path / "d.zarr"
    write_phy(tmp_path / "in" / "a_good")
    args = ("ingest", *PHY, tmp_path / "in", "--store", store)
    assert nhdata_run(*args).exit_code == 0
    again = nhdata_run(*args)
    last = f"nothing ingested into {store}: 1 skipped, 0 failed"
    assert (again.exit_code, again.stderr.splitlines()[-1]) == (0, last)
    write_phy(tmp_path / "in" / "b_bad", n=60, spike_clusters=None)
    assert nhdata_run(*args).exit_code == 3
    assert nhdata_run(*args, "--existing", "refresh").exit_code == 3
    # another writer commits between the plan and the commit
    plan = run_module.plan_ingest
    monkeypatch.setattr(run_module, "plan_ingest", lambda refs, present, existing: plan(refs, (), existing))
    meanwhile = nhdata_run(*args)
    assert meanwhile.exit_code == 3
    assert f"skipped: {tmp_path / 'in' / 'a_good'}: committed by another writer meanwhile" in meanwhile.stderr
    shutil.rmtree(store)
    shutil.rmtree(tmp_path / "in" / "a_good")
    assert nhdata_run(*args).exit_code == 1


def test_partly_done_is_3_and_leaves_the_rest(nhdata_run, tmp_path) -> None:
    write_phy(tmp_path / "a_good")
    write_phy(tmp_path / "b_bad", n=60, spike_clusters=None)
    result = nhdata_run("ingest", *PHY, tmp_path, "--store", tmp_path / "d.zarr")
    assert result.exit_code == 3
    assert "a_good" in result.stdout
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "b_bad" in error


BAD = {
    "missing": {"spike_clusters": None},
    "nan": {"spike_times": np.full(50, np.nan)},
    "negative": {"spike_times": np.arange(50) - 10},
    "unsorted": {"spike_times": np.arange(50)[::-1].copy()},
    "lengths": {"spike_clusters": np.zeros(49, np.int32)},
    "empty": {"spike_times": np.zeros(0, np.int64), "spike_clusters": np.zeros(0, np.int32)},
    "pickle": {"spike_times": np.array([1, None, 3], dtype=object)},
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_input_is_one_line_exit_1_and_changes_nothing(nhdata_run, tmp_path, fault) -> None:
    store = tmp_path / "d.zarr"
    write_phy(tmp_path / "good")
    assert nhdata_run("ingest", *PHY, tmp_path / "good", "--store", store).exit_code == 0
    before = tree(store)
    write_phy(tmp_path / "bad", **BAD[fault])
    result = nhdata_run("ingest", *PHY, tmp_path / "bad", "--store", store)
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "bad" in errors[0]
    assert tree(store) == before


def test_truncated_npy_names_the_file(nhdata_run, tmp_path) -> None:
    folder = write_phy(tmp_path / "bad")
    data = (folder / "spike_times.npy").read_bytes()
    (folder / "spike_times.npy").write_bytes(data[:-40])
    result = nhdata_run("ingest", *PHY, folder, "--store", tmp_path / "d.zarr")
    assert result.exit_code == 1
    assert "spike_times.npy" in result.stderr
    assert not (tmp_path / "d.zarr").exists()


def test_no_params_names_the_remedy(nhdata_run, tmp_path) -> None:
    write_phy(tmp_path / "bad")
    result = nhdata_run("ingest", "--source", "phy", tmp_path / "bad", "--store", tmp_path / "d.zarr")
    assert result.exit_code == 1
    assert "--sample-rate" in result.stderr


@pytest.mark.parametrize("args", [("--source", "nwb"), ("--source", "ibl")])
def test_wrong_calls(nhdata_run, tmp_path, args) -> None:
    result = nhdata_run("ingest", *args, "--store", tmp_path / "d.zarr")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


def test_an_unknown_source_is_a_usage_error(nhdata_run, tmp_path) -> None:
    result = nhdata_run("ingest", "--source", "ibl_compact", "x", "--store", tmp_path / "d.zarr")
    assert result.exit_code == 2
    assert "unknown source 'ibl_compact': perhaps ibl-compact; choose one of allen, brainset" in result.stderr


@pytest.mark.parametrize(
    ("args", "owner"),
    [
        (("--source", "phy", "--sessions", 10), "--sessions is an option of source synthetic, not of phy"),
        (("--sample-rate", 30000, "--seed", 3), "--seed is an option of source synthetic, not of phy"),
        (("--source", "synthetic", "--sample-rate", 1), "--sample-rate is an option of source phy, not of synthetic"),
        (("--source", "nwb", "--eids", "x"), "--eids is an option of source ibl, ibl-compact, not of nwb"),
        (("--source", "phy", "--cores", 1), "--cores is for the jobs of --slurm"),
    ],
)
def test_an_option_of_another_source_is_named(nhdata_run, tmp_path, args, owner) -> None:
    folder = write_phy(tmp_path / "good")
    result = nhdata_run("ingest", *args, folder, "--store", tmp_path / "d.zarr")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert owner in result.stderr
    assert not (tmp_path / "d.zarr").exists()


def test_interrupted_it_says_how_far_it_came_and_goes_on(nhdata_run, tmp_path, monkeypatch) -> None:
    args = ("ingest", "--source", "synthetic", "--sessions", 4, "--seconds", 10, "--store", tmp_path / "d.zarr")
    begun: list[str] = []

    def ctrl_c_at_the_third(self: IngestProgress, path: str) -> None:
        begun.append(path)
        if len(begun) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(IngestProgress, "on_begin", ctrl_c_at_the_third)
        result = nhdata_run(*args)
    assert result.exit_code == 130
    assert result.stderr == ("interrupted; 2 of 4 sessions are in the store; run the same command again to go on\n")
    again = nhdata_run(*args)
    assert again.exit_code == 0
    assert again.stderr.endswith("2 ingested into {}, 2 skipped, 0 failed\n".format(tmp_path / "d.zarr"))


def test_a_path_that_is_not_there(nhdata_run, tmp_path) -> None:
    for source in ("ibl", "nwb", "phy"):
        result = nhdata_run("ingest", "--source", source, tmp_path / "gone", "--store", tmp_path / "d.zarr")
        assert result.exit_code == 1
        assert "gone" in result.stderr


def test_dry_run_writes_nothing(nhdata_run, tmp_path) -> None:
    write_phy(tmp_path / "good")
    result = nhdata_run("ingest", *PHY, tmp_path / "good", "--store", tmp_path / "d.zarr", "--dry-run", "--json")
    assert len(json.loads(result.stdout)["ingested"]) == 1
    assert not (tmp_path / "d.zarr").exists()


def test_disk_without_hard_links_is_noted_once_before_anything_is_read(nhdata_run, tmp_path, monkeypatch) -> None:
    def refuse(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_phy(tmp_path / "good")
    store, note = tmp_path / "d.zarr", "without hard links: only one machine at a time may write"
    for command in (("ingest", *PHY, tmp_path / "good", "--dry-run"), ("ingest", *PHY, tmp_path / "good"), ("doctor",)):
        result = nhdata_run(*command, "--store", store)
        assert result.stderr.count(note) == 1, result.stderr
        assert "--dry-run" not in command or not store.exists()
        assert command == ("doctor",) or result.exit_code == 0, result.stderr
    assert nhdata.open(store).session_ids
    assert nhdata_run("validate", "--deep", "--store", store).exit_code == 0
    assert nhdata_run("counts", "--store", store, "--bin", 0.1, "--out", tmp_path / "c.zarr").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.zarr", "d.zarr", "good"]
    cluster = nhdata_run("ingest", *PHY, tmp_path / "gone", "--store", store, "--scheduler", "tcp://127.0.0.1:9")
    assert (cluster.exit_code, cluster.stderr.count("\n")) == (1, 1)
    assert f"{note} to this store: use --jobs without" in cluster.stderr


def test_another_folder_is_never_taken_for_a_store(nhdata_run, tmp_path) -> None:
    write_phy(tmp_path / "good")
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.doc").write_text("years of work")
    result = nhdata_run("ingest", *PHY, tmp_path / "good", "--store", home)
    assert result.exit_code == 1
    assert [p.name for p in home.iterdir()] == ["thesis.doc"]
    dry = nhdata_run("ingest", *PHY, tmp_path / "good", "--store", home, "--dry-run")
    assert dry.exit_code == 1
    on_a_file = nhdata_run("ingest", *PHY, tmp_path / "good", "--store", home / "thesis.doc")
    assert (on_a_file.exit_code, on_a_file.stderr.count("\n")) == (1, 1)
    assert "is a file" in on_a_file.stderr


def test_two_copies_of_one_recording(nhdata_run, tmp_path) -> None:
    folder = write_phy(tmp_path / "x" / "ks")
    shutil.copytree(folder, tmp_path / "y" / "ks")
    result = nhdata_run("ingest", *PHY, tmp_path / "x", tmp_path / "y", "--store", tmp_path / "d.zarr")
    assert result.exit_code == 0
    assert f"skipped: {tmp_path / 'y' / 'ks'}: a copy of {tmp_path / 'x' / 'ks'}: the same spikes\n" in result.stderr


def test_one_place_for_the_work(nhdata_run, tmp_path) -> None:
    args = ("ingest", "--source", "synthetic", "--store", tmp_path / "d.zarr")
    both = nhdata_run(*args, "--slurm", "--scheduler", "tcp://127.0.0.1:9")
    assert (both.exit_code, both.stderr.count("\n")) == (1, 1)
    nobody = nhdata_run(*args, "--scheduler", "tcp://127.0.0.1:9")
    assert (nobody.exit_code, nobody.stderr.count("\n")) == (1, 1)
    assert "no dask scheduler at tcp://127.0.0.1:9" in nobody.stderr


def test_one_path_and_the_source_is_found(nhdata_run, tmp_path) -> None:
    write_phy(tmp_path / "lab" / "good")
    args = ("--sample-rate", 30000, "--min-good-units", 1, "--store", tmp_path / "d.zarr")
    result = nhdata_run("ingest", tmp_path / "lab", *args)
    assert result.exit_code == 0, result.stderr
    session_id, source, *_, name = result.stdout.split()
    assert (source, name) == ("phy", "good")
    assert "2 of 3 units" in result.stdout
    assert "look at it" not in result.stderr  # only on a terminal
    shown = nhdata_run("ingest", tmp_path / "lab", *args, "--existing", "overwrite", "--progress")
    assert f"nhdata report --store {tmp_path / 'd.zarr'} --session {session_id}" in shown.stderr.replace("\n", "")
    for wrong in ([], ["--source", "nwb", tmp_path / "lab"], [tmp_path / "d.zarr"]):
        result = nhdata_run("ingest", *wrong, "--store", tmp_path / "e.zarr")
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
