"""Numba kernels over integer ticks: what kind of unit is this, and how often did it fire?

Every kernel takes arrays and gives arrays; none reads a file. Times are whole ticks, so a spike on a bin's
edge is counted once, in the bin that starts there.
"""
