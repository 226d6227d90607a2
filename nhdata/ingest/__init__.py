"""Recordings into a store: plan (pure), read, write staged, commit once."""

from nhdata.ingest.run import Failed, Ingested, IngestReport, Interrupted, Skipped, ingest

__all__ = ["Failed", "IngestReport", "Ingested", "Interrupted", "Skipped", "ingest"]
