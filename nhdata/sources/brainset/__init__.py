"""POYO's brainsets: temporaldata HDF5."""
