"""NWB-Zarr as hdmf-zarr lays it out: the same recording as HDF5, and nothing unpickled on the way."""

import contextlib
import json
import pickle
import shutil
from pathlib import Path

import h5py
import numcodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nhdata.sources import SourceError, SourceOptions
from nhdata.sources.nwb.source import NwbSource
from nhdata.sources.nwb.zarr_tree import open_folder

from .test_nwb_remote import HTTP, load_one, same
from .web import FileServer

LZ4 = numcodecs.Blosc("lz4")


def write_node(folder: Path, kind: str, meta: dict, attrs: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / kind).write_text(json.dumps({"zarr_format": 2, **meta}))
    (folder / ".zattrs").write_text(json.dumps(attrs))


def write_array(folder: Path, values: np.ndarray, attrs: dict, filters: list, chunk: int) -> None:
    """A Zarr v2 array by numcodecs alone, in chunks of `chunk` rows."""
    chunks = (min(chunk, max(len(values), 1)), *values.shape[1:])
    meta = {
        "shape": values.shape,
        "chunks": chunks,
        "dtype": "|O" if values.dtype == object else values.dtype.str,
        "compressor": LZ4.get_config(),
        "filters": [one.get_config() for one in filters] or None,
        "fill_value": 0,
        "order": "C",
    }
    write_node(folder, ".zarray", meta, attrs)
    for k in range(-(-len(values) // chunks[0])):
        part = values[k * chunks[0] : (k + 1) * chunks[0]]
        whole = np.empty(chunks, values.dtype)
        whole[...] = "" if values.dtype == object else 0
        whole[: len(part)] = part
        data = whole
        for one in filters:
            data = one.encode(data)
        (folder / ".".join(map(str, (k, *[0] * (values.ndim - 1))))).write_bytes(LZ4.encode(data))


def plain_attrs(node: h5py.Group | h5py.Dataset) -> dict:
    """Attributes that JSON can hold."""
    attrs = {}
    for name, value in node.attrs.items():
        if isinstance(value, h5py.Reference):
            value = {"zarr_dtype": "object", "value": {"source": ".", "path": node.file[value].name}}
        elif isinstance(value, np.ndarray):
            value = value.tolist()
        attrs[name] = value.item() if isinstance(value, np.generic) else value
    return attrs


def to_zarr(group: h5py.Group, folder: Path, chunk: int) -> None:
    """What hdmf-zarr makes of an HDF5 file: scalars of one row, text by vlen-utf8, references pickled."""
    write_node(folder, ".zgroup", {}, plain_attrs(group))
    for name, node in group.items():
        place = folder / name
        if isinstance(node, h5py.Group):
            to_zarr(node, place, chunk)
            continue
        attrs = plain_attrs(node) | ({"zarr_dtype": "scalar"} if node.shape == () else {})
        if node.dtype.names or node.size == 0:
            continue
        if h5py.check_ref_dtype(node.dtype):
            values = np.array([{"path": node.file[ref].name} for ref in node[:]], object)
            write_array(place, values, attrs, [numcodecs.Pickle()], chunk)
        elif h5py.check_string_dtype(node.dtype):
            values = np.atleast_1d(np.asarray(node.asstr()[()], object))
            write_array(place, values, attrs, [numcodecs.VLenUTF8()], chunk)
        else:
            write_array(place, np.atleast_1d(node[()]), attrs, [], chunk)


@pytest.fixture
def folder(nwb_file: Path) -> Path:
    """The recording of `nwb_file` as NWB-Zarr, in chunks of 7 rows."""
    place = nwb_file.parent / "zarr" / "session.nwb.zarr"
    with h5py.File(nwb_file) as file:
        to_zarr(file, place, 7)
    return place


def test_it_is_the_same_recording(folder: Path, nwb_file: Path) -> None:
    recording = load_one(folder)
    assert same(recording, load_one(nwb_file))
    assert recording.units["probe"].tolist() == ["probeA", "probeB", "probeA"]
    assert recording.intervals["trials"]["side"].tolist() == ["left", "left"]
    assert recording.series["xy"].value.tolist() == np.arange(10.0).reshape(5, 2).tolist()
    assert (recording.subject, recording.lab, recording.date) == ("M1", "A lab", "2022-03-04")
    (file,) = recording.provenance.files
    assert file.name == "session.nwb.zarr"
    assert file.size == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    (folder / "units" / "quality" / ".zattrs").write_text("{}\n")
    assert load_one(folder).provenance.files[0].sha256 != file.sha256


def test_folders_are_found_beside_files(folder: Path, nwb_file: Path) -> None:
    shutil.copytree(folder, nwb_file.parent / "zarr" / "b.nwb")
    (nwb_file.parent / "zarr" / "no.nwb").mkdir()
    refs = NwbSource(SourceOptions()).iter_sessions([nwb_file.parent])
    assert [ref.path.name for ref in refs] == ["session.nwb", "b.nwb", "session.nwb.zarr"]


def test_over_the_web_by_consolidated_metadata(folder: Path) -> None:
    documents = {}
    for kind in (".zgroup", ".zarray", ".zattrs"):
        for file in folder.rglob(kind):
            documents[file.relative_to(folder).as_posix()] = json.loads(file.read_text())
    (folder / ".zmetadata").write_text(json.dumps({"metadata": documents, "zarr_consolidated_format": 1}))
    server = FileServer(folder.parent)
    server.faults.append(("units/spike_times/1", "cut"))
    try:
        remote = load_one(f"{server.url}/session.nwb.zarr")
    finally:
        server.close()
    assert HTTP.attempts > 1
    assert same(remote, load_one(folder))
    assert remote.provenance.original_ids["url"].endswith("/session.nwb.zarr")


@pytest.mark.parametrize("rows", [slice(None), slice(3, 20), slice(7, 14), slice(20, 20), slice(39, 99)])
def test_rows_of_an_array(tmp_path: Path, rows: slice) -> None:
    values = np.arange(120.0).reshape(40, 3)
    write_node(tmp_path, ".zgroup", {}, {})
    write_array(tmp_path / "a", values, {}, [numcodecs.Shuffle(8)], 7)
    np.testing.assert_array_equal(open_folder(tmp_path)["a"][rows], values[rows])


class Trap:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return (Path.touch, (self.place,))


@pytest.mark.parametrize("name", ["units/quality", "units/electrode_group", "identifier"])
def test_nothing_is_ever_unpickled(folder: Path, tmp_path: Path, name: str) -> None:
    array = folder / name
    meta = json.loads((array / ".zarray").read_text())
    (array / ".zarray").write_text(json.dumps(meta | {"filters": [numcodecs.Pickle().get_config()]}))
    for chunk in [p for p in array.iterdir() if not p.name.startswith(".")]:
        chunk.write_bytes(LZ4.encode(pickle.dumps(Trap(tmp_path / "sprung"))))
    with contextlib.suppress(SourceError):
        load_one(folder)
    assert not (tmp_path / "sprung").exists()


def test_links_stay_within_the_file(folder: Path, tmp_path: Path) -> None:
    group = folder / "processing" / "running" / "speed"
    shutil.copytree(folder / "processing" / "behavior" / "Position" / "xy" / "timestamps", tmp_path / "secret")
    for source, path in [("../..", "/secret"), (".", "/../../secret"), (".", "/processing/running/linked/data")]:
        link = {"name": "data", "source": source, "path": path}
        (group.parent / "linked").mkdir(exist_ok=True)
        write_node(group.parent / "linked", ".zgroup", {}, {"zarr_link": [link]})
        assert "linked" not in load_one(folder).series


SPOIL = {
    "absurd shape": ("units/spike_times", {"shape": [10**15]}, "more than the file holds"),
    "absurd chunks": ("units/spike_times", {"chunks": [10**15]}, "in chunks of"),
    "negative": ("units/spike_times", {"shape": [-1]}, "has shape"),
    "no shape": ("units/spike_times", {"shape": None}, "no sound description"),
    "no chunks": ("units/spike_times", {"chunks": [0]}, "has shape"),
    "no dtype": ("units/spike_times", {"dtype": "fie"}, "not one list of numbers"),
    "unknown codec": ("units/spike_times", {"compressor": {"id": "zzz"}}, "not one list of numbers"),
    "wrong codec": ("units/spike_times", {"compressor": {"id": "zlib"}}, "damaged chunk"),
    "text": ("units/spike_times", {"dtype": "|O", "filters": [{"id": "vlen-utf8"}]}, "not one list of numbers"),
}


@pytest.mark.parametrize("what", SPOIL)
def test_bad_metadata_is_named(folder: Path, what: str) -> None:
    name, changes, problem = SPOIL[what]
    file = folder / name / ".zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(SourceError, match=problem):
        load_one(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(data=st.data())
def test_a_damaged_folder_is_only_ever_a_source_error(folder: Path, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(sorted(p for p in folder.rglob("*") if p.is_file())))
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    noise = data.draw(st.binary(max_size=8))
    file.write_bytes(data.draw(st.sampled_from([noise, whole[:cut], whole[:cut] + noise + whole[cut + len(noise) :]])))
    try:
        with contextlib.suppress(SourceError):
            load_one(folder)
    finally:
        file.write_bytes(whole)
