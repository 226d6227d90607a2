"""Windows as a run's settings ask for them."""

from __future__ import annotations

from nhcatalog.place import Place
from nhdata.loading import WindowDataset
from nhdata.loading.covariates import present
from nhdata.loading.selection import Selection
from nhmodel.config import Config
from nhmodel.model import latent_steps


def open_windows(
    store_path: Place | str,
    selection: Selection,
    config: Config,
    split: str,
    *,
    shuffle: bool = False,
    reference_s: float | None = None,
    averages: bool = True,
    sharded: bool = True,
) -> WindowDataset:
    """Windows of some units, of the shape, batch size and seed that `config` says.

    Covariates that none of their sessions has are left out.

    Parameters
    ----------
    store_path : path
    selection : Selection
    config : Config
    split : str
    shuffle : bool
    reference_s : float, optional
        Needed for the splits ``reference`` and ``rest``.
    averages : bool
        Whether the batches need moving averages; without them they are cut faster.
    sharded : bool
        Each rank of distributed training gets its share; otherwise all get all.
    """
    data = config.data
    return WindowDataset(
        store_path,
        select=selection,
        split=split,
        history_s=data.history_s,
        horizon_s=data.horizon_s,
        bin_s=data.bin_s,
        covariates=present(selection.sessions, data.covariates),
        covariate_steps=latent_steps(config.model, data),
        ema_tau_s=data.ema_tau_s if averages else (),
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        memory_budget_mb=data.memory_budget_mb,
        shuffle=shuffle,
        reference_s=reference_s,
        rank=None if sharded else 0,
        world_size=None if sharded else 1,
    )
