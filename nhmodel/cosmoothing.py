"""Co-smoothing: what units that are held out do, from what all others do at the same time."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import Ridge
from torch import Tensor

from nhdata.loading import WindowDataset
from nhmodel.baselines.protocol import poisson_loss
from nhmodel.cosmoother import CoSmoother
from nhmodel.model import UnitTable

EVERY = 10


def held_out_units(n_units: int) -> Tensor:
    """(N,) bool: a tenth of the units of a session, every tenth of them from the sixth on.

    Examples
    --------
    >>> held_out_units(17).nonzero().flatten().tolist()
    [5, 15]
    """
    return torch.arange(n_units) % EVERY == EVERY // 2


@torch.no_grad()
def co_smoothed(model: CoSmoother, windows: WindowDataset, units: UnitTable) -> NDArray[np.float32]:
    """Expected counts (W, H, K) of the K held-out units of a session, over each window's history."""
    model.eval()
    out = []
    for batch in windows:
        held_out = held_out_units(batch.unit_mask.shape[1])
        out.append(model(batch, units, held_out=held_out.expand_as(batch.unit_mask)).exp()[..., held_out].numpy())
    return np.concatenate(out)


class CoSmoothingRidge:
    """Ridge regression of held-out units' counts on the smoothed counts of the others, bin by bin.

    Smoothing, ridge and floor (a fraction of the unit's mean) are chosen on validation windows.
    """

    widths = (1.0, 2.5, 6.0)
    ridges = (10.0, 100.0, 1000.0, 10000.0)
    floors = (0.05, 0.2, 0.5)

    def fit(
        self,
        heard: NDArray[np.unsignedinteger],
        target: NDArray[np.unsignedinteger],
        valid: tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger]],
        null: NDArray[np.float32],
    ) -> Self:
        """Learn from ``heard`` (W, H, N) and ``target`` (W, H, K); choose on `valid`, the same of other windows."""
        self.null, losses, fits = null, {}, {}
        for width in self.widths:
            x = smoothed(heard, width).reshape(-1, heard.shape[2])
            y = target.reshape(len(x), -1) - null
            for ridge in self.ridges:
                fits[width, ridge] = Ridge(ridge).fit(x, y)
                raw = self._raw(valid[0], width, fits[width, ridge])
                for floor in self.floors:
                    losses[width, ridge, floor] = poisson_loss(valid[1], np.maximum(raw, floor * null))
        self.width, self.ridge, self.floor = min(losses, key=losses.__getitem__)
        self.regression = fits[self.width, self.ridge]
        return self

    def predict(self, heard: NDArray[np.unsignedinteger]) -> NDArray[np.float32]:
        """Expected counts (W, H, K)."""
        expected: NDArray[np.float32] = np.maximum(
            self._raw(heard, self.width, self.regression), self.floor * self.null
        )
        return expected

    def _raw(self, heard: NDArray[np.unsignedinteger], width: float, regression: Ridge) -> NDArray[np.float32]:
        x = smoothed(heard, width).reshape(-1, heard.shape[2])
        shape = (*heard.shape[:2], len(self.null))
        added: NDArray[np.float32] = regression.predict(x).reshape(shape).astype(np.float32)
        return self.null + added


def smoothed(counts: NDArray[np.unsignedinteger], width: float) -> NDArray[np.float32]:
    """(W, H, N) counts smoothed over bins, within each window, by a Gaussian of `width` bins."""
    smooth: NDArray[np.float32] = gaussian_filter1d(counts.astype(np.float32), width, axis=1, mode="nearest")
    return smooth
