"""Which stretches, sessions, subjects and units belong to which split."""

from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nhdata
from nhcatalog.errors import UserError
from nhdata.loading import Splits, WindowDataset
from nhdata.loading.selection import SelectedSession, Selection, select_units
from nhdata.loading.splits import without

NAMES = ("train", "valid", "test")
SPANS = {"history_s": 0.2, "horizon_s": 0.5, "bin_s": 0.1}


@given(n_ticks=st.integers(0, 2**32 - 2), gap=st.integers(0, 2**24), n_blocks=st.integers(1, 9))
def test_blocks_of_all_splits_keep_their_distance(n_ticks: int, gap: int, n_blocks: int) -> None:
    splits = Splits(n_blocks=n_blocks)
    owned = sorted((a, b, k) for k in NAMES for a, b in splits.stretches(k, n_ticks, gap).tolist() if a < b)
    assert all(a >= 0 and b <= n_ticks for a, b, _ in owned)
    for (_, b, one), (a, _, other) in pairwise(owned):
        assert a - b >= (gap if one != other else 0)
    if n_ticks > 100 * gap * n_blocks and n_ticks > 1000 * n_blocks:
        share = {k: sum(b - a for a, b, o in owned if o == k) / n_ticks for k in NAMES}
        assert share == pytest.approx({"train": 0.7, "valid": 0.1, "test": 0.2}, abs=0.03)
        assert len(owned) == 3 * n_blocks


def selection_of(n_sessions: int, n_units: int = 10) -> Selection:
    """Units of sessions that no store holds."""
    sessions = tuple(
        SelectedSession(
            session_id=f"s{k}", path=Path(f"s{k}"), tick_hz=1000.0, t_start_s=0.0, n_ticks=60_000, n_units=n_units,
            n_spikes=9, rows=np.arange(n_units), first=k * n_units, subject=f"mouse{k // 3}",
        )
        for k in range(n_sessions)
    )  # fmt: skip
    return Selection("made here", 0, tuple(f"s{k}/{u}" for k in range(n_sessions) for u in range(n_units)), sessions)


@pytest.mark.parametrize("by", ["session", "subject", "unit"])
def test_who_goes_where(by: str) -> None:
    """Everyone into one split, in the right proportion, and for ever, also when others are added."""
    many, splits = selection_of(300), Splits(by=by)  # type: ignore[arg-type]
    parts = {name: splits.select(many, name) for name in NAMES}
    assert sorted(u for part in parts.values() for u in part.unit_ids) == sorted(many.unit_ids)
    for one, other in combinations(parts.values(), 2):
        assert not set(one.unit_ids) & set(other.unit_ids)
        if by != "unit":
            assert not {s.session_id for s in one.sessions} & {s.session_id for s in other.sessions}
        if by == "subject":
            assert not {s.subject for s in one.sessions} & {s.subject for s in other.sessions}
    share = [len(part.unit_ids) / len(many.unit_ids) for part in parts.values()]
    assert share == pytest.approx([0.7, 0.1, 0.2], abs=0.02 if by == "unit" else 0.12)
    few = splits.select(selection_of(60), "test")
    assert set(few.unit_ids) == {u for u in parts["test"].unit_ids if int(u[1:].split("/")[0]) < 60}
    assert Splits(by=by, seed=1).select(many, "test").hash != parts["test"].hash  # type: ignore[arg-type]
    for part in parts.values():
        for session in part.sessions:
            names = part.unit_ids[session.first : session.first + len(session.rows)]
            assert names == tuple(f"{session.session_id}/{row}" for row in session.rows)


def test_splits_that_make_no_sense() -> None:
    with pytest.raises(UserError, match="splits by 'lab': choose one of time, session, subject, unit"):
        Splits(by="lab")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="n_blocks=0 by time: use at least 1"):
        Splits(n_blocks=0)
    with pytest.raises(UserError, match="n_blocks=2 by unit"):
        Splits(by="unit", n_blocks=2)
    with pytest.raises(UserError, match="split 'rest' by session: choose one of train, valid, test, all"):
        Splits(by="session").select(selection_of(9), "rest")
    with pytest.raises(UserError, match="no session falls into split 'valid': use another seed"):
        Splits(by="session").select(selection_of(1), "valid")
    nameless = selection_of(2)
    nameless = replace(nameless, sessions=tuple(replace(s, subject="") for s in nameless.sessions))
    with pytest.raises(UserError, match="session s0 names no subject: split by session"):
        Splits(by="subject").select(nameless, "train")


STRETCHES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted), max_size=5)


@given(STRETCHES, STRETCHES)
def test_what_is_left_without_some(stretches: list[list[int]], holes: list[list[int]]) -> None:
    apart = []
    for a, b in sorted(stretches):
        if not apart or a >= apart[-1][1]:
            apart.append([a, b])
    left = without(np.array(apart, np.int64).reshape(-1, 2), np.array(holes, np.int64).reshape(-1, 2)).tolist()
    inside = {t for a, b in apart for t in range(a, b)} - {t for a, b in holes for t in range(a, b)}
    assert [t for a, b in left for t in range(a, b)] == sorted(inside)
    assert all(a < b for a, b in left)


def test_the_hash_is_of_the_division(store: Path) -> None:
    def of(**options: object) -> str:
        return WindowDataset(store, **({"split": "valid"} | SPANS | options)).split_hash  # type: ignore[arg-type]

    one = "select unit_id from units where unit_index = 1"
    others = [of(split="test"), of(splits=Splits(n_blocks=2)), of(gap_s=1.0), of(select=one)]
    assert len({of(), *others}) == 5
    assert of() == of(shuffle=True, seed=4, batch_size=2) == of(history_s=0.4, horizon_s=0.3)


def test_no_window_touches_what_is_invalid(store: Path) -> None:
    selection = select_units(nhdata.open(store))
    holes = np.array([[np.nan, 1.0], [10.0, 12.00001], [11.0, 13.0], [59.9, np.nan]])
    selection = replace(selection, sessions=tuple(replace(s, invalid_s=holes) for s in selection.sessions))
    for shuffle in (True, False):
        windows = WindowDataset(store, select=selection, split="all", ema_tau_s=(5.0,), shuffle=shuffle, **SPANS)
        for batch in windows:
            start, stop = batch.t_s - 0.2, batch.t_s + 0.5
            first = ((start >= 1.0 - 1e-9) & (stop <= 10.0 + 1e-9)).numpy()
            second = ((start >= 13.0 - 1e-9) & (stop <= 59.9 + 1e-9)).numpy()
            assert (first | second).all()
    whole = WindowDataset(store, split="all", ema_tau_s=(5.0,), **SPANS)
    early = np.array([[0, round(13.3 * 30_000)]])
    assert not np.array_equal(windows.collate(early).ema_hz, whole.collate(early).ema_hz), "averages stop at the hole"


def test_training_blocks_do_not_look_back_at_tests(store: Path) -> None:
    splits = Splits(n_blocks=3)
    windows = WindowDataset(store, splits=splits, ema_tau_s=(5.0,), **SPANS)
    start = int(windows._sessions[0].stretches[1, 0])
    asked = windows._cutter.locate(np.array([[0, start + 3000], [0, start + 60_000]]), 0, 0)
    assert (asked.mark - asked.past_bins * 3000).tolist() == [start + 0, start]
