"""Neurodata Without Borders, any file with a units table."""
