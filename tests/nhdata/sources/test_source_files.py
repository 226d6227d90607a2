"""Reading arrays from outside, checking spike times, making safe names."""

import contextlib
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nhdata.sources import SourceError
from nhdata.sources import _spikes as spikes_module
from nhdata.sources._columns import add_columns, stack_columns
from nhdata.sources._files import describe_files, read_npy, safe_id
from nhdata.sources._spikes import check_spike_times, cluster_ids, select_spikes
from nhdata.store.layout import check_name

SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@SAME_FOLDER
@given(hnp.arrays(st.sampled_from(["<f8", ">i4", "u2", "f4"]), hnp.array_shapes(max_dims=1, min_side=0)))
def test_reads_what_numpy_wrote(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "column.npy", values[:, None])
    for name in ("a.npy", "column.npy"):
        read = read_npy(tmp_path / name)
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_columns_in_either_order(tmp_path: Path, order: str) -> None:
    values = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "a.npy", np.asarray(values, order=order))
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", n_columns=3), values)


@SAME_FOLDER
@given(data=st.data(), values=hnp.arrays("f8", st.integers(0, 20)))
def test_a_damaged_file_is_only_ever_a_source_error(tmp_path: Path, data: st.DataObject, values: np.ndarray) -> None:
    path = tmp_path / "damaged.npy"
    np.save(path, values)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    noise = data.draw(st.binary(max_size=40))
    path.write_bytes(data.draw(st.sampled_from([noise, whole[:cut], whole[:cut] + noise + whole[cut + len(noise) :]])))
    with contextlib.suppress(SourceError):
        assert len(read_npy(path)) == len(values)


def header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not a readable .npy"),
        (b"PK\x03\x04 not an array", "not a readable .npy"),
        (header("(10,)") + bytes(79), "truncated"),
        (header("(10,)") + bytes(81), "truncated or damaged"),
        (header("(1000000000000000,)") + bytes(8), "truncated"),
        (header("(-1,)") + bytes(8), "damaged"),
        (header("(0, 10000000000000000000000)"), "shape"),
        (header("(1,)", "'|O'") + bytes(8), "Python objects"),
        (header("(1,)", "'<M8[s]'") + bytes(8), "not the numbers"),
        (header("(2, 2)") + bytes(32), "not (n,)"),
        (header("()") + bytes(8), "not (n,)"),
    ],
)
def test_bad_arrays_are_named_with_a_remedy(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "spikes.times.npy"
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        read_npy(path)
    assert str(path) in str(caught.value)
    assert problem in caught.value.problem
    assert "again" in caught.value.remedy


def test_an_object_array_is_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.touch, (tmp_path / "sprung",))

    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(SourceError, match="without allow_pickle"):
        read_npy(tmp_path / "a.npy")
    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.npy: no such file: .*download"):
        read_npy(tmp_path / "gone.npy")


@pytest.mark.parametrize(
    ("wrong", "index", "word"),
    [(np.nan, 3, "not a number"), (np.inf, 4, "not a number"), (-1.0, 0, "before the rec")],
)
def test_the_first_wrong_time_is_named(wrong: float, index: int, word: str) -> None:
    times = np.arange(6.0)
    times[index] = wrong
    with pytest.raises(SourceError, match=rf"f\.npy: spike {10 + index} is at {wrong}, {word}"):
        check_spike_times(Path("f.npy"), times, first=10)


@given(hnp.arrays("u8", st.integers(0, 30), elements=st.integers(0, 9)), st.sets(st.integers(0, 29)))
def test_times_may_fall_only_where_a_train_starts(times: np.ndarray, starts: set[int]) -> None:
    falls = {i for i in range(1, len(times)) if int(times[i]) < int(times[i - 1])} - starts
    where = np.array(sorted(starts), np.int64)
    if falls:
        with pytest.raises(SourceError, match=rf"spike {min(falls)} .*earlier than the spike before"):
            check_spike_times(Path("f"), times, starts=where)
    else:
        check_spike_times(Path("f"), times, starts=where)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=40).map(sorted),
    st.sets(st.integers(0, 6)),
    st.integers(1, 9),
)
def test_select_spikes_in_blocks(spikes: list[tuple[int, int]], good: set[int], block: int) -> None:
    times = np.array([t for t, _ in spikes], float)
    clusters = np.array([c for _, c in spikes], np.uint16)
    good_ids = np.array(sorted(good), np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spikes_module.blocks, "__defaults__", (block,))
        time, row = select_spikes(Path("f"), times, clusters, good_ids)
        assert cluster_ids("x.npy", clusters).tolist() == sorted(set(clusters.tolist()))
    expected = [(t, sorted(good).index(c)) for t, c in spikes if c in good]
    assert list(zip(time.tolist(), row.tolist(), strict=True)) == expected


def test_a_fall_between_two_blocks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spikes_module.blocks, "__defaults__", (2,))
    with pytest.raises(SourceError, match="spike 2 is at"):
        select_spikes(Path("f"), np.array([0.0, 5.0, 4.0, 6.0]), np.zeros(4, int), np.array([0]))


@given(st.text(max_size=150))
@example("-rf")
@example("zarr.json")
def test_safe_ids_are_folder_names(text: str) -> None:
    made = safe_id(text)
    assert 1 <= len(made) <= 100
    assert check_name("session_id", made) == made
    assert set(made) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert safe_id(made) == made
    assert made != "zarr.json"


def test_safe_ids_keep_apart_what_was_apart() -> None:
    assert safe_id("TWH103_CBID4") == "TWH103_CBID4"
    assert len({safe_id(text) for text in ("a/b", "a b", "a-b", "..", ".", "", "x" * 101, "x" * 102)}) == 8


def test_files_are_described_by_size_and_hash(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_bytes(b"hello")
    (described,) = describe_files([tmp_path / "sub" / "b"] * 2, tmp_path)
    assert (described.name, described.size) == ("sub/b", 5)
    assert described.sha256 == hashlib.sha256(b"hello").hexdigest()


def test_columns_that_do_not_fit_a_table_are_left_out() -> None:
    columns = {"region": np.array(["CA1", "CA3"], object)}
    more = {
        "Region": np.zeros(2),
        "n_spikes": np.zeros(2),
        "matrix": np.zeros((2, 2)),
        "long": np.array(["x" * 1000, ""], object),
        "mixed": np.array(["x", None], object),
        "fine metric": np.ones(2),
    }
    notes = add_columns(columns, more.items(), {"fine metric": "fine metric (µV)"})
    assert list(columns) == ["region", "Region_2", "source_n_spikes", "fine_metric_V"]
    assert [note.split()[1] for note in notes if "left out" in note] == ["matrix", "long", "mixed"]


def test_stacked_columns_fill_what_one_table_lacks() -> None:
    one = {"cluster_id": np.array([1, 2]), "n": np.array([1, 2]), "s": np.array(["a", "b"], object)}
    two = {"cluster_id": np.array([7]), "z": np.array([True])}
    stacked = stack_columns([one, two])
    assert stacked["cluster_id"].tolist() == [1, 2, 7]
    np.testing.assert_array_equal(stacked["n"], [1, 2, np.nan])
    np.testing.assert_array_equal(stacked["z"], [np.nan, np.nan, 1])
    assert stacked["s"].tolist() == ["a", "b", ""]
