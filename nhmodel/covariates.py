"""What a model is told besides spikes, before it is trained: covariates, and what they are normalised by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.loading import WindowDataset
from nhdata.loading.covariates import n_components
from nhdata.loading.selection import Selection
from nhmodel.config import DataConfig
from nhmodel.cosmoother import Model
from nhmodel.layers.covariates import Covariate, Shape

CHUNK_WINDOWS = 4096


def covariate_shapes(selection: Selection, data: DataConfig) -> dict[str, Shape]:
    """Shape of each covariate of `data`: its components, or those of the array that it numbers the rows of.

    Raises
    ------
    UserError
        If no session has one of them, or an array is not there or not one of (frames, dim) numbers.
    """
    found = n_components(selection.sessions, data.covariates)
    return {
        name: read_embeddings(data.embeddings[name]).shape if name in data.embeddings else (n,)
        for name, n in found.items()
    }


def read_embeddings(path: str) -> NDArray[np.float32]:
    """An array of (frames, dim) finite numbers from a ``.npy`` file; nothing in the file is run.

    Raises
    ------
    UserError
        If it is not one.
    """
    try:
        values = np.load(Path(path), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: {error}", "name a .npy file of embeddings (frames, dim)") from None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiu" or not values.size:
        raise UserError(f"{path} is no array of numbers (frames, dim)", "save one with numpy.save")
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds values that are not finite", "replace them")
    return values.astype(np.float32)


def fit_covariates(model: Model, known: WindowDataset, data: DataConfig) -> None:
    """Give a model its arrays of embeddings, and mean and standard deviation of every component in training windows.

    Parameters
    ----------
    model : Model
    known : WindowDataset
        Unshuffled windows of the training split, on all ranks alike.
    data : DataConfig

    Raises
    ------
    UserError
        If a frame of a training window is not in its array, or a covariate is in no training window.
    """
    if model.covariates is None:
        return
    for covariate in model.covariates.each:
        assert isinstance(covariate, Covariate)
        if covariate.name in data.embeddings:
            covariate.table.copy_(torch.from_numpy(read_embeddings(data.embeddings[covariate.name])))
        _normalise(covariate, known)


@torch.no_grad()
def _normalise(covariate: Covariate, known: WindowDataset) -> None:
    marks, name = known.plan().windows, covariate.name
    sums = torch.zeros(3, covariate.shape[-1], dtype=torch.float64)
    for k in range(0, len(marks), CHUNK_WINDOWS):
        values, masks = known.covariates(marks[k : k + CHUNK_WINDOWS])
        value, there = covariate.values(values[name])
        if len(covariate.shape) > 1 and (last := float(values[name][..., 0].max())) >= covariate.shape[0]:
            raise UserError(
                f"{name} is {last:g}, of an array of {covariate.shape[0]} frames",
                "give an array with a row for every frame",
            )
        x = value[masks[name] & there].double()
        sums += torch.stack([torch.full_like(sums[0], len(x)), x.sum(0), x.square().sum(0)])
    if not sums[0, 0]:
        raise UserError(f"covariate {name!r} is in no training window", "leave it out of data.covariates")
    mean = sums[1] / sums[0]
    std = (sums[2] / sums[0] - mean.square()).clamp(min=0).sqrt()
    covariate.mean.copy_(mean)
    covariate.std.copy_(torch.where(std > 1e-6 * (1 + mean.abs()), std, torch.ones_like(std)))
