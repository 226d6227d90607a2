"""Simulated sessions of coupled Poisson units whose true rates are known.

A slow latent state (a damped rotation and two leaky integrators, driven by noise and by the onset of trials)
sets every unit's log rate; spikes of other units push it through sparse, decaying couplings; a unit is silent
for its refractory period after each of its own spikes. The wheel turns with the latent state. The true rate
is kept as the series ``true_rate_hz``: what the state and the other units' spikes make of a unit at each moment,
and its refractory period on average. It is the ceiling of every score. (A rate that fell to zero after each spike
would be none: summed over a bin, it is the lower for the very spikes that it is to tell.)

Point-process model: Truccolo et al. 2005, J Neurophysiol 93:1074; latent drive: Macke et al. 2011, NIPS 24.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.jit import kernel
from nhdata.recording import Provenance, Recording, Series, Spikes
from nhdata.sources import SessionRef, SourceOptions

SAMPLE_RATE_HZ = 30000.0
STEP_S = 0.001
RATE_BIN_STEPS = 20
N_LATENTS = 4
COUPLING_TAU_S = 0.03
MAX_RATE_HZ = 200.0
MAX_DURATION_S = 86_400.0
REGIONS = ("CA1", "CA3", "DG", "VISp", "LP")


@dataclass(frozen=True, slots=True)
class Network:
    """What is drawn once per session: the units and how they are driven."""

    log_rate_hz: NDArray[np.float64]  # (N,)
    loading: NDArray[np.float64]  # (N, N_LATENTS)
    coupling: NDArray[np.float64]  # (N, N): from column to row
    refractory_steps: NDArray[np.int64]  # (N,)


class SyntheticSource:
    """Simulated sessions; needs no path.

    ``SourceOptions.n_sessions``, ``n_units``, ``duration_s`` and ``seed`` say what is simulated; the same
    values give the same spikes.
    """

    name = "synthetic"
    takes = ("n_sessions", "n_units", "duration_s", "seed")

    def __init__(self, options: SourceOptions) -> None:
        self.options = options

    def iter_sessions(self, paths: Sequence[Path]) -> Iterator[SessionRef]:
        """One reference per session to simulate.

        Raises
        ------
        UserError
            If a path was given, or a count or duration is not positive.
        """
        if paths:
            raise UserError(f"the synthetic source reads no path, but was given {paths[0]}", "leave the path out")
        o = self.options
        if min(o.n_sessions, o.n_units) < 1 or not 1 <= o.duration_s < MAX_DURATION_S or o.seed < 0:
            raise UserError(
                f"cannot simulate {o.n_sessions} sessions of {o.n_units} units over {o.duration_s} s, seed {o.seed}",
                "ask for at least one session, one unit, one second and seed 0, and for less than a day",
            )
        for number in range(o.n_sessions):
            session_id = f"sim-n{o.n_units}-t{o.duration_s:g}-s{o.seed}-{number:03d}"
            yield SessionRef(Path(session_id), session_id)

    def load(self, ref: SessionRef) -> Recording:
        """Simulate one session."""
        assert ref.session_id is not None
        o = self.options
        number = int(ref.session_id.rsplit("-", 1)[1])
        rng = np.random.default_rng([o.seed, number, o.n_units])
        return simulate(rng, ref.session_id, number, o.n_units, o.duration_s)


def simulate(rng: np.random.Generator, session_id: str, number: int, n_units: int, duration_s: float) -> Recording:
    """One session of `n_units` units over `duration_s` seconds.

    Parameters
    ----------
    rng : numpy.random.Generator
        Decides everything.
    session_id : str
    number : int
        Number of the session; each animal has two.
    n_units : int
    duration_s : float

    Returns
    -------
    Recording
        With ``trials``, ``wheel_position`` (rad), ``wheel_velocity`` (rad/s) and ``true_rate_hz``
        (one column per unit, mean over each 20 ms; times are bin centres).
    """
    n_steps = int(duration_s / STEP_S)
    network = _draw_network(rng, n_units)
    trials = _draw_trials(rng, duration_s)
    latent = _latent(rng, n_steps, (trials["stim_on_s"] / STEP_S).astype(np.int64), trials["contrast"])
    n_bins = n_steps // RATE_BIN_STEPS
    rate = np.zeros((n_bins, n_units), np.float32)
    seed = int(rng.integers(2**31))
    step, unit = _spikes(
        seed, latent, network.log_rate_hz, network.loading, network.coupling, network.refractory_steps, rate
    )
    samples_per_step = round(SAMPLE_RATE_HZ * STEP_S)
    sample = step * samples_per_step + rng.integers(0, samples_per_step, step.size)
    wheel_time_s = np.asarray(np.arange(0, n_steps, 10) * STEP_S, np.float64)
    rate_time_s = np.asarray((np.arange(n_bins) + 0.5) * RATE_BIN_STEPS * STEP_S, np.float64)
    wheel_velocity = 2.0 * latent[::10, 0] + 0.2 * rng.standard_normal(wheel_time_s.size)
    region = np.array(REGIONS, dtype=object)[np.arange(n_units) * len(REGIONS) // n_units]
    return Recording(
        source="synthetic",
        session_id=session_id,
        spikes=Spikes(sample, unit, SAMPLE_RATE_HZ),
        units={
            "cluster_id": np.arange(n_units),
            "probe": np.full(n_units, "probe00", dtype=object),
            "region": region,
            "depth_um": np.linspace(3800, 100, n_units),
            "quality": np.full(n_units, "good", dtype=object),
        },
        stop_s=duration_s,
        provenance=Provenance(
            files=(),
            original_ids={"simulation": session_id},
            rule="every simulated unit",
            dropped={},
        ),
        intervals={"trials": trials},
        series={
            "wheel_position": Series(wheel_time_s, np.cumsum(wheel_velocity) * 10 * STEP_S, "rad"),
            "wheel_velocity": Series(wheel_time_s, wheel_velocity, "rad/s"),
            "true_rate_hz": Series(rate_time_s, rate, "Hz"),
        },
        subject=f"sim{number // 2:02d}",
        lab="simulation",
        date=None,
    )


def _draw_network(rng: np.random.Generator, n_units: int) -> Network:
    coupling = rng.normal(0.0, 0.25, (n_units, n_units)) * (rng.random((n_units, n_units)) < 0.1)
    np.fill_diagonal(coupling, 0.0)
    return Network(
        log_rate_hz=np.log(rng.lognormal(np.log(5.0), 0.7, n_units)),
        loading=rng.normal(0.0, 0.6, (n_units, N_LATENTS)),
        coupling=coupling,
        refractory_steps=rng.integers(2, 6, n_units),
    )


def _draw_trials(rng: np.random.Generator, duration_s: float) -> dict[str, NDArray[Any]]:
    start_s = np.cumsum(rng.uniform(3.5, 5.5, int(duration_s / 3.5) + 1))
    start_s = start_s[start_s + 3.0 < duration_s].round(4)
    side = rng.choice([-1, 1], start_s.size)
    correct = rng.random(start_s.size) < 0.85
    return {
        "start_s": start_s,
        "stop_s": start_s + 3.0,
        "stim_on_s": start_s + 0.5,
        "contrast": rng.choice([0.0625, 0.125, 0.25, 1.0], start_s.size) * side,
        "choice": np.where(correct, side, -side),
        "correct": correct,
    }


def _latent(
    rng: np.random.Generator, n_steps: int, onset: NDArray[np.int64], contrast: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n_steps, N_LATENTS) state of about unit variance: a 1.2 Hz rotation, and leaks of 0.4 s and 2 s."""
    angle, decay = 2 * np.pi * 1.2 * STEP_S, np.exp(-STEP_S / 0.8)
    transition = np.zeros((N_LATENTS, N_LATENTS))
    transition[:2, :2] = decay * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    transition[2, 2], transition[3, 3] = np.exp(-STEP_S / 0.4), np.exp(-STEP_S / 2.0)
    tau_s = np.array([0.8, 0.8, 0.4, 2.0])
    drive = rng.standard_normal((n_steps, N_LATENTS)) * np.sqrt(2 * STEP_S / tau_s)
    drive[onset, 0] += 1.5 * np.sign(contrast) * np.sqrt(np.abs(contrast))
    drive[onset, 2] += 1.5
    return _integrate(transition, drive)


@kernel
def _integrate(transition: NDArray[np.float64], drive: NDArray[np.float64]) -> NDArray[np.float64]:
    state = np.zeros_like(drive)
    for t in range(1, drive.shape[0]):
        for i in range(drive.shape[1]):
            total = drive[t, i]
            for j in range(drive.shape[1]):
                total += transition[i, j] * state[t - 1, j]
            state[t, i] = total
    return state


@kernel
def _spikes(
    seed: int,
    latent: NDArray[np.float64],
    log_rate_hz: NDArray[np.float64],
    loading: NDArray[np.float64],
    coupling: NDArray[np.float64],
    refractory_steps: NDArray[np.int64],
    rate: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Draw (2, n) step and unit of each spike, step by step; the mean true rate of each 20 ms is added to `rate`.

    A unit that fires with chance p a step and is then silent for d steps fires p / (1 + p d) times a step.
    """
    np.random.seed(seed)  # noqa: NPY002 (the compiler knows no Generator with a seed of its own)
    n_steps, n_units = latent.shape[0], log_rate_hz.size
    leak = np.exp(-STEP_S / COUPLING_TAU_S)
    push = np.zeros(n_units)
    ready = np.zeros(n_units, np.int64)
    steps = [np.int64(0) for _ in range(0)]
    units = [np.int64(0) for _ in range(0)]
    for t in range(n_steps):
        push *= leak
        first = len(steps)
        for u in range(n_units):
            drive = log_rate_hz[u] + push[u]
            for k in range(latent.shape[1]):
                drive += loading[u, k] * latent[t, k]
            rate_hz = min(np.exp(drive), MAX_RATE_HZ)
            # one step holds at most one spike: the rate that this says is the rate that is kept
            chance = 1.0 - np.exp(-rate_hz * STEP_S)
            b = t // RATE_BIN_STEPS
            if b < rate.shape[0]:
                dead_steps = refractory_steps[u] - 1
                rate[b, u] += np.float32(chance / (1.0 + chance * dead_steps) / STEP_S / RATE_BIN_STEPS)
            if t >= ready[u] and np.random.random() < chance:  # noqa: NPY002
                steps.append(np.int64(t))
                units.append(np.int64(u))
                ready[u] = t + refractory_steps[u]
        for s in range(first, len(steps)):
            for u in range(n_units):
                push[u] += coupling[u, units[s]]
    spikes = np.empty((2, len(steps)), np.int64)  # one array: Ctrl-C as Numba hands over a tuple of them is a crash
    for s in range(len(steps)):
        spikes[0, s], spikes[1, s] = steps[s], units[s]
    return spikes
