"""A path tells which source reads it."""

import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from nhcatalog.errors import UserError
from nhdata.sources import SourceOptions, open_source
from nhdata.sources.nwb.file import find_files
from nhdata.sources.recognise import find


def guess(*places: str | Path, **options) -> tuple[str, list[str]]:
    name, refs = find(None, places, SourceOptions(**options))
    return name, [ref.path.name for ref in refs]


@pytest.fixture
def nwb_folder(nwb_file) -> Path:
    """A folder of its own for ``session.nwb``."""
    folder = nwb_file.parent / "nwb"
    folder.mkdir()
    shutil.move(nwb_file, folder)
    return folder


@pytest.fixture
def brainset_file(tmp_path) -> Path:
    """As much of a brainset as says who the session is."""
    path = tmp_path / "h5" / "a.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file.attrs["object"] = "Data"
    return path


def test_each_kind_from_its_folder_and_from_itself(alf_session, phy_folder, nwb_folder, brainset_file) -> None:
    assert guess(alf_session.parents[4]) == guess(alf_session) == ("ibl", ["002"])
    assert guess(phy_folder) == guess(phy_folder / "params.py") == ("phy", ["mouse imec1"])
    assert guess(nwb_folder, nwb_folder / "session.nwb") == ("nwb", ["session.nwb"])
    assert guess(brainset_file.parent) == guess(brainset_file) == ("brainset", ["a.h5"])


def test_a_broken_file_among_whole_ones_is_found_too(nwb_folder) -> None:
    (nwb_folder / "a.nwb").write_bytes(b"half a file")
    assert guess(nwb_folder) == ("nwb", ["a.nwb", "session.nwb"])


def test_allen_sessions_are_not_taken_for_plain_nwb_unless_others_lie_beside(nwb_folder) -> None:
    allen = nwb_folder / "session_12" / "session_12.nwb"
    allen.parent.mkdir()
    shutil.copy(nwb_folder / "session.nwb", allen)
    with h5py.File(allen, "a") as file:
        del file["identifier"]
        file["identifier"] = "12"
    assert guess(allen.parent) == ("allen", ["session_12.nwb"])
    with pytest.raises(UserError, match=r"several kinds .* allen and nwb"):
        guess(nwb_folder)


def test_what_is_none_or_several_kinds_is_an_error(phy_folder, nwb_folder, tmp_path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.me").touch()
    with pytest.raises(UserError, match=r"notes: nothing here that any source knows .*--source \(allen, .*phy"):
        guess(tmp_path / "notes")
    with pytest.raises(UserError, match="gone: no such file"):
        guess(tmp_path / "gone")
    with pytest.raises(UserError, match=r"several kinds .*mouse imec1 holds phy; .*nwb holds nwb"):
        guess(phy_folder, nwb_folder)
    for options in ({}, {"remote": True}):
        with pytest.raises(UserError, match="neither a path nor a source"):
            guess(*[phy_folder] * bool(options), **options)


def test_what_is_nearly_a_recording_says_what_is_amiss(phy_folder, tmp_path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="nothing: an empty folder: check the path"):
        guess(tmp_path / "nothing")
    (tmp_path / "text.nwb").write_text("hello\n")
    with pytest.raises(UserError, match=r"text\.nwb: not an HDF5 file"):
        guess(tmp_path / "text.nwb")
    (phy_folder / "spike_times.npy").unlink()
    with pytest.raises(UserError, match=r"no spike_times\.npy beside it: copy all that Kilosort or Phy wrote"):
        guess(phy_folder)


@pytest.mark.parametrize("asked", ["ibl", "ibl-compact", "allen", "brainset", "nwb"])
def test_the_wrong_source_names_the_right_one(phy_folder, asked) -> None:
    with pytest.raises(UserError, match="it looks like phy: use --source phy"):
        find(asked, [phy_folder], SourceOptions())


def test_the_wrong_source_for_a_file_names_the_right_one(nwb_folder, brainset_file, tmp_path) -> None:
    with pytest.raises(UserError, match=r"session\.nwb: no recording of source brainset: it looks like nwb"):
        find("brainset", [nwb_folder / "session.nwb"], SourceOptions())
    with pytest.raises(UserError, match=r"a\.h5: no recording of source nwb: it looks like brainset"):
        find("nwb", [brainset_file], SourceOptions())
    (tmp_path / "x.nwb").write_bytes(b"half a file")
    assert find("nwb", [tmp_path / "x.nwb"], SourceOptions())[1][0].session_id is None  # reading says what is wrong


def test_home_is_known_where_no_shell_says_it(nwb_folder, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(nwb_folder.parent))
    assert guess("~/nwb") == ("nwb", ["session.nwb"])
    assert find("nwb", ["~/nwb"], SourceOptions())[1][0].path.is_absolute()


@pytest.mark.parametrize("name", [None, "nwb"])
def test_a_limit_holds_for_every_source(nwb_folder, name) -> None:
    for copy in "abc":
        shutil.copy(nwb_folder / "session.nwb", nwb_folder / f"{copy}.nwb")
    refs = find(name, [nwb_folder], SourceOptions(limit=2))[1]
    assert [ref.path.name for ref in refs] == ["a.nwb", "b.nwb"]


@pytest.fixture
def hashed(monkeypatch) -> Counter[Path]:
    """How often each file was hashed, by path."""
    count: Counter[Path] = Counter()
    digest = hashlib.file_digest

    def counted(file, algorithm):
        count[Path(file.name)] += 1
        return digest(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return count


def test_spike_times_are_hashed_once_from_detection_to_provenance(phy_folder, hashed) -> None:
    _, (ref,) = find(None, [phy_folder.parent], SourceOptions())
    recording = open_source("phy").load(ref)
    times = phy_folder / "spike_times.npy"
    assert hashed[times] == 1
    (described,) = (file for file in recording.provenance.files if file.name == times.name)
    assert (described.sha256, described.size) == (hashlib.sha256(times.read_bytes()).hexdigest(), times.stat().st_size)
    assert recording.session_id == ref.session_id

    np.save(times, np.load(times) + 1)
    os.utime(times, ns=(0, 0))  # as of another moment
    again = open_source("phy").load(ref)
    assert hashed[times] == 2
    assert again.session_id.rsplit("-", 1)[1] == hashlib.sha256(times.read_bytes()).hexdigest()[:8]


def test_looking_for_files_opens_every_folder_once_and_none_of_a_zarr(tmp_path, monkeypatch) -> None:
    for name in ("a/b", "a/c", "a/one.nwb/units/id", "a/two.nwb.zarr/units", "a/plain.nwb"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a/one.nwb", "a/two.nwb.zarr"):
        (tmp_path / name / ".zgroup").write_text("{}")
    (tmp_path / "a/b/three.nwb").write_bytes(b"")
    opened: Counter[str] = Counter()
    scan = os.scandir

    def counted(path="."):
        opened[os.path.relpath(path, tmp_path)] += 1
        return scan(path)

    monkeypatch.setattr(os, "scandir", counted)
    found = [str(file.relative_to(tmp_path)) for file in find_files([tmp_path], "*.nwb")]
    assert found == ["a/b/three.nwb", "a/one.nwb", "a/two.nwb.zarr"]
    assert opened == {".": 1, "a": 1, "a/b": 1, "a/c": 1, "a/plain.nwb": 1}
