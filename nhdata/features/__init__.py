"""What kind of unit is this, and how often did it fire? Numba kernels over integer ticks, a family of features a file.

`trains` makes the spike trains that every feature takes, `sets` names the features that go together, `reference` is the
33 of them that a model knows a unit by, and docs/reference/features.md says what each means. Functions take arrays and
give arrays; none reads a file. Times are whole ticks, so a spike on a bin's edge is counted once, in the bin that
starts there.
"""
