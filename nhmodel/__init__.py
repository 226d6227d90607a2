"""Forecaster."""
