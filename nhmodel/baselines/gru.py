"""A small recurrent network of one session."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nhmodel.baselines.protocol import null_expected, poisson_loss
from nhmodel.baselines.rrr import chunks
from nhmodel.windows import SessionWindows


class GruNetwork(nn.Module):
    """Reads the history bin by bin, then runs on without input; each state says every unit's log rate over its mean."""

    def __init__(self, n_units: int, n_ema: int, hidden: int) -> None:
        super().__init__()
        self.into, self.from_ema = nn.Linear(n_units, hidden), nn.Linear(n_ema * n_units, hidden)
        self.encode, self.decode = nn.GRU(hidden, hidden, batch_first=True), nn.GRU(1, hidden, batch_first=True)
        self.dropout, self.out = nn.Dropout(0.3), nn.Linear(hidden, n_units)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, history: Tensor, ema: Tensor, n_bins: int) -> Tensor:
        """(B, T, N) from ``history`` (B, H, N) and ``ema`` (B, M·N)."""
        state = self.encode(self.into(self.dropout(history)))[1] + torch.tanh(self.from_ema(self.dropout(ema)))
        states, _ = self.decode(history.new_zeros(len(history), n_bins, 1), state)
        out: Tensor = self.out(self.dropout(states))
        return out


class Gru:
    """`GruNetwork` of 64 units, fitted to the Poisson loss by AdamW.

    It starts at the mean. The step with the lowest loss on `valid` is kept; without `valid`, 200 steps.
    """

    name = "gru"
    hidden = 64
    learning_rate = 3e-3
    weight_decay = 0.1
    batch_windows = 64
    max_steps = 1_000
    check_every = 25
    patience_steps = 150

    def fit(self, train: SessionWindows, valid: SessionWindows) -> Self:
        self._train(train, valid, self.max_steps if valid.n_windows else 200)
        return self

    def refit(self, windows: SessionWindows) -> Self:
        self._train(windows, windows[:0], self.steps)
        return self

    def _train(self, train: SessionWindows, valid: SessionWindows, steps: int) -> None:
        """At most `steps` steps, as many as are best on `valid`; exactly `steps` where it is empty."""
        self.null = null_expected(train)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = GruNetwork(train.n_units, len(train.ema_tau_s), self.hidden)
            optimizer = torch.optim.AdamW(
                self.network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
            )
            best_loss, self.steps, best = np.inf, 0, copy.deepcopy(self.network.state_dict())
            for step in range(steps + 1):
                if valid.n_windows and step % self.check_every == 0:
                    loss = poisson_loss(valid.counts, self.predict(valid))
                    if loss < best_loss:
                        best_loss, self.steps = loss, step
                        best = copy.deepcopy(self.network.state_dict())
                    if step - self.steps >= self.patience_steps:
                        break
                if step < steps:
                    self._step(train, optimizer)
            if valid.n_windows:
                self.network.load_state_dict(best)
            else:
                self.steps = steps

    def _step(self, train: SessionWindows, optimizer: torch.optim.Optimizer) -> None:
        rows = torch.randint(train.n_windows, (min(self.batch_windows, train.n_windows),)).numpy()
        counts = torch.from_numpy(train.counts[rows].astype(np.float32))
        log_expected = self._log_expected(train.history[rows], train.ema_hz[rows], train, self.network.train())
        loss = torch.mean(torch.exp(log_expected) - counts * log_expected)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        optimizer.step()

    def predict(self, windows: SessionWindows) -> NDArray[np.float32]:
        expected = np.empty((windows.n_windows, windows.n_bins, windows.n_units), np.float32)
        with torch.no_grad():
            for rows in chunks(windows):
                part = windows[rows]
                log_expected = self._log_expected(part.history, part.ema_hz, windows, self.network.eval())
                expected[rows] = torch.exp(log_expected).numpy()
        return expected

    def _log_expected(
        self,
        history: NDArray[np.unsignedinteger],
        ema_hz: NDArray[np.float32],
        windows: SessionWindows,
        network: GruNetwork,
    ) -> Tensor:
        """(W, T, N), from inputs that are compressed and about the mean."""
        ratio = ema_hz * np.float32(windows.bin_s) / self.null
        ema = torch.from_numpy(np.log((ratio + 0.3) / 1.3).reshape(len(ratio), -1))
        gain: Tensor = network(torch.from_numpy(np.sqrt(history.astype(np.float32))), ema, windows.n_bins)
        return torch.from_numpy(np.log(self.null)) + gain.clamp(-6, 6)
