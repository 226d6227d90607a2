"""A DataLoader that knows how many batches it has handed out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.utils.data

from nhdata.loading.batch import WindowBatch
from nhdata.loading.dataset import WindowDataset


class WindowLoader:
    """Iterate over the batches of one epoch, from where the last iteration was left.

    Its state counts batches handed out, not batches read ahead by workers, so training that stops and starts
    again with `load_state_dict` sees the identical remaining stream, with any number of workers.

    Attributes
    ----------
    dataset : WindowDataset
    """

    def __init__(self, dataset: WindowDataset, num_workers: int, pin_memory: bool, device: torch.device | None) -> None:
        self.dataset, self._device = dataset, device
        self._loader = torch.utils.data.DataLoader(
            dataset,
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            multiprocessing_context="spawn" if num_workers else None,
            # every iteration draws a number: from here, so that a resumed run's dropout is not one draw ahead
            generator=torch.Generator(),
        )
        self._batches = dataset.state_dict()["batches"]

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[WindowBatch]:
        self.dataset.load_state_dict(self.state_dict())
        for batch in self._loader if self._device is None else on_device(self._loader, self._device):
            self._batches += self.dataset.world_size
            yield batch
        self._batches = 0

    def set_epoch(self, epoch: int) -> None:
        """Go through the order of another epoch from its beginning."""
        self.dataset.set_epoch(epoch)
        self._batches = 0

    def state_dict(self) -> dict[str, int]:
        """Epoch, batches handed out on all ranks, seed."""
        return {**self.dataset.state_dict(), "batches": self._batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from `state` at the next iteration."""
        self.dataset.load_state_dict(state)
        self._batches = state["batches"]


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
