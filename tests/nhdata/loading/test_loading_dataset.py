"""The data set over a store: selection, errors, sharding, where it stands."""

import pickle
from collections import Counter
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nhdata
from nhcatalog.errors import UserError
from nhdata.loading import WindowBatch, WindowDataset, audit_batches, make_loader
from nhdata.loading.selection import select_units

Content = Callable[[WindowBatch], Any]
SPANS = {"history_s": 0.2, "horizon_s": 0.5, "bin_s": 0.1}


@pytest.mark.parametrize("split", ["train", "valid", "test", "all"])
def test_batches_are_the_spikes_of_the_store(store: Path, split: str) -> None:
    """From SQL to tensors, in seconds, against slices of NumPy arrays."""
    select = "select unit_id from units where region in ('CA1', 'LP') and session_id not like '%-001'"
    windows = WindowDataset(store, select=select, split=split, batch_size=7, shuffle=split == "all", **SPANS)
    assert windows.unit_ids == tuple(sorted(windows.unit_ids, key=lambda i: (i.split("/")[0], int(i.split("/")[2]))))
    assert [name[-4:] for name in windows.session_ids] == ["-000", "-002"]
    sessions = [nhdata.open(store).session(name) for name in windows.session_ids]
    spikes, cluster_id = [s.spikes() for s in sessions], [s.units()["cluster_id"].tolist() for s in sessions]
    for batch in windows:
        for row in range(len(batch)):
            number, t_s = int(batch.session_id[row]), float(batch.t_s[row])
            units = [cluster_id[number].index(int(windows.unit_ids[k].rsplit("/", 1)[1])) for k in batch.unit_id[row]]
            start_s, stop_s = windows.spans_s[windows.session_ids[number]]
            assert start_s - 1e-9 <= t_s - 0.2
            assert t_s + 0.5 <= stop_s + 1e-9
            lo, hi = np.searchsorted(spikes[number][0], [t_s - 0.2 - 1e-6, t_s + 0.5 - 1e-6])
            times_s, unit = (values[lo:hi] for values in spikes[number])
            binned = np.floor((times_s - t_s) / 0.1 + 1e-6).astype(int)
            expected = np.array([[np.sum((binned == k) & (unit == u)) for u in units] for k in range(-2, 5)])
            np.testing.assert_array_equal(np.concatenate([batch.history[row], batch.counts[row]]), expected)
            tokens = batch.token_time_s[batch.cu_seqlens[row] : batch.cu_seqlens[row + 1]]
            past = (binned < 0) & np.isin(unit, units)
            np.testing.assert_allclose(tokens, times_s[past] - t_s, atol=1e-6)


def test_a_selection_is_frozen(store: Path) -> None:
    chosen = select_units(nhdata.open(store), "select unit_id, rate_hz from units where unit_index in (2, 7)")
    assert len(chosen.unit_ids) == 6
    assert [s.first for s in chosen.sessions] == [0, 2, 4]
    assert all(s.rows.tolist() == [2, 7] for s in chosen.sessions)
    part = chosen.only({chosen.sessions[1].session_id})
    assert part.unit_ids == chosen.unit_ids[2:4]
    assert part.sessions[0].first == 0
    same = select_units(nhdata.open(store), "select unit_id from units where unit_index in (7, 2) order by rate_hz")
    assert same.hash == chosen.hash != part.hash
    assert WindowDataset(store, select=chosen, **SPANS).unit_ids == chosen.unit_ids


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"select": "select session_id from sessions"}, "no column unit_id, only session_id: select unit_id from"),
        ({"select": "select unit_id from units where rate_hz > 1e9"}, "no unit of .*data.zarr answers .*loosen"),
        ({"select": "select 'none/such/0' as unit_id"}, "no unit of .*data.zarr answers"),
        ({"select": "drop table units"}, "SELECT"),
        ({"horizon_s": 0.25, "bin_s": 0.02}, r"horizon_s=0.25 is 12.5 bins of 0.02 s: use 0.24 or 0.26"),
        ({"history_s": 0.07}, "history_s=0.07 is 3.5 bins of 0.02 s: use 0.06 or 0.08"),
        ({"split": "tset"}, "unknown split 'tset': choose one of train, valid, test"),
        ({"split": "rest"}, "split 'rest' needs the length of the reference: give reference_s"),
        (
            {"horizon_s": 61.0, "split": "all"},
            r"no window of 0.5 \+ 61.0 s fits split 'all'.*\(longest: 60.00 s\): use a",
        ),
        ({"horizon_s": 7.0, "split": "valid"}, r"fits split 'valid'.*\(longest: 0.00 s\)"),
        ({"gap_s": 0.99}, "gap_s=0.99 is shorter than a window: use at least 1.0"),
        ({"batch_size": 0}, "batch_size=0: use at least 1"),
        ({"bin_s": 1e-6, "horizon_s": 1.0}, "bin_s=1e-06 is shorter than one tick"),
    ],
)
def test_errors_say_what_to_do(store: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        WindowDataset(store, **options)


def test_a_gap_of_exactly_one_window_will_do(store: Path) -> None:
    assert 0.1 + 0.2 > 0.3
    WindowDataset(store, history_s=0.1, horizon_s=0.2, bin_s=0.1, gap_s=0.3)


def test_the_reference_of_a_new_session(store: Path) -> None:
    known, rest = (WindowDataset(store, split=name, reference_s=20, **SPANS) for name in ("reference", "rest"))
    assert set(known.spans_s.values()) == {(0.0, 20.0)}
    assert set(rest.spans_s.values()) == {(20.7, 60.0)}


def test_windows_hash_is_of_all_that_decides_a_score(store: Path) -> None:
    def of(**options: Any) -> str:
        return WindowDataset(store, **({"split": "valid", "history_s": 1} | options)).windows_hash

    one = "select unit_id from units where unit_index < 6"
    others = [
        of(select=one), of(split="test"), of(horizon_s=0.4), of(history_s=0.8), of(bin_s=0.1), of(gap_s=2.0),
        of(shuffle=True), of(shuffle=True, seed=1),
    ]  # fmt: skip
    assert len({of(), *others}) == 1 + len(others)
    assert of() == of(history_s=1.0) == of(batch_size=3) == of(seed=5) == of(ema_tau_s=(1.0,))


class Numbered(WindowDataset):
    """Hands out the numbers of windows instead of reading them."""

    def _stream(self, windows: Any) -> Any:
        return ([tuple(window) for window in batch.tolist()] for batch in windows)


@pytest.fixture(scope="module")
def numbered(windows_over: Callable[..., WindowDataset]) -> Callable[..., WindowDataset]:
    def make(*trains: Any, **options: Any) -> WindowDataset:
        windows = windows_over(*trains, **options)
        windows.__class__ = Numbered
        return windows

    return make


def stream(windows: WindowDataset, n_workers: int, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a DataLoader hands out: batches of its workers in turn."""
    parts = []
    for worker in range(n_workers):
        info = SimpleNamespace(id=worker, num_workers=n_workers) if n_workers > 1 else None
        monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda info=info: info)
        parts.append(list(windows))
    monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: None)
    turns = [batch for turn in zip_longest(*parts) for batch in turn]
    assert None not in turns[: sum(map(len, parts))], "workers run dry in turn"
    return [batch for batch in turns if batch is not None]


@given(
    seconds=st.lists(st.integers(2, 12), min_size=1, max_size=4),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 4),
    n_workers=st.integers(1, 4),
    epoch=st.integers(0, 5),
    shuffle=st.booleans(),
    then=st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(1, 4)),
)
@settings(deadline=None)
def test_every_window_once_over_ranks_and_workers_and_a_resumption(
    train: Any,
    numbered: Any,
    seconds: list[int],
    batch_size: int,
    world_size: int,
    n_workers: int,
    epoch: int,
    shuffle: bool,
    then: Any,
) -> None:
    stop_after, new_world_size, new_n_workers = then

    def rank_of(rank: int, of: int) -> WindowDataset:
        trains = [train([0], [0], range(2 + s), n_ticks=30_000 * n) for s, n in enumerate(seconds)]
        return numbered(*trains, batch_size=batch_size, rank=rank, world_size=of, shuffle=shuffle, drop_last=False)

    with pytest.MonkeyPatch.context() as patch:
        ranks = [rank_of(rank, world_size) for rank in range(world_size)]
        for windows in ranks:
            windows.set_epoch(epoch)
        streams = [stream(windows, n_workers, patch) for windows in ranks]
        assert {len(s) for s in streams} == {len(ranks[0])}, "equal numbers of batches"
        expected = Counter(map(tuple, ranks[0].plan().windows.tolist()))
        assert Counter(w for s in streams for batch in s for w in batch) == expected
        assert set(expected.values()) == {1}

        stop_after = min(stop_after, len(ranks[0]))
        seen = Counter(w for s in streams for batch in s[:stop_after] for w in batch)
        for rank in range(new_world_size):
            again = rank_of(rank, new_world_size)
            again.load_state_dict({"epoch": epoch, "batches": stop_after * world_size, "seed": 0})
            seen.update(w for batch in stream(again, new_n_workers, patch) for w in batch)
        assert seen == expected, "an epoch goes on with another number of ranks and workers"


def test_ranks_hand_out_different_batches(store: Path, content: Content) -> None:
    whole = [content(b) for b in WindowDataset(store, batch_size=8, **SPANS)]
    ranks = [WindowDataset(store, batch_size=8, rank=r, world_size=2, **SPANS) for r in range(2)]
    parts = [[content(b) for b in windows] for windows in ranks]
    assert len(parts[0]) == len(parts[1]) == len(whole) // 2
    assert [b for pair in zip(*parts, strict=True) for b in pair] == whole[: 2 * len(parts[0])]


@pytest.mark.parametrize("how", ["data set", "DataLoader", "WindowLoader"])
def test_resume_in_mid_epoch(store: Path, content: Content, how: str) -> None:
    def make() -> tuple[Any, Any]:
        windows = WindowDataset(store, batch_size=16, seed=3, **SPANS)
        if how == "WindowLoader":
            loader = make_loader(windows)
            return loader, loader
        return windows, windows if how == "data set" else torch.utils.data.DataLoader(windows, batch_size=None)

    keeper, loader = make()
    assert len(loader) == len(keeper)
    keeper.set_epoch(2)
    whole = [content(b) for b in loader]
    assert len(whole) == len(loader) > 6
    assert [content(b) for b in loader] == whole, "an epoch that came to its end begins anew"
    for n, _ in enumerate(loader, 1):
        if n == 4:
            state = keeper.state_dict()
            break
    assert state == {"epoch": 2, "batches": 4, "seed": 3, "open_chunks": 0}
    assert all(type(value) is int for value in state.values())
    other, again = make()
    other.load_state_dict(state)
    assert [content(b) for b in again] == whole[4:]
    assert [content(b) for b in again] == whole, "a state is used once"
    assert [content(b) for b in loader] == whole, "an iteration that was left changes nothing"
    one, two = iter(loader), iter(loader)
    pairs = [(content(a), content(b)) for a, b in zip(one, two, strict=True)]
    assert pairs == list(zip(whole, whole, strict=True)), "iterations are independent"
    next(one := iter(loader))
    next(two := iter(loader))
    next(one)
    next(one)
    next(two)
    assert keeper.state_dict()["batches"] == 2, "the state is that of the iteration used last"
    next(one)
    assert keeper.state_dict()["batches"] == 4
    keeper.set_epoch(3)
    assert [content(b) for b in loader] != whole
    other.load_state_dict({"epoch": 2, "batches": len(whole), "seed": 3})
    assert list(again) == []


def test_an_audit_takes_no_batches(store: Path) -> None:
    windows = WindowDataset(store, **SPANS)
    audit_batches(windows, n_batches=2)
    assert len(list(windows)) == len(windows)


def test_a_state_of_another_seed_is_refused(store: Path) -> None:
    windows = WindowDataset(store, seed=1, **SPANS)
    with pytest.raises(UserError, match="the state has seed 0, this data set 1"):
        windows.load_state_dict({"epoch": 0, "batches": 0, "seed": 0})


def test_the_loader_follows_its_data_set(store: Path, content: Content) -> None:
    """`set_epoch` of the data set counts, though a loader stands between."""
    windows = WindowDataset(store, **SPANS)
    loader = make_loader(windows)
    first = [content(b) for b in loader]
    windows.set_epoch(1)
    second = [content(b) for b in loader]
    loader.set_epoch(1)
    assert second == [content(b) for b in loader] != first


def test_a_data_set_travels_as_bytes(store: Path, content: Content) -> None:
    windows = WindowDataset(store, **SPANS)
    whole = [content(b) for b in windows]
    data = pickle.dumps(windows)
    assert len(data) < 20_000, "no decoded spike is in it"
    assert [content(b) for b in pickle.loads(data)] == whole  # noqa: S301 (made here)


def test_a_batch_moves_as_a_whole(store: Path) -> None:
    batch = next(iter(WindowDataset(store, ema_tau_s=(0.1,), **SPANS)))
    moved = batch.to("meta", non_blocking=True)
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert all(value.device.type == "meta" for value in [*tensors, *moved.series.values(), *moved.series_mask.values()])
    assert vars(moved).keys() == vars(batch).keys()
    assert moved.counts.shape == batch.counts.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a GPU")
def test_a_batch_is_pinned_as_a_whole(store: Path) -> None:
    pinned = next(iter(WindowDataset(store, **SPANS))).pin_memory()
    assert all(value.is_pinned() for value in vars(pinned).values())
    loader = make_loader(WindowDataset(store, **SPANS), pin_memory=True)
    assert all(value.is_pinned() for value in vars(next(iter(loader))).values())
