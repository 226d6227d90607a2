"""The compact Brain-Wide-Map archive, written here as its builder writes it."""

import contextlib
import io
import json
import tarfile
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numcodecs import Blosc

from nhdata.ingest import ingest
from nhdata.recording import Recording
from nhdata.sources import SourceError, SourceOptions
from nhdata.sources.ibl import blosc
from nhdata.sources.ibl.blosc import decode_blosc
from nhdata.sources.ibl.compact import IblCompactSource

EID, OTHER = "6713a4a7-faed-4df2-acab-ee4e63326f8d", "56956777-dca5-468c-87cb-78150432cc57"
PIDS = ("56f2a378-78d2-4132-b3c8-8c1ba82be598", "47be9ae4-290f-46ab-b047-952bc3a1a509")
ROOT = "bwm_ephys/1.2.1"
FIRST = f"{ROOT}/spikes/{PIDS[0]}"
CODEC = Blosc(cname="zstd", clevel=7, shuffle=Blosc.SHUFFLE)
Files = dict[str, bytes]


def packed(values: np.ndarray) -> tuple[bytes, dict]:
    return CODEC.encode(values), {"dtype": values.dtype.str, "shape": list(values.shape), "nbytes": values.nbytes}


def shard(pid: str, eid: str, probe: str, ticks: np.ndarray, local: np.ndarray, ids: list[int], origin: int) -> Files:
    """One insertion; `origin` is where the writer began to count."""
    deltas = np.diff(ticks, prepend=origin)
    arrays = {
        "spike_times_delta_ticks": deltas.astype(np.uint16 if deltas.max(initial=0) < 1 << 16 else np.uint32),
        "spike_clusters": local.astype(np.int32),
        "cluster_ids": np.array(ids, np.int32),
        "cluster_spike_counts": np.bincount(local, minlength=len(ids)).astype(np.int32),
    }
    buffers = {name: packed(values) for name, values in arrays.items()}
    meta = {
        "format": "ibl_agent_spike_shard_v2",
        "time_encoding": "delta_int_ticks",
        "cluster_encoding": "dense_local_indices",
        "time_quantization_us": 100,
        "time_origin_ticks": origin,
        "pid": pid,
        "eid": eid,
        "probe_name": probe,
        "subject": "NYU-11",
        "lab": "angelakilab",
        "date": "2020-02-18",
        "session_number": 1,
        "arrays": {name: spec | {"entry": f"{name}.blosc"} for name, (_, spec) in buffers.items()},
    }
    files = {f"{ROOT}/spikes/{pid}/{name}.blosc": content for name, (content, _) in buffers.items()}
    return files | {f"{ROOT}/spikes/{pid}/meta.json": json.dumps(meta).encode()}


def parquet(**columns: object) -> bytes:
    out = io.BytesIO()
    pd.DataFrame(columns).to_parquet(out, index=False)
    return out.getvalue()


@pytest.fixture
def trains() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Ticks of 100 µs and rows of the unit, by pid; the second probe is silent for 7 s at the start."""
    rng = np.random.default_rng(0)
    found = {}
    for pid, n_units, start in ((PIDS[0], 3, 0), (PIDS[1], 2, 70_000)):
        ticks = np.sort(rng.integers(start, 600_000, 500))
        found[pid] = ticks, rng.integers(0, n_units, 500)
    return found


@pytest.fixture
def files(trains: dict[str, tuple[np.ndarray, np.ndarray]]) -> Files:
    """An archive of two sessions, the first one with two probes."""
    made = shard(PIDS[0], EID, "probe00", *trains[PIDS[0]], [4, 9, 77], origin=0)
    made |= shard(PIDS[1], EID, "probe01", *trains[PIDS[1]], [9, 12], origin=int(trains[PIDS[1]][0][0]))
    made |= shard("1" * 8, OTHER, "probe00", np.arange(40) * 100, np.zeros(40, int), [0], origin=0)
    made[f"{ROOT}/metadata/units.parquet"] = parquet(
        pid=[PIDS[0], PIDS[1], PIDS[0], PIDS[0], PIDS[1], "1" * 8],
        eid=[EID] * 5 + [OTHER],
        cluster_id=np.array([77, 12, 4, 9, 9, 0], np.int32),
        channels=np.arange(6, dtype=np.int32),
        probe_name=["probe00"] * 6,
        label=np.ones(6, np.float32),
        atlas_id=np.array([385, 382, -672, 385, 382, 385], np.int32),
        acronym=["x"] * 6,
        beryl_acronym=["VISp", None, "CP", "VISp", "CA1", "VISp"],
        depths=np.arange(6, dtype=np.float32) * 20,
        firing_rate=np.arange(6, dtype=np.float32),
        x=np.arange(6, dtype=np.float32) * 1e-3,
        spike_count=np.arange(6, dtype=np.int32),
    )
    made[f"{ROOT}/metadata/trials.parquet"] = parquet(
        eid=[EID, EID, OTHER, EID],
        trial_id=np.array([0, 1, 0, 2], np.int32),
        intervals_0=[1.0, 4.0, 9.0, np.nan],
        intervals_1=[3.0, 70.0, 9.5, 80.0],
        choice=[1.0, -1.0, 0.0, 0.0],
        bwm_include=[True, False, True, True],
    )
    return made


def write_tar(path: Path, files: Files, extra: list[tarfile.TarInfo] | None = None) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra or []:
            tar.addfile(member)
    return path


def unpack(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def load(path: Path, eid: str = EID, **options: object) -> Recording:
    source = IblCompactSource(SourceOptions(**options))  # type: ignore[arg-type]
    (ref,) = (ref for ref in source.iter_sessions([path]) if ref.session_id == eid)
    return source.load(ref)


@pytest.mark.parametrize("form", ["tar", "folder of the tar", "unpacked", "release"])
def test_spikes_of_both_probes_exactly(
    tmp_path: Path, files: Files, trains: dict[str, tuple[np.ndarray, np.ndarray]], form: str
) -> None:
    if "tar" in form:
        path = write_tar(tmp_path / "bwm_ephys-1.2.1.tar", files)
        path = path if form == "tar" else tmp_path
    else:
        path = unpack(tmp_path, files) / (ROOT if form == "release" else "")
    recording = load(path)
    assert recording.spikes.sample_rate_hz == 10_000
    assert recording.spikes.time.dtype.kind == "i"
    assert recording.units["probe"].tolist() == ["probe00"] * 3 + ["probe01"] * 2
    assert recording.units["cluster_id"].tolist() == [4, 9, 77, 9, 12]
    for unit in range(5):
        ticks, local = trains[PIDS[0] if unit < 3 else PIDS[1]]
        mine = recording.spikes.time[recording.spikes.unit == unit]
        np.testing.assert_array_equal(mine, ticks[local == (unit if unit < 3 else unit - 3)])
    assert (recording.lab, recording.subject, recording.date) == ("angelakilab", "NYU-11", "2020-02-18")
    assert recording.provenance.original_ids == {"eid": EID, "probe00": PIDS[0], "probe01": PIDS[1]}
    assert recording.stop_s == 70.0


def test_units_and_trials_are_those_of_their_rows(tmp_path: Path, files: Files) -> None:
    recording = load(write_tar(tmp_path / "a.tar", files))
    units = recording.units
    assert units["depth_um"].tolist() == [40, 60, 0, 80, 20]
    assert units["firing_rate_hz"].tolist() == [2, 3, 0, 4, 1]
    assert units["peak_channel"].tolist() == [2, 3, 0, 4, 1]
    assert units["region"].tolist() == ["CP", "VISp", "VISp", "CA1", "CA1"]
    assert units["cosmos"].tolist() == ["CNU", "Isocortex", "Isocortex", "HPF", "HPF"]
    np.testing.assert_allclose(units["ml_um"], [2000, 3000, 0, 4000, 1000], rtol=1e-6)
    assert "spike_count" not in units
    trials = recording.intervals["trials"]
    assert trials["start_s"].tolist() == [1, 4]
    assert trials["choice"].tolist() == [1, -1]
    assert trials["bwm_include"].tolist() == [True, False]


def test_spikes_alone_will_do(tmp_path: Path, files: Files) -> None:
    spikes = {name: content for name, content in files.items() if "metadata" not in name}
    recording = load(write_tar(tmp_path / "a.tar", spikes))
    assert recording.units["region"].tolist() == ["unknown"] * 5
    assert recording.intervals == {}


def test_spikes_before_the_session_clock(tmp_path: Path, files: Files) -> None:
    ticks = np.array([-64_531, -5, 0, 3, 90_000])
    files |= shard(PIDS[0], EID, "probe00", ticks, np.array([0, 1, 2, 0, 1]), [4, 9, 77], origin=-64_531)
    recording = load(write_tar(tmp_path / "a.tar", files))
    assert recording.spikes.time[recording.spikes.unit < 3].tolist() == [0, 3, 90_000]
    assert recording.provenance.notes == ("probe00: 2 spikes before 0 s of the session's clock left out",)
    files |= shard(PIDS[0], EID, "probe00", ticks - 600_000, np.zeros(5, int), [4, 9, 77], origin=-664_531)
    with pytest.raises(SourceError, match=r"its first spike is at -66\.4531 s"):
        load(write_tar(tmp_path / "b.tar", files))


def test_list(tmp_path: Path, files: Files) -> None:
    path = write_tar(tmp_path / "a.tar", files)
    listed = tmp_path / "eids.txt"
    listed.write_text(OTHER)
    for options, found in (({}, {EID, OTHER}), ({"eids": listed}, {OTHER})):
        refs = list(IblCompactSource(SourceOptions(**options)).iter_sessions([path]))
        assert {ref.session_id for ref in refs} == found


def behaviour(**changes: object) -> Files:
    """A session of ``bwm_behavior`` with a wheel at 100 Hz."""
    position, position_spec = packed((np.sin(np.arange(3000) / 40) * 5000).astype(np.int32))
    ticks, ticks_spec = packed(np.arange(3000, dtype=np.uint32) * 10)
    times = {
        "kind": "timestamp_delta_ticks",
        "start": 2.0,
        "tick_s": 0.001,
        "ticks_entry": "t",
        "ticks_spec": ticks_spec,
    }
    values = {"kind": "scaled_numeric", "precision": 0.001, "entry": "p", "payload_spec": position_spec}
    meta = {
        "format": "ibl_ai_agent_behavior_session_shard_v2",
        "arrays": {"wheel.timestamps": {"encoding": times | changes}, "wheel.position": {"encoding": values}},
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, content in ((f"{EID}/meta.json", json.dumps(meta)), ("p", position), ("t", ticks)):
            zipped.writestr(name, content)
    return {f"bwm_behavior/2.0.0/sessions/{EID}.zip": out.getvalue()}


@pytest.mark.parametrize("unpacked", [True, False])
@pytest.mark.parametrize("even", [True, False])
def test_the_wheel_of_the_archive_beside(tmp_path: Path, files: Files, unpacked: bool, even: bool) -> None:
    beside = behaviour(**({"kind": "timestamp_fixed_rate", "rate_hz": 100.0, "count": 3000} if even else {}))
    if unpacked:
        recording = load(unpack(tmp_path, files | beside))
    else:
        write_tar(tmp_path / "bwm_behavior-2.0.0.tar", beside)
        recording = load(write_tar(tmp_path / "bwm_ephys-1.2.1.tar", files))
    wheel = recording.series["wheel_position"]
    np.testing.assert_allclose(wheel.time_s, 2 + np.arange(3000) / 100)
    np.testing.assert_allclose(wheel.value, np.sin(np.arange(3000) / 40) * 5, atol=1e-3)
    speed = np.interp(wheel.time_s[300:2700], *_xy(recording))
    np.testing.assert_allclose(speed, np.cos(np.arange(300, 2700) / 40) * 5 * 2.5, atol=0.1)
    assert recording.provenance.files[-1].name.endswith(f"sessions/{EID}.zip")


def _xy(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    return recording.series["wheel_velocity"].time_s, recording.series["wheel_velocity"].value


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "new"},
        {"start": None},
        {"tick_s": "x"},
        {"ticks_entry": "nowhere"},
        {"ticks_spec": {}},
        {"tick_s": -1.0},
    ],
)
def test_bad_behaviour_is_named(tmp_path: Path, files: Files, changes: dict) -> None:
    with pytest.raises(SourceError, match=rf"sessions/{EID}\.zip: "):
        load(unpack(tmp_path, files | behaviour(**changes)))


def test_into_a_store(tmp_path: Path, files: Files) -> None:
    path = write_tar(tmp_path / "bwm_ephys-1.2.1.tar", files)
    report = ingest(tmp_path / "d.zarr", "ibl-compact", [path], min_good_units=2)
    assert [(done.session_id, done.n_units, done.n_spikes) for done in report.ingested] == [(EID, 5, 1000)]
    assert [skipped.path for skipped in report.skipped] == [str(path)]


def changed(files: Files, **changes: object) -> Files:
    name = f"{FIRST}/meta.json"
    return files | {name: json.dumps(json.loads(files[name]) | changes).encode()}


def resized(files: Files, name: str, n: int) -> Files:
    arrays = json.loads(files[f"{FIRST}/meta.json"])["arrays"]
    return changed(files, arrays=arrays | {name: arrays[name] | {"shape": [n]}})


def array(files: Files, name: str, values: np.ndarray) -> Files:
    content, spec = packed(values)
    arrays = json.loads(files[f"{FIRST}/meta.json"])["arrays"]
    return changed(files, arrays=arrays | {name: spec}) | {f"{FIRST}/{name}.blosc": content}


TIMES = "spike_times_delta_ticks"
SPOIL: dict[str, tuple[Callable[[Files], Files], str]] = {
    "no json": (lambda f: f | {f"{FIRST}/meta.json": b"{"}, "is not JSON"),
    "deep json": (lambda f: f | {f"{FIRST}/meta.json": b"[" * 100_000}, "is not JSON"),
    "a list": (lambda f: f | {f"{FIRST}/meta.json": b"[]"}, "is not a JSON object"),
    "huge json": (lambda f: f | {f"{FIRST}/meta.json": b" " * (2 << 20)}, "too many for such a file"),
    "encoding": (lambda f: changed(f, time_encoding="float_seconds"), "is encoded as .* float_seconds"),
    "format": (lambda f: changed(f, format="v9"), "is encoded as v9"),
    "no eid": (lambda f: changed(f, eid=None), "has no 'eid'"),
    "tick 0": (lambda f: changed(f, time_quantization_us=0), "ticks differ, or are no part"),
    "tick 7": (lambda f: changed(f, time_quantization_us=7), "ticks differ, or are no part"),
    "tick text": (lambda f: changed(f, time_quantization_us="100"), "no whole number 'time_quantization_us'"),
    "no origin": (lambda f: changed(f, time_origin_ticks=None), "no whole number 'time_origin_ticks'"),
    "absurd size": (lambda f: resized(f, TIMES, 1 << 60), "does not hold 1152921504606846976 values"),
    "other size": (lambda f: resized(f, TIMES, 499), "does not hold 499 values"),
    "negative": (lambda f: resized(f, TIMES, -1), "not as a plain column"),
    "no arrays": (lambda f: changed(f, arrays=7), "not as a plain column"),
    "cut": (lambda f: f | {f"{FIRST}/{TIMES}.blosc": f[f"{FIRST}/{TIMES}.blosc"][:-3]}, "does not hold 500 values"),
    "missing": (lambda f: {k: v for k, v in f.items() if k != f"{FIRST}/{TIMES}.blosc"}, "no such file"),
    "signed": (lambda f: array(f, TIMES, np.full(500, -1, np.int16)), "are int16, not uint16"),
    "lengths": (lambda f: array(f, TIMES, np.ones(499, np.uint16)), "499 spike times but 500 spike clusters"),
    "stranger": (lambda f: array(f, "spike_clusters", np.full(500, 3, np.int32)), "name other clusters than the 3"),
    "counts": (lambda f: array(f, "cluster_spike_counts", np.array([1, 2, 497])), "not those of cluster_spike_counts"),
    "twice": (lambda f: array(f, "cluster_ids", np.array([4, 4, 77])), "name other clusters than the 3"),
    "unit table": (lambda f: array(f, "cluster_ids", np.array([4, 8, 77])), "unit 8 of the spikes has no row"),
    "parquet": (lambda f: f | {f"{ROOT}/metadata/units.parquet": b"PAR1"}, "not a readable Parquet file"),
    "columns": (lambda f: f | {f"{ROOT}/metadata/units.parquet": parquet(a=[1])}, "has no column 'pid'"),
}


@pytest.mark.parametrize("what", SPOIL)
def test_bad_archives_are_named_with_a_remedy(tmp_path: Path, files: Files, what: str) -> None:
    spoil, problem = SPOIL[what]
    path = write_tar(tmp_path / "a.tar", spoil(files))
    with pytest.raises(SourceError, match=problem) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside"),
        member("/etc/nowhere"),
        member("bwm_ephys/../../outside"),
        member(f"{FIRST}/meta.json", tarfile.SYMTYPE, "/etc/passwd"),
        member(f"{FIRST}/cluster_ids.blosc", tarfile.LNKTYPE, "../../secret"),
        member("device", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda bad: bad.name,
)
def test_an_archive_with_links_or_paths_that_lead_out_is_refused(
    tmp_path: Path, files: Files, bad: tarfile.TarInfo
) -> None:
    path = write_tar(tmp_path / "a.tar", files, [bad])
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    with pytest.raises(SourceError, match="a link or a path that leads out of the archive: do not use it"):
        load(path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_a_link_in_a_folder_is_not_followed(tmp_path: Path, files: Files) -> None:
    unpack(tmp_path / "there", files)
    secret = tmp_path / "secret"
    meta = tmp_path / "there" / f"{FIRST}/cluster_ids.blosc"
    meta.rename(secret)
    meta.symlink_to(secret)
    with pytest.raises(SourceError, match=r"cluster_ids\.blosc: no such file"):
        load(tmp_path / "there")


@pytest.mark.parametrize("n_bytes", [0, 100, 700, 5000])
def test_a_truncated_archive_is_an_error(tmp_path: Path, files: Files, n_bytes: int) -> None:
    path = write_tar(tmp_path / "a.tar", files)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(SourceError):
        load(path)


def test_a_folder_or_file_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no tar archive and no folder with spikes"):
        list(IblCompactSource(SourceOptions()).iter_sessions([tmp_path]))
    (tmp_path / "a.tar").write_text("hello")
    with pytest.raises(SourceError, match="not a readable tar archive"):
        list(IblCompactSource(SourceOptions()).iter_sessions([tmp_path / "a.tar"]))
    with pytest.raises(SourceError, match=r"no spikes/<pid>/meta\.json in it"):
        list(IblCompactSource(SourceOptions()).iter_sessions([write_tar(tmp_path / "b.tar", {"x": b""})]))


@given(data=st.data(), values=st.lists(st.integers(0, 255), max_size=50))
def test_a_damaged_buffer_is_an_error_or_the_right_length(data: st.DataObject, values: list[int]) -> None:
    whole, spec = packed(np.array(values, np.uint8))
    cut = data.draw(st.integers(0, len(whole)))
    noise = data.draw(st.binary(max_size=20))
    for content in (whole[:cut], whole[:cut] + noise, noise, whole[:cut] + noise + whole[cut + len(noise) :]):
        try:
            assert len(decode_blosc("here", content, spec)) == len(values)
        except SourceError:
            assert content != whole


def test_the_right_buffer_is_decoded_and_a_large_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content, spec = packed(np.arange(1000, dtype=np.int64))
    np.testing.assert_array_equal(decode_blosc("here", content, spec), np.arange(1000))
    monkeypatch.setattr(blosc, "MAX_BYTES", 7999)
    with pytest.raises(SourceError, match="does not hold 1000 values of int64"):
        decode_blosc("here", content, spec)
    for bad in (
        {"dtype": "|O"},
        {"dtype": "<M8"},
        {"dtype": "<f8"},
        {"shape": [2, 500]},
        {"shape": 1000},
        {"dtype": 3},
    ):
        with pytest.raises(SourceError, match="not as a plain column"):
            decode_blosc("here", content, spec | bad)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(data=st.data())
def test_any_damage_to_an_archive_is_a_source_error(tmp_path: Path, files: Files, data: st.DataObject) -> None:
    whole = write_tar(tmp_path / "whole.tar", files).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=30))
    path = tmp_path / f"{uuid.uuid4()}.tar"  # the list of a file's members is kept while its time stays the same
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    source = IblCompactSource(SourceOptions())
    with contextlib.suppress(SourceError):
        for ref in list(source.iter_sessions([path])):
            source.load(ref)
    path.unlink()


@pytest.mark.parametrize(("text", "date"), [("2020-02-18T10:00:00", "2020-02-18"), ("18 February", None)])
def test_a_date_that_is_not_iso_8601_is_noted(tmp_path: Path, files: Files, text: str, date: str | None) -> None:
    for name, content in files.items():
        if name.endswith("meta.json"):
            files[name] = json.dumps(json.loads(content) | {"date": text}).encode()
    recording = load(write_tar(tmp_path / "bwm_ephys-1.2.1.tar", files))
    assert recording.date == date
    said = "date not known: date in meta.json '18 February' is not ISO 8601" in recording.provenance.notes
    assert said == (date is None)
