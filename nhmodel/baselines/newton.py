"""Many small Poisson regressions at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def fit_poisson(features: Floats, counts: Floats, log_base: Floats, prior: Floats, ridge: float) -> Floats:
    """Minimise ``Σ exp(η) - counts · η + ridge/2 · |θ - prior|²``, ``η = log_base + features · θ``, per problem.

    Newton's method with step halving, all problems side by side; the loss is strictly convex for a ridge
    above 0, so a start at the prior reaches the one minimum.

    Parameters
    ----------
    features : (P, S, K) float64
        P problems of S samples.
    counts : (P, S) floating
    log_base : (P, S) or (P, 1) float64
    prior : (P, K) float64
    ridge : float

    Returns
    -------
    (P, K) float64
        θ of each problem.
    """
    identity = np.eye(features.shape[2])

    def evaluate(theta: Floats) -> tuple[Floats, Floats]:
        eta = log_base + np.matmul(features, theta[..., None])[..., 0]
        # beyond e^30 spikes a bin any step is a bad one
        rate = np.exp(np.minimum(eta, 30.0))
        penalty = ridge / 2 * np.sum((theta - prior) ** 2, axis=1)
        return rate, np.sum(rate - counts * eta, axis=1) + penalty

    theta = prior.copy()
    rate, loss = evaluate(theta)
    for _ in range(50):
        gradient = np.matmul((rate - counts)[:, None], features)[:, 0] + ridge * (theta - prior)
        curvature = np.matmul(features.swapaxes(1, 2), rate[..., None] * features) + ridge * identity
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        for _ in range(30):
            tried = theta - step
            tried_rate, tried_loss = evaluate(tried)
            worse = tried_loss > loss
            if not worse.any():
                break
            step[worse] /= 2
        gain = np.where(worse, 0.0, loss - tried_loss)
        theta = np.where(worse[:, None], theta, tried)
        rate, loss = np.where(worse[:, None], rate, tried_rate), loss - gain
        if gain.max() < 1e-4:
            break
    return theta
