"""Covariates of the history: what was known by the end of each step, and nothing of what came after."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.loading import WindowBatch, WindowDataset, audit_batches, make_loader
from nhdata.loading.covariates import FADE_S, CovariateReader, Events, _in_force, hold, n_components, present
from nhdata.loading.series import edge_s, resample
from nhdata.recording import Recording, Series
from nhdata.sources import SourceOptions
from nhdata.sources.synthetic import SyntheticSource
from nhdata.store.commit import add_session
from nhdata.store.encode import encode

NAMES = ("wheel_velocity", "position", "trials@stim_on_s", "trials.contrast@stim_on_s", "movie.frame")
SPANS: dict[str, Any] = {"history_s": 0.5, "horizon_s": 0.5, "bin_s": 0.1, "split": "all", "shuffle": False}


def recorded(number: int) -> Recording:
    source = SyntheticSource(SourceOptions(n_sessions=2, n_units=3, duration_s=30.0))
    return source.load(list(source.iter_sessions([]))[number])


def write(path: Path, *recordings: Recording) -> Path:
    for recording in recordings:
        add_session(path, encode(recording))
    return path


@pytest.fixture(scope="module")
def full() -> Recording:
    """A session with a wheel that has gaps, a place in two dimensions, trials and frames of a movie."""
    recording = recorded(0)
    rng = np.random.default_rng(0)
    time_s = np.sort(rng.uniform(0, 30, 900))
    time_s = time_s[(time_s < 10) | (time_s > 13)]
    value = rng.normal(size=len(time_s))
    value[::50] = np.nan
    place = Series(np.arange(2, 30, 0.07), rng.normal(size=(400, 2)), "m")
    start_s = 5 + np.arange(128) / 32
    frames = {"start_s": start_s, "stop_s": start_s + 1 / 32, "frame": np.arange(128) % 7}
    return replace(
        recording,
        series={**recording.series, "wheel_velocity": Series(time_s, value, "rad/s"), "position": place},
        intervals={**recording.intervals, "movie": frames},
    )


@pytest.fixture(scope="module")
def store(full: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That session, and one that has none of it."""
    return write(tmp_path_factory.mktemp("store") / "data.zarr", full, replace(recorded(1), series={}, intervals={}))


def test_covariates_are_those_of_the_past(store: Path, content: Callable[[WindowBatch], Any]) -> None:
    """By the audit, which computes them in another way; the session without any has none."""
    windows = WindowDataset(store, covariates=NAMES, covariate_steps=7, batch_size=16, **SPANS)
    assert audit_batches(windows, n_batches=99) == []
    seen, n_windows = dict.fromkeys(NAMES, 0), 0
    for batch in windows:
        has = batch.session_id == 0
        n_windows += int(has.sum())
        for name, n in zip(NAMES, (1, 2, 4, 4, 4), strict=True):
            assert batch.covariates[name].shape == (len(batch), 7, n)
            assert not batch.covariates_mask[name][~has].any()
            assert not batch.covariates[name][~batch.covariates_mask[name]].any()
            seen[name] += int(batch.covariates_mask[name].sum())
    for name, n in seen.items():
        assert 30 < n < 7 * n_windows, f"some steps know {name}, and some do not"
    batches = list(windows)
    alone, _ = windows.covariates(windows.plan().windows[:16])
    assert torch.equal(alone["position"], batches[0].covariates["position"])
    assert list(map(content, make_loader(windows, num_workers=2))) == list(map(content, batches))


class Leaky(WindowDataset):
    """A loader whose covariates are those of one millisecond later."""

    def collate(self, windows: NDArray[np.int64]) -> WindowBatch:
        late = windows.copy()
        late[:, 1] += round(0.001 * self.selection.sessions[0].tick_hz)
        return replace(super().collate(windows), covariates=self.covariates(late)[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_loader_that_leaks_a_millisecond_is_found(name: str, store: Path) -> None:
    windows = Leaky(store, covariates=(name,), **SPANS)
    assert any(name in problem for problem in audit_batches(windows, [windows.collate(windows.plan().windows)]))


def test_what_comes_at_the_end_of_the_history_or_later_is_not_looked_at(full: Recording, tmp_path: Path) -> None:
    """A sample, an event and a frame on the very end of a history; other values after it."""
    end_s = 6.5

    def marked(value: float) -> Recording:
        def later(time_s: NDArray[Any], old: NDArray[Any]) -> NDArray[Any]:
            return np.where((time_s >= end_s).reshape(-1, *[1] * (old.ndim - 1)), value, old)

        def with_sample(series: Series) -> Series:
            k = np.searchsorted(series.time_s, end_s)
            time_s = np.insert(series.time_s, k, end_s)
            return Series(time_s, later(time_s, np.insert(series.value, k, 0.0, axis=0)), series.unit)

        trials, movie = dict(full.intervals["trials"]), dict(full.intervals["movie"])
        trials = {k: np.append(v, v[-1:]) for k, v in trials.items()}
        trials["start_s"][-1], trials["stim_on_s"][-1], trials["stop_s"][-1] = end_s - 0.5, end_s, end_s + 1
        trials["contrast"] = later(trials["stim_on_s"], trials["contrast"])
        movie["frame"] = later(movie["start_s"], movie["frame"]).astype(np.int64)
        series = {name: with_sample(full.series[name]) for name in ("wheel_velocity", "position")}
        return replace(full, series=series, intervals={"trials": trials, "movie": movie})

    stores = [write(tmp_path / f"{value}", marked(value)) for value in (3.0, 5.0)]
    one, other = (WindowDataset(path, covariates=NAMES, **SPANS) for path in stores)
    marks = one.plan().windows
    (until,) = marks[marks[:, 1] == end_s * 30000]
    before = one.covariates(np.array([until]))
    for found, expected in zip(other.covariates(np.array([until])), before, strict=True):
        assert all(torch.equal(found[name], expected[name]) for name in NAMES)
    just_after = until + np.array([0, 3])  # 100 µs
    for name in set(NAMES) - {"trials@stim_on_s"}:  # whose value is always 1
        later = (windows.covariates(np.array([just_after]))[0][name] for windows in (one, other))
        assert not torch.equal(*later)


@pytest.mark.parametrize("origin_s", [0.0, 1.6e9, 1.6e9 + 1 / 3], ids=["0", "1970", "1970, odd"])
def test_edges_of_steps_and_bins_allow_for_the_resolution_of_the_clock(origin_s: float) -> None:
    """One sample at the very end of each step, rounded down by one unit in the last place; one well before it."""
    stop_s = origin_s + 0.1 * np.arange(1, 51)
    future_s = np.nextafter(stop_s, -np.inf)  # stands for the time of the end itself
    present_s = stop_s - 1e-5
    time_s = np.column_stack([present_s, future_s]).ravel()
    value = np.tile(np.float32([1, 100]), 50)[:, None]
    out, known = np.zeros((50, 1), np.float32), np.zeros(50, bool)
    hold(time_s, value, stop_s - edge_s(stop_s), 0.05, 0.01, out, known)
    assert known.all()
    np.testing.assert_array_equal(out[:, 0], 1)

    resample(time_s, value, origin_s, 0.1, 1.0, out, known)
    np.testing.assert_array_equal(out[:, 0], [1, *[50.5] * 49])

    for at_s, newest in ((present_s, 1), (future_s, 0)):
        held, known[:] = np.zeros((50, 4), np.float32), False
        values = np.arange(50, dtype=np.float32)
        _in_force(Events(at_s, values, np.append(at_s[1:], np.inf)), stop_s, held, known)
        assert known[1:].all()
        assert known[0] == newest
        np.testing.assert_array_equal(held[1:, 0], values[1:] - (1 - newest))


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.floats(-9, 9, width=32)), max_size=40, unique_by=lambda s: s[0]),
    st.integers(0, 2500),
)
@settings(deadline=None)
def test_steps_by_definition(samples: list[tuple[int, float]], start: int) -> None:
    """Sample by sample, on milliseconds."""
    samples.sort()
    time_s, value = np.array([t / 1000 for t, _ in samples]), np.array([[v] for _, v in samples], np.float32)
    stop_s = (start + 100 * np.arange(1, 6)) / 1000 - 1e-9
    out, known = np.full((5, 1), 9.0, np.float32), np.empty(5, bool)
    hold(time_s, value.reshape(-1, 1), stop_s, 0.1, 0.5, out, known)
    for k in range(5):
        a, b = start + 100 * k, start + 100 * (k + 1)
        inside, before = [v for t, v in samples if a <= t < b], [s for s in samples if s[0] < a]
        if inside:
            assert known[k]
            assert out[k, 0] == pytest.approx(np.mean(inside), abs=1e-4)
        elif before and b - before[-1][0] < 500:
            assert known[k]
            assert out[k, 0] == np.float32(before[-1][1])
        elif not before or b - before[-1][0] > 500:
            assert not known[k]
            assert out[k, 0] == 0


def test_events_hold_and_fade_until_their_row_stops_or_the_next_begins(tmp_path: Path) -> None:
    table = {
        "start_s": np.array([3.0, 1.0, 4.0, np.nan, 4.5]),
        "stop_s": np.array([9.0, 2.0, 8.0, 9.0, np.nan]),
        "size": np.array([7, 5, np.iinfo(np.int64).min, 1, 6]),  # the third is missing
        "right": np.array([True, False, True, True, False]),
        "side": np.array(["left", "left", "right", "", ""], dtype=object),
    }
    store = write(tmp_path / "data.zarr", replace(recorded(0), series={}, intervals={"looks": table}))
    sessions = WindowDataset(store).selection.sessions

    def at(name: str, *t_s: float) -> list[Any]:
        reader = CovariateReader(sessions, (name,), history_s=0.1, n_steps=1, budget_bytes=0)
        value, mask = (part[name][:, 0] for part in reader.cut(np.zeros(len(t_s), np.int64), np.array(t_s)))
        return [v.tolist() if known else None for v, known in zip(value[:, 0], mask, strict=True)]

    assert at("looks.size", 0.9, 1.0, 1.1, 2.1, 3.1, 4.1, 4.6, 8.5) == [None, None, 5, None, 7, 7, 6, 6]
    assert at("looks@start_s", 1.0, 1.001, 4.2) == [None, 1, 1]
    assert at("looks.right", 1.1, 3.1) == [0, 1]
    assert at("looks.right@stop_s", 1.1, 2.1, 9.5) == [None, 0, 1]
    reader = CovariateReader(sessions, ("looks.size",), history_s=0.2, n_steps=2, budget_bytes=0)
    value = reader.cut(np.zeros(1, np.int64), np.array([1.3]))[0]["looks.size"][0]
    np.testing.assert_allclose(value, [[5 * np.exp(-s / tau) for tau in (np.inf, *FADE_S)] for s in (0.2, 0.3)], 1e-5)
    with pytest.raises(UserError, match=r"covariate 'looks.side' is not numbers"):
        at("looks.side", 1.0)


def test_what_no_session_has_is_named(store: Path) -> None:
    with pytest.raises(UserError, match=r"no selected session has a series 'whisker': choose one of position, true"):
        WindowDataset(store, covariates=("whisker",))
    with pytest.raises(UserError, match=r"no selected session has a covariate 'trials.smell': columns: movie.frame, "):
        WindowDataset(store, covariates=("trials.smell",))
    with pytest.raises(UserError, match=r"no selected session has a covariate 'licks@start_s'"):
        WindowDataset(store, covariates=("licks@start_s",))
    with pytest.raises(UserError, match="covariate_steps=0"):
        WindowDataset(store, covariates=("position",), covariate_steps=0)
    sessions = WindowDataset(store, split="all").selection.sessions
    assert present(sessions, (*NAMES, "whisker", "trials.smell")) == NAMES
    assert present(sessions[1:], NAMES) == ()
    assert n_components(sessions, NAMES[:3]) == {"wheel_velocity": 1, "position": 2, "trials@stim_on_s": 4}
