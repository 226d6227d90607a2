"""Sortings and SortingAnalyzers that SpikeInterface saved."""
