"""Kilosort output, curated in Phy or not."""
