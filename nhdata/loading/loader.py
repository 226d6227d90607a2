"""A DataLoader that knows how many batches it has handed out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.utils.data

from nhdata.loading.batch import WindowBatch
from nhdata.loading.dataset import WindowDataset


class WindowLoader:
    """Iterate over the batches of one epoch.

    Every iteration begins at the beginning of the epoch, but the first one after `load_state_dict`. Iterations that run
    at the same time are independent of each other; with workers, each but the first starts workers of its own.

    Its state counts batches handed out, not batches read ahead by workers, so training that stops and starts
    again with `load_state_dict` sees the identical remaining stream, with any number of workers.

    Attributes
    ----------
    dataset : WindowDataset
    """

    def __init__(self, dataset: WindowDataset, num_workers: int, pin_memory: bool, device: torch.device | None) -> None:
        self.dataset, self._device = dataset, device
        self._num_workers, self._pin_memory = num_workers, pin_memory
        self._loader = self._data_loader(persistent=num_workers > 0)
        self._is_busy = False
        self._epoch, self._batches = dataset.epoch, 0  # of the iteration that last began or handed out a batch

    def _data_loader(self, persistent: bool) -> torch.utils.data.DataLoader[WindowBatch]:
        return torch.utils.data.DataLoader(
            self.dataset,
            batch_size=None,
            num_workers=self._num_workers,
            pin_memory=self._pin_memory,
            persistent_workers=persistent,
            multiprocessing_context="spawn" if self._num_workers else None,
            # every iteration draws a number: from here, so that a resumed run's dropout is not one draw ahead
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[WindowBatch]:
        start, _ = self.dataset.take_start()
        self._epoch, self._batches = self.dataset.epoch, start
        return self._iterate(start)

    def _iterate(self, start: int) -> Iterator[WindowBatch]:
        """Hand out the batches of the epoch after the first `start` of all ranks."""
        owns = not self._is_busy
        loader = self._loader if owns else self._data_loader(persistent=False)
        epoch, done = self.dataset.epoch, start
        self._is_busy = True
        try:
            batches = self._begin(loader, start)
            for batch in batches if self._device is None else on_device(batches, self._device):
                done += self.dataset.world_size
                self._epoch, self._batches = epoch, done
                yield batch
            self._batches = 0
        finally:
            if owns:
                self._is_busy = False

    def _begin(self, loader: torch.utils.data.DataLoader[WindowBatch], start: int) -> Iterable[WindowBatch]:
        """Begin an iteration of `loader` at a batch."""
        if not self._num_workers:
            self.dataset.load_state_dict({**self.dataset.state_dict(), "batches": start})
            return iter(loader)
        self.dataset.begin_workers_at(start)
        return _from_workers(loader, self.dataset)

    def set_epoch(self, epoch: int) -> None:
        """Go through the order of another epoch from its beginning."""
        self.dataset.set_epoch(epoch)
        self._epoch, self._batches = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Epoch, batches handed out on all ranks, seed.

        The batches are those of the iteration that last began or handed out a batch, or of the state that was loaded
        since.
        """
        state = self.dataset.state_dict()
        if not self.dataset.is_loaded:
            state["batches"] = self._batches if self._epoch == state["epoch"] else 0
        return state

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from `state` at the next iteration, and at that one only."""
        self.dataset.load_state_dict(state)


def _from_workers(loader: torch.utils.data.DataLoader[WindowBatch], dataset: WindowDataset) -> Iterator[WindowBatch]:
    """Iterate over `loader`, whose workers begin where `dataset` says."""
    try:
        yield from loader
    finally:
        dataset.begin_workers_at(None)


def make_loader(
    dataset: WindowDataset,
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
    device: torch.device | str | None = None,
) -> WindowLoader:
    """A resumable loader over `dataset`.

    Parameters
    ----------
    dataset : WindowDataset
    num_workers : int
        Processes that read ahead; 0 reads in this one.
    pin_memory : bool
        Put batches in page-locked memory, for a GPU.
    device : torch.device or str, optional
        Hand out batches on this device. To a GPU the next batch is copied while the last one is used.
    """
    return WindowLoader(dataset, num_workers, pin_memory, None if device is None else torch.device(device))


def on_device(batches: Iterable[WindowBatch], device: torch.device) -> Iterator[WindowBatch]:
    """The same batches on a device; on CUDA copied one ahead, in a stream of its own."""
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    copies = torch.cuda.Stream(device)
    ahead: WindowBatch | None = None
    for batch in batches:
        with torch.cuda.stream(copies):
            moved = batch.to(device, non_blocking=True)
        if ahead is not None:
            yield ahead
        torch.cuda.current_stream(device).wait_stream(copies)
        moved.record_stream(torch.cuda.current_stream(device))
        ahead = moved
    if ahead is not None:
        yield ahead
