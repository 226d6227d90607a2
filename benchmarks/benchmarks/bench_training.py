"""One step of training the preset ``tiny``: 32 windows of a simulated session of 32 units, on one thread."""

from pathlib import Path

import torch

from nhdata.ingest import ingest
from nhdata.loading import WindowDataset
from nhdata.sources import SourceOptions
from nhmodel.config import load_config
from nhmodel.model import NeuroHorizon
from nhmodel.units import rows_by_id, unit_table


class TrainingStep:
    """Forward alone, the whole step, and the batch it needs: on a CPU the model is the limit, on a GPU the loader."""

    timeout = 600

    def setup_cache(self) -> str:
        root = Path("training.zarr").absolute()
        ingest(root, "synthetic", [], options=SourceOptions(n_sessions=1, n_units=32, duration_s=60.0))
        return str(root)

    def setup(self, root: str) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        config = load_config("tiny")
        data = {key: getattr(config.data, key) for key in ("history_s", "horizon_s", "bin_s", "ema_tau_s")}
        self.windows = WindowDataset(root, batch_size=config.train.batch_size, **data)
        self.marks = self.windows.plan().batch(0, 0, 1)
        self.batch = self.windows.collate(self.marks)
        known = WindowDataset(root, shuffle=False, **data)
        self.units = unit_table(known, rows_by_id(known.unit_ids))
        self.model = NeuroHorizon(config.model, config.data, len(known.unit_ids))
        if self.model.identity.encoder is not None:
            self.model.identity.encoder.fit_normaliser(self.units.features.numpy())
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.train.lr)
        self.time_step(root)

    def time_batch(self, root: str) -> None:
        self.windows.collate(self.marks)

    @torch.no_grad()
    def time_forward(self, root: str) -> None:
        self.model.eval()(self.batch, self.units)

    def time_step(self, root: str) -> None:
        self.model.train()
        self.optimizer.zero_grad()
        self.model.compute_loss(self.batch, self.units).backward()
        self.optimizer.step()
