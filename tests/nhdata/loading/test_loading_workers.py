"""The data set in worker processes, forked and spawned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import nhdata
from nhdata.loading import WindowBatch, WindowDataset, make_loader

Content = Callable[[WindowBatch], Any]


def windows_of(store: Path) -> WindowDataset:
    nhdata.open(store).session("sim-n12-t60-s0-000").ticks()  # zarr's threads run before any fork
    return WindowDataset(store, history_s=0.2, bin_s=0.1, batch_size=16, drop_last=False)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_workers_hand_out_every_window_once(store: Path, content: Content) -> None:
    """Through a plain DataLoader, whose workers persist and are told of a new epoch."""
    windows = windows_of(store)
    epochs = []
    for epoch in range(2):
        windows.set_epoch(epoch)
        epochs.append([content(b) for b in windows])
    loader = torch.utils.data.DataLoader(
        windows, batch_size=None, num_workers=2, persistent_workers=True, multiprocessing_context="fork"
    )
    for epoch in (0, 1, 0):
        windows.set_epoch(epoch)
        assert len(loader) == len(epochs[epoch])
        assert [content(b) for b in loader] == epochs[epoch]
    assert sorted(epochs[0]) != sorted(epochs[1])


def test_spawned_workers_resume_in_mid_epoch(store: Path, content: Content) -> None:
    """State is what was handed out, not what workers read ahead; and it suits a loader without workers."""
    windows = windows_of(store)
    windows.set_epoch(4)
    whole = [content(b) for b in windows]
    loader = make_loader(windows, num_workers=2)
    assert loader._loader.multiprocessing_context.get_start_method() == "spawn"
    assert [content(b) for b in loader._loader] == whole, "a plain DataLoader hands out every window once"
    for n, batch in enumerate(loader, 1):
        assert content(batch) == whole[n - 1]
        if n == 3:
            state = loader.state_dict()
            break
    assert state == {"epoch": 4, "batches": 3, "seed": 0, "open_chunks": 0}
    alone = make_loader(windows_of(store))
    alone.load_state_dict(state)
    assert [content(b) for b in alone] == whole[3:]
    assert [content(b) for b in loader] == whole[3:], "the same workers go on after the batch that was used last"
    loader.set_epoch(5)
    alone.set_epoch(5)
    assert [content(b) for b in loader] == [content(b) for b in alone] != whole
