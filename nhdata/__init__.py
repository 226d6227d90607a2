"""Spike data platform."""
