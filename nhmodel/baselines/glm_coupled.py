"""Poisson GLM with a low-rank coupling between all units."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

from nhmodel.baselines.glm import Glm
from nhmodel.baselines.protocol import poisson_loss
from nhmodel.windows import SessionWindows


class GlmCoupled:
    """`Glm` plus, in the log rate, what 8 shared dimensions of the whole population's history say.

    The dimensions start as the leading singular vectors of the standardised history features of all units; they
    and each (group, unit)'s weights on them (starting at 0, so at `Glm`) are then fitted by AdamW on the Poisson
    loss. The step with the lowest loss on `valid` is kept: step 0 is `Glm` itself. Without `valid`, 100 steps.
    """

    name = "glm_coupled"
    rank = 8
    learning_rate = 1e-3
    weight_decay = 10.0
    batch_windows = 256
    max_steps = 1_500
    check_every = 25
    patience_steps = 300

    def fit(self, train: SessionWindows, valid: SessionWindows) -> Self:
        self.own = Glm().fit(train, valid)
        self._fit_coupling(train, valid, self.max_steps if valid.n_windows else 100)
        return self

    def refit(self, windows: SessionWindows) -> Self:
        self.own.refit(windows)
        self._fit_coupling(windows, windows[:0], self.steps)
        return self

    def _fit_coupling(self, train: SessionWindows, valid: SessionWindows, steps: int) -> None:
        """At most `steps` steps, as many as are best on `valid`; exactly `steps` where it is empty."""
        features = self._features(train)
        self.center = features.mean(axis=0)
        self.spread = np.maximum(features.std(axis=0), 1e-3)
        inputs = torch.from_numpy(self._inputs(train))
        own = torch.from_numpy(self.own.log_expected(train).astype(np.float32))
        counts = torch.from_numpy(self.own.groups.counts(train).astype(np.float32))
        target = self.own.groups.counts(valid)

        rank = min(self.rank, *inputs.shape)
        axes = randomized_svd(inputs.numpy(), rank, random_state=0)[2].T
        down = torch.from_numpy(np.ascontiguousarray(axes)).requires_grad_()
        up = torch.zeros(rank, *own.shape[1:], requires_grad=True)
        optimizer = torch.optim.AdamW([down, up], lr=self.learning_rate, weight_decay=self.weight_decay)
        order = torch.Generator().manual_seed(0)
        best_loss, self.steps = np.inf, 0
        for step in range(steps + 1):
            if step % self.check_every == 0:
                self.down, self.up = down.detach().numpy(), up.detach().numpy()
                loss = poisson_loss(target, self._expected(valid))
                if loss < best_loss or not valid.n_windows:
                    best_loss, self.steps, best = loss, step, (self.down.copy(), self.up.copy())
                if step - self.steps >= self.patience_steps:
                    break
            rows = torch.randint(len(inputs), (min(self.batch_windows, len(inputs)),), generator=order)
            log_expected = own[rows] + torch.tensordot(inputs[rows] @ down, up, 1)
            batch_loss = torch.sum(torch.exp(log_expected) - counts[rows] * log_expected) / len(rows)
            optimizer.zero_grad()
            batch_loss.backward()
            optimizer.step()
        self.down, self.up = best

    def predict(self, windows: SessionWindows) -> NDArray[np.float32]:
        return self.own.groups.per_bin(self._expected(windows))

    def _features(self, windows: SessionWindows) -> NDArray[np.float32]:
        features = self.own.history(windows).astype(np.float32)
        flat: NDArray[np.float32] = features.reshape(len(features), math.prod(features.shape[1:]))
        return flat

    def _inputs(self, windows: SessionWindows) -> NDArray[np.float32]:
        """(W, M·N) standardised history features of all units."""
        inputs: NDArray[np.float32] = (self._features(windows) - self.center) / self.spread
        return inputs

    def _expected(self, windows: SessionWindows) -> NDArray[np.float64]:
        """(W, G, N) expected count of each group of bins."""
        coupling = np.tensordot(self._inputs(windows) @ self.down, self.up, 1)
        expected: NDArray[np.float64] = np.minimum(np.exp(self.own.log_expected(windows) + coupling), self.own.cap)
        return expected
