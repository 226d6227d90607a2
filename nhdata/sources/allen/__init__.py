"""Allen Institute, Visual Coding Neuropixels."""
