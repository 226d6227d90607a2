"""What a reader of your own needs; `docs/how-to/write-a-source.md` writes one with it."""

from nhdata.sources._columns import add_columns, text_column
from nhdata.sources._files import describe_files, existing, one_line, read_npy, safe_id
from nhdata.sources._spikes import check_spike_times, select_spikes

__all__ = [
    "add_columns",
    "check_spike_times",
    "describe_files",
    "existing",
    "one_line",
    "read_npy",
    "safe_id",
    "select_spikes",
    "text_column",
]
