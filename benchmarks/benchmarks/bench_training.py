"""One step of training the preset ``tiny``: 32 windows of a simulated session of 32 units, on one thread."""

from pathlib import Path

import torch

from nhdata.ingest import ingest
from nhdata.loading import WindowDataset
from nhdata.sources import SourceOptions
from nhmodel.config import load_config
from nhmodel.model import NeuroHorizon
from nhmodel.units import rows_by_id, unit_table

from .poyo import Step, poyo


class _Training:
    timeout = 600

    def setup_cache(self) -> str:
        root = Path("training.zarr").absolute()
        ingest(root, "synthetic", [], options=SourceOptions(n_sessions=1, n_units=32, duration_s=60.0))
        return str(root)

    def setup(self, root: str) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.config = load_config("tiny")
        data = {key: getattr(self.config.data, key) for key in ("history_s", "horizon_s", "bin_s", "ema_tau_s")}
        self.windows = WindowDataset(root, batch_size=self.config.train.batch_size, **data)
        self.marks = self.windows.plan().batch(0, 0, 1)
        self.batch = self.windows.collate(self.marks)
        known = WindowDataset(root, shuffle=False, **data)
        self.units = unit_table(known, rows_by_id(known.unit_ids))
        self.model = NeuroHorizon(self.config.model, self.config.data, len(known.unit_ids))
        if self.model.identity.encoder is not None:
            self.model.identity.encoder.fit_normaliser(self.units.features.numpy())


class TrainingStep(_Training):
    """Forward, backward and update on a batch that is there, beside POYO as wide and deep."""

    def setup(self, root: str) -> None:
        super().setup(root)
        self.poyo: tuple[torch.optim.Optimizer, Step] | None = None
        self.optimizer = torch.optim.AdamW(self.model.train().parameters(), lr=self.config.train.lr)
        self.time_ours(root)

    def time_ours(self, root: str) -> None:
        _update(self.optimizer, lambda: self.model.compute_loss(self.batch, self.units))

    def time_poyo(self, root: str) -> None:
        if self.poyo is None:
            model, step = poyo(self.config, self.batch, len(self.units.features))
            self.poyo = torch.optim.AdamW(model.train().parameters(), lr=self.config.train.lr), step
        _update(*self.poyo)


class PartsOfAStep(_Training):
    """The batch that a step needs, and the forward pass: on a CPU the model is the limit, on a GPU the loader."""

    def time_ours_batch(self, root: str) -> None:
        self.windows.collate(self.marks)

    @torch.no_grad()
    def time_ours_forward(self, root: str) -> None:
        self.model.eval()(self.batch, self.units)


def _update(optimizer: torch.optim.Optimizer, step: Step) -> None:
    optimizer.zero_grad()
    step().backward()
    optimizer.step()
