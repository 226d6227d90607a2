"""Sessions in chunked Zarr: layout (pure), writing (staged, then one rename) and reading."""
