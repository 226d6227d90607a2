# /// script
# requires-python = ">=3.10"
# dependencies = ["spikeinterface==0.105.3", "pandas", "scipy", "scikit-learn"]
# ///
"""Read saved sortings with SpikeInterface and write what it reads as JSON: REAL_FOLDER MADE_FOLDER OUT_FILE.

MADE_FOLDER is filled with sortings and analyzers that SpikeInterface simulates and saves.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import spikeinterface as si
from spikeinterface.core.generate import generate_ground_truth_recording

warnings.filterwarnings("ignore")


def make(folder):
    _, sorting = generate_ground_truth_recording(durations=[8.0, 5.0], num_channels=8, num_units=6, seed=3)
    sorting.save(folder=folder / "a_two_segments")
    sorting.save(folder=folder / "b_two_segments.zarr", format="zarr")
    recording, sorting = generate_ground_truth_recording(durations=[8.0], num_channels=8, num_units=6, seed=4)
    sorting = sorting.rename_units([f"u{k}" for k in range(6)])
    for file_format, name in (("binary_folder", "c_analyzer"), ("zarr", "d_analyzer.zarr")):
        analyzer = si.create_sorting_analyzer(sorting, recording, format=file_format, folder=folder / name)
        analyzer.compute(["random_spikes", "templates", "noise_levels", "unit_locations"])
        analyzer.compute("quality_metrics", metric_names=["firing_rate", "num_spikes", "snr"])


def read(path):
    found = si.load(path)
    is_analyzer = isinstance(found, si.SortingAnalyzer)
    sorting = found.sorting if is_analyzer else found
    peaks, metrics = [], {}
    if is_analyzer:
        saved = sorting.get_property("main_channel_id")
        peaks = [str(one) for one in (found.get_main_channels(outputs="id") if saved is None else saved)]
        table = found.get_extension("quality_metrics").get_data()
        metrics = {name: [float(value) for value in table[name]] for name in table.columns}
    for segment in range(sorting.get_num_segments()):
        trains = [sorting.get_unit_spike_train(one, segment_index=segment) for one in sorting.unit_ids]
        yield {
            "ids": [str(one) for one in sorting.unit_ids],
            "rate_hz": float(sorting.sampling_frequency),
            "samples": [np.asarray(train).tolist() for train in trains],
            "peaks": peaks,
            "metrics": metrics,
        }


if __name__ == "__main__":
    real, made, out = map(Path, sys.argv[1:])
    made.mkdir()
    make(made)
    paths = [*sorted(real.iterdir()), *sorted(made.iterdir())]
    out.write_text(json.dumps([one for path in paths for one in read(path)]))
