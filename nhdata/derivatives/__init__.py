"""What is computed from many sessions and kept beside the store: binned counts (Zarr) and features (Parquet).

A session at a time, on as many processes as wanted; each appears whole or not at all, and one that is there is not done
again.
"""
