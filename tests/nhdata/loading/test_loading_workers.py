"""The data set in worker processes, forked and spawned."""

import subprocess
import sys
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


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("persistent", [False, True])
def test_plain_workers_use_a_state_once(store: Path, content: Content, persistent: bool) -> None:
    windows = windows_of(store)
    whole = [content(b) for b in windows]
    loader = torch.utils.data.DataLoader(
        windows, batch_size=None, num_workers=2, persistent_workers=persistent, multiprocessing_context="fork"
    )
    for batch in loader:
        assert content(batch) == whole[0]
        break
    windows.load_state_dict({**windows.state_dict(), "batches": 3})
    assert [content(b) for b in loader] == whole[3:]
    assert [content(b) for b in loader] == whole
    assert [content(b) for b in windows] == whole


SCRIPT = """
import sys
from nhdata.loading import WindowDataset, make_loader
print(len(list(make_loader(WindowDataset(sys.argv[1], history_s=0.2, bin_s=0.1), num_workers=1))))
"""


@pytest.mark.parametrize("stdin", [False, True])
def test_a_program_that_workers_cannot_import_ends_before_they_start(store: Path, tmp_path: Path, stdin: bool) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-" if stdin else str(script), str(store)]
    done = subprocess.run(command, input=SCRIPT if stdin else None, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    problem = "cannot import the main program" if stdin else f"{script}:4 starts worker processes without"
    assert problem in done.stderr.splitlines()[-1]
    assert "if __name__ == '__main__'" in done.stderr.splitlines()[-1]


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
    assert [content(b) for b in alone] == whole, "a state is used once"
    assert [content(b) for b in loader] == whole, "an iteration that was left changes nothing"
    loader.load_state_dict(state)
    assert [content(b) for b in loader] == whole[3:]
    one = iter(loader)
    assert content(next(one)) == whole[0]
    assert [content(b) for b in loader] == whole, "another iteration beside one in use"
    assert [content(b) for b in one] == whole[1:]
    loader.set_epoch(5)
    alone.set_epoch(5)
    assert [content(b) for b in loader] == [content(b) for b in alone] != whole
