"""The training loss, against torch's own and against a loop."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import poisson

from nhmodel.loss import PoissonNLLLoss

LOG_RATES = hnp.arrays(np.float32, (3, 4), elements=st.floats(-10, 5, width=32))
COUNTS = hnp.arrays(np.int16, (3, 4), elements=st.integers(0, 50))


@given(log_rate=LOG_RATES, counts=COUNTS)
def test_loss_is_the_poisson_likelihood_but_for_what_no_forecast_changes(
    log_rate: np.ndarray, counts: np.ndarray
) -> None:
    loss = PoissonNLLLoss()
    found = loss(torch.from_numpy(log_rate), torch.from_numpy(counts))
    at_one = loss(torch.zeros(3, 4), torch.from_numpy(counts))
    log_pmf = [poisson.logpmf(counts, np.exp(x.astype(np.float64))).mean() for x in (log_rate, np.zeros((3, 4)))]
    np.testing.assert_allclose(float(found - at_one), log_pmf[1] - log_pmf[0], rtol=1e-4, atol=1e-3)


@given(log_rate=LOG_RATES, counts=COUNTS, units=hnp.arrays(bool, 4))
def test_weights_leave_out_padding(log_rate: np.ndarray, counts: np.ndarray, units: np.ndarray) -> None:
    found = PoissonNLLLoss()(torch.from_numpy(log_rate), torch.from_numpy(counts), torch.from_numpy(units))
    kept = [
        np.exp(np.float64(log_rate[i, j])) - counts[i, j] * np.float64(log_rate[i, j])
        for i in range(3)
        for j in range(4)
        if units[j]
    ]
    np.testing.assert_allclose(float(found), np.mean(kept) if kept else 0.0, rtol=1e-4, atol=1e-3)


def test_loss_is_float32_in_half_precision() -> None:
    assert PoissonNLLLoss()(torch.zeros(2, dtype=torch.bfloat16), torch.ones(2)).dtype == torch.float32
