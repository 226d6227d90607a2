"""Benchmarks, each beside its peers in the same run.

From this folder's parent, in the environment of ``make install``::

    asv machine --yes
    asv run --quick --show-stderr --python=same
    NH_BENCH_SPIKES=31170000 asv run --python=same --bench bench_loader

``NH_BENCH_SPIKES`` is the number of spikes in the simulated session (see `data`).
"""
