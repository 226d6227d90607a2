"""The same windows over any ranks and workers: tables, kills and resumptions, torchdata, Fabric, two real ranks."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import chain, zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning_fabric
import numpy as np
import pytest
import torch
import torch.utils.data
from hypothesis import given, settings
from hypothesis import strategies as st

from nhdata.loading import WindowBatch, WindowDataset, make_loader
from nhdata.loading.arena import SLOT_BYTES
from nhdata.loading.batches import BySize
from nhdata.loading.plan import plan_epoch
from nhdata.loading.session_plan import SessionPlan, WindowShape

Content = Callable[[WindowBatch], Any]
OPTIONS: dict[str, Any] = {"history_s": 0.2, "horizon_s": 0.5, "bin_s": 0.1, "batch_size": 16}
ROOT = Path(__file__).parents[3]
SEARCH = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "catalog")])}
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

# (seed, epoch): windows of each batch as (session, mark), in the order of a single process; batches go to
# ranks in turn, and a rank's batches to its workers in turn
TABLE = {
    (0, 0): [[(0, 20), (0, 30)], [(0, 10), (1, 35)]],
    (0, 1): [[(1, 43), (0, 29)], [(0, 19), (0, 39)]],
    (7, 0): [[(0, 21), (1, 43)], [(0, 31), (0, 11)]],
}
SESSIONS = [
    SessionPlan(np.array([[0, 50]]), WindowShape(10, 10), 3),
    SessionPlan(np.array([[0, 20], [30, 60]]), WindowShape(5, 10), 2),
]


@pytest.mark.parametrize(("seed", "epoch"), TABLE)
@pytest.mark.parametrize(("world_size", "n_workers"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)])
def test_the_table(seed: int, epoch: int, world_size: int, n_workers: int) -> None:
    """Written down once: who gets which windows. A change breaks every resumed run."""
    plan = plan_epoch(SESSIONS, seed=seed, epoch=epoch, shuffle=True, batches=BySize(2))
    table = TABLE[seed, epoch]
    n_steps = plan.n_steps(world_size, drop_last=False)
    for rank in range(world_size):
        for worker in range(n_workers):
            got = [plan.batch(step, rank, world_size).tolist() for step in range(worker, n_steps, n_workers)]
            expected = [
                [list(w) for w in (table[step * world_size + rank] if step * world_size + rank < len(table) else [])]
                for step in range(worker, n_steps, n_workers)
            ]
            assert got == expected


class Numbered(WindowDataset):
    """Hands out the numbers of windows instead of reading them."""

    def _stream(self, windows: Any) -> Any:
        return ([tuple(window) for window in batch.tolist()] for batch in windows)


def taken(windows: WindowDataset, n_workers: int, n: int, patch: pytest.MonkeyPatch) -> list[Any]:
    """The first `n` batches that a DataLoader would hand out of its workers, in turn."""
    parts = []
    for worker in range(n_workers):
        info = SimpleNamespace(id=worker, num_workers=n_workers) if n_workers > 1 else None
        patch.setattr(torch.utils.data, "get_worker_info", lambda info=info: info)
        parts.append(list(windows))
    patch.setattr(torch.utils.data, "get_worker_info", lambda: None)
    return [b for b in chain.from_iterable(zip_longest(*parts)) if b is not None][:n]


TOPOLOGY = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(
    seconds=st.lists(st.integers(2, 9), min_size=1, max_size=4),
    seed=st.integers(-5, 2**64),
    epoch=st.integers(0, 9),
    legs=st.lists(st.tuples(TOPOLOGY, st.integers(0, 4)), min_size=1, max_size=4),
    slots=st.sampled_from([0, 1, 3]),
    options=st.fixed_dictionaries(
        {"weights": st.sampled_from(["uniform", "session", "spikes"]), "max_windows": st.sampled_from([None, 5])}
    ),
)
@settings(deadline=None, max_examples=40)
def test_a_run_moved_from_topology_to_topology_sees_the_identical_stream(
    train: Any, windows_over: Any, seconds: list[int], seed: int, epoch: int, legs: Any, slots: int, options: Any
) -> None:
    """Whatever the number of ranks and workers of each leg, the batches are those of one process, in its order."""

    def made(**more: Any) -> WindowDataset:
        trains = [train([0] * 9, [0] * 9, range(2 + s), n_ticks=30_000 * n) for s, n in enumerate(seconds)]
        windows = windows_over(*trains, batch_size=3, shuffle=True, drop_last=False, seed=seed, **options, **more)
        windows.__class__ = Numbered
        windows._position[2] = slots
        windows.set_epoch(epoch)
        return windows

    whole = list(made())
    state = made().state_dict()
    with pytest.MonkeyPatch.context() as patch:
        for (world_size, n_workers), n_steps in [*legs, ((1, 1), 10**6)]:
            ranks = [made(rank=rank, world_size=world_size) for rank in range(world_size)]
            for windows in ranks:
                windows.load_state_dict(state)
            parts = [taken(windows, n_workers, n_steps, patch) for windows in ranks]
            assert len({len(part) for part in parts}) == 1, "equal numbers of batches"
            turns = [batch for step in zip(*parts, strict=True) for batch in step]
            expected = whole[state["batches"] :][: len(turns)]
            assert turns[: len(expected)] == expected
            assert turns[len(expected) :] == [[]] * (len(turns) - len(expected)), "but for ranks that ran dry"
            state = {**state, "batches": min(state["batches"] + len(turns), len(whole))}
    assert state["batches"] == len(whole)


def consume(store: Path, n_workers: int, marks: Any, gate: Any) -> None:
    """Train, in a way: note the state after every batch, until somebody kills us."""
    loader = make_loader(WindowDataset(store, **OPTIONS), num_workers=n_workers)
    for _ in loader:
        marks.put(loader.state_dict())
        gate.acquire()


@forks
@pytest.mark.parametrize(("before", "after", "n"), [(0, 0, 2), (0, 2, 5), (2, 0, 3)])
def test_a_run_that_is_killed_goes_on_where_it_was(
    store: Path, content: Content, before: int, after: int, n: int
) -> None:
    whole = [content(b) for b in WindowDataset(store, **OPTIONS)]
    context = multiprocessing.get_context("fork")
    marks, gate = context.Queue(), context.Semaphore(n - 1)
    process = context.Process(target=consume, args=(store, before, marks, gate))
    process.start()
    states = [marks.get(timeout=100) for _ in range(n)]
    os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
    process.join(60)
    assert states[-1]["batches"] == n
    loader = make_loader(WindowDataset(store, **OPTIONS), num_workers=after)
    loader.load_state_dict(states[-1])
    assert [content(b) for b in loader] == whole[n:]


def test_a_state_keeps_its_order_under_another_budget(train: Any, windows_over: Any, content: Content) -> None:
    rng = np.random.default_rng(0)
    n = 6 * 131_072
    tick = np.sort(rng.integers(0, 600_000, n))
    session = train(tick, rng.integers(0, 9, n), range(9), 1000.0, 600_000)
    shape = {"history_s": 1.0, "horizon_s": 2.0, "bin_s": 0.5, "shuffle": True, "batch_size": 8}
    poor, rich = (windows_over(session, memory_budget_mb=k * SLOT_BYTES / 1e6, **shape) for k in (2, 50))
    assert poor.state_dict()["open_chunks"] == 2
    assert rich.state_dict()["open_chunks"] == 0
    whole = [content(b) for b in poor]
    assert whole != [content(b) for b in rich], "an order that streams is another order"
    assert sorted(map(tuple, poor.plan().windows)) == sorted(map(tuple, rich.plan().windows))
    rich.load_state_dict({**poor.state_dict(), "batches": 5})
    assert [content(b) for b in rich] == whole[5:]


@forks
@pytest.mark.filterwarnings("ignore:.set_vital. is deprecated:UserWarning")
@pytest.mark.parametrize("n_workers", [0, 2])
def test_torchdata_resumes(store: Path, content: Content, n_workers: int) -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    whole = [content(b) for b in WindowDataset(store, **OPTIONS)]

    def loader() -> Any:
        context = "fork" if n_workers else None
        return StatefulDataLoader(
            WindowDataset(store, **OPTIONS), batch_size=None, num_workers=n_workers, multiprocessing_context=context
        )

    first = loader()
    batches = iter(first)
    assert [content(next(batches)) for _ in range(3)] == whole[:3]
    state = first.state_dict()
    del batches
    second = loader()
    second.load_state_dict(state)
    assert [content(b) for b in second] == whole[3:]


def test_fabric_hands_batches_through(store: Path, content: Content) -> None:
    windows = WindowDataset(store, **OPTIONS)
    whole = [content(b) for b in windows]
    fabric = lightning_fabric.Fabric(accelerator="cpu", devices=1)
    loader = fabric.setup_dataloaders(torch.utils.data.DataLoader(windows, batch_size=None))
    assert [content(b) for b in loader] == whole
    assert [content(b) for b in make_loader(windows, device=fabric.device)] == whole


ONE_RANK = """
import json, sys, torch
from nhdata.loading import WindowDataset
rank, store, meeting = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
windows = WindowDataset(store, history_s=0.2, horizon_s=0.5, bin_s=0.1, batch_size=10)
assert (windows.rank, windows.world_size) == (rank, 2)
weight, seen = torch.zeros(1, requires_grad=True), []
for epoch in range(2):
    windows.set_epoch(epoch)
    for batch in windows:
        loss = (weight - batch.counts.float().mean()).square().sum()
        (grad,) = torch.autograd.grad(loss, weight)
        torch.distributed.all_reduce(grad)  # hangs if a rank has fewer batches
        weight = (weight - 0.1 * grad).detach().requires_grad_()
        marks = (batch.t_s * 30_000).round().long().tolist()
        seen += [(epoch, s, mark) for s, mark in zip(batch.session_id.tolist(), marks)]
torch.distributed.barrier()
torch.distributed.destroy_process_group()
print(json.dumps([float(weight), seen]))
"""


def test_two_ranks_train_and_finish_together(store: Path, tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", ONE_RANK, str(rank), str(store), str(tmp_path / "meeting")] for rank in range(2)]
    ranks = [subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | SEARCH) for command in commands]
    (one, seen_a), (other, seen_b) = (json.loads(rank.communicate(timeout=200)[0]) for rank in ranks)
    assert one == other != 0, "they trained the same model"
    seen_a, seen_b = ([tuple(w) for w in seen] for seen in (seen_a, seen_b))
    assert not set(seen_a) & set(seen_b)
    alone = WindowDataset(store, **{**OPTIONS, "batch_size": 10})
    n_batches = len(alone.plan().edges) - 1
    assert n_batches % 2 == 1, "uneven: a batch is left over"
    expected = []
    for epoch in range(2):
        plan = alone.plan(epoch)
        expected += [(epoch, *w) for w in plan.windows[: plan.edges[n_batches - 1]].tolist()]
    assert sorted([*seen_a, *seen_b]) == sorted(expected)
