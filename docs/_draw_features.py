"""Draw the pictures of docs/reference/features.md from two public recordings.

CRCNS hc-3 ec013.626 (rat hippocampus) and DANDI 000207 TWH103_CBID4 (human medial temporal lobe), both NWB::

    nhdata ingest --source nwb ec013_626.nwb sub-TWH103.nwb --store pictures.zarr
    python docs/_draw_features.py pictures.zarr
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

import nhdata
from nhdata.features.autocorrelation import autocorrelation
from nhdata.features.bursts import burst_index
from nhdata.features.correlogram import autocorrelogram, crosscorrelogram
from nhdata.features.coupling import population_coupling
from nhdata.features.fano import fano_factor
from nhdata.features.firing import firing_rate_hz, presence_ratio
from nhdata.features.isi import LOG_EDGES_S, cv2, isi_cv, isi_log_histogram, local_variation
from nhdata.features.psth import psth
from nhdata.features.quality import contamination_hill, contamination_llobet
from nhdata.features.sliding_rp import max_confidence
from nhdata.features.trains import Trains
from nhdata.store.session import Session

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.hashsalt": "features",
        "svg.fonttype": "none",
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)

import matplotlib.pyplot as plt  # noqa: E402 (after the backend is chosen)

FOLDER = Path(__file__).parent / "reference" / "features"
COLOURS = ("#3f51b5", "#ef6c00")


def two_units(trains: Trains) -> tuple[int, int]:
    """A bursting unit of a few spikes a second, and the fastest one."""
    bursts, rate_hz = burst_index(trains), firing_rate_hz(trains)
    return int(np.nanargmax(np.where((rate_hz > 1) & (rate_hz < 10), bursts, 0))), int(np.argmax(rate_hz))


def save(name: str, draw: Callable[[Any], None], width: float = 4.2, height: float = 2.1) -> None:
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    draw(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def draw_hippocampus(session: Session) -> None:
    trains = session.trains()
    rows = two_units(trains)
    pair = trains.units(rows)
    labels = [f"unit {row}" for row in rows]
    both = list(zip(range(2), COLOURS, labels, strict=True))

    def rate(axes: Any) -> None:
        counts = session.counts(10.0).values[:, rows]
        for k, colour, label in both:
            axes.step(np.arange(len(counts)) * 10 / 60, counts[:, k] / 10, color=colour, label=label, where="post")
            axes.axhline(firing_rate_hz(pair)[k], color=colour, lw=0.5)
        ratio = ", ".join(f"{r:.2f}" for r in presence_ratio(pair))
        axes.set(xlabel="time (min)", ylabel="rate (Hz)", title=f"presence ratio {ratio}")

    def histogram(axes: Any) -> None:
        for k, colour, label in both:
            axes.stairs(isi_log_histogram(pair)[k], LOG_EDGES_S * 1000, color=colour, label=label)
        axes.set(xscale="log", xlabel="inter-spike interval (ms)", ylabel="fraction")

    def irregularity(axes: Any) -> None:
        values = np.stack([isi_cv(pair), cv2(pair), local_variation(pair), burst_index(pair)])
        for k, colour, label in both:
            axes.bar(np.arange(4) + 0.4 * k - 0.2, values[:, k], 0.4, color=colour, label=label)
        axes.axhline(1, color="grey", lw=0.5)
        axes.set_xticks(range(4), ["ISI CV", "CV2", "LV", "burst index"])

    def correlation(axes: Any) -> None:
        for k, colour, label in both:
            axes.plot(np.arange(1, 51) * 10, autocorrelation(pair, 0.01, 50)[k], color=colour, label=label)
        axes.axvspan(10, 100, color="grey", alpha=0.15, lw=0)
        axes.axhline(0, color="grey", lw=0.5)
        axes.set(xlabel="lag (ms)", ylabel="correlation of 10 ms counts")

    def correlogram(axes: Any) -> None:
        for k, colour, label in both:
            right = autocorrelogram(pair, 0.001, 0.05)[k]
            rate_hz = np.concatenate([right[::-1], right]) / pair.n_spikes[k] / 0.001
            axes.stairs(rate_hz, np.arange(-50, 51), color=colour, label=label)
        axes.set(xlabel="lag (ms)", ylabel="rate after a spike (Hz)")

    def cross(axes: Any) -> None:
        (counts,) = crosscorrelogram(pair, [(0, 1)], 0.001, 0.05)
        axes.stairs(counts, np.arange(-50, 51), color="black")
        axes.axvline(0, color="grey", lw=0.5)
        axes.set(xlabel=f"time of {labels[1]} − time of {labels[0]} (ms)", ylabel="pairs")

    def fano(axes: Any) -> None:
        widths_s = np.array([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5])
        values = fano_factor(pair, widths_s.tolist())
        for k, colour, label in both:
            axes.plot(widths_s * 1000, values[k], "o-", ms=3, color=colour, label=label)
        axes.axhline(1, color="grey", lw=0.5)
        axes.set(xscale="log", yscale="log", xlabel="bin (ms)", ylabel="Fano factor")

    def quality(axes: Any) -> None:
        hill, llobet, sure = contamination_hill(trains), contamination_llobet(trains), max_confidence(trains)
        axes.scatter(np.minimum(hill, 2), sure, s=8, color=COLOURS[0], label="Hill, 1.5 ms")
        axes.scatter(llobet, sure, s=8, color=COLOURS[1], label="Llobet, 1 ms")
        axes.axhline(90, color="grey", lw=0.5)
        axes.set(xlabel="contamination", ylabel="max confidence (%)", title="all units")

    def coupling(axes: Any) -> None:
        axes.scatter(firing_rate_hz(trains), population_coupling(trains), s=8, color="grey")
        for k, colour, label in both:
            row = rows[k]
            axes.scatter(firing_rate_hz(trains)[row], population_coupling(trains)[row], color=colour, label=label)
        axes.set(xscale="symlog", xlabel="rate (Hz)", ylabel="population coupling", title="all units")

    def counts(axes: Any) -> None:
        shown = session.counts(0.02).values[:500]
        axes.imshow(
            shown.T, aspect="auto", cmap="Greys", vmax=3, extent=(0, 10, trains.n_units, 0), interpolation="nearest"
        )
        axes.set(xlabel="time (s)", ylabel="unit", title="counts in 20 ms")

    for name, draw in {
        "rate": rate,
        "isi-histogram": histogram,
        "irregularity": irregularity,
        "autocorrelation": correlation,
        "autocorrelogram": correlogram,
        "crosscorrelogram": cross,
        "fano": fano,
        "quality": quality,
        "coupling": coupling,
        "counts": counts,
    }.items():
        save(name, draw)


def draw_human(session: Session) -> None:
    events_s = session.intervals()["encoding_table"]["start_s"]
    trains = session.trains()
    events = np.rint((events_s - session.t_start_s) * session.tick_hz)
    rates = psth(trains, events, pre_s=1.0, post_s=2.0, bin_s=0.1)
    row = int(np.argmax(rates.std(axis=1) * (trains.n_spikes > 1000)))

    def draw(axes: Any) -> None:
        axes.stairs(rates[row], np.arange(-10, 21) * 0.1, color=COLOURS[0], fill=True, alpha=0.6)
        axes.axvline(0, color="grey", lw=0.5)
        axes.set(
            xlabel="time from the start of a clip (s)", ylabel="rate (Hz)", title=f"unit {row}, {events.size} clips"
        )

    save("psth", draw)


def main() -> None:
    store = nhdata.open(sys.argv[1])
    sessions = [store.session(session_id) for session_id in store.session_ids]
    FOLDER.mkdir(exist_ok=True)
    draw_human(next(s for s in sessions if "encoding_table" in s.intervals()))
    draw_hippocampus(next(s for s in sessions if "encoding_table" not in s.intervals()))


if __name__ == "__main__":
    main()
