"""Every table and column of the catalog: name, type, unit and meaning, once.

``python -m nhcatalog.schema`` prints them as Markdown. A column may be added (older files give NULL), never
renamed, and never given another meaning. NULL is unknown; NaN is never stored, because SQL sorts it above
every number and ``snr > 3`` would be true of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from nhcatalog.errors import UserError

SCHEMA_VERSION = 3
"""Raised when a table or column is added (2: ``provenance``, 3: ``units.observed_share``).

Files of a lower one are read, of a higher refused.
"""

Type = Literal["VARCHAR", "DATE", "TIMESTAMP", "DOUBLE", "FLOAT", "BIGINT", "BOOLEAN"]

ARROW_TYPES: dict[Type, pa.DataType] = {
    "VARCHAR": pa.string(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "DOUBLE": pa.float64(),
    "FLOAT": pa.float32(),
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: DuckDB's name of its type, its physical unit ('' for none), and what it means."""

    name: str
    type: Type
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table: what one row is, an example query, the columns that order a session's rows, and its columns in order."""

    row: str
    example: str
    order: tuple[str, ...]
    columns: tuple[Column, ...]


_SESSION_ID = Column("session_id", "VARCHAR", "", "The session's identity, unique in the catalog")
_SOURCE = Column("source", "VARCHAR", "", "Where it was read from: ibl, nwb, phy, …")
_UNIT_ID = Column("unit_id", "VARCHAR", "", "The unit's identity, unique in the catalog")

_SESSIONS = (
    _SESSION_ID,
    _SOURCE,
    Column("subject", "VARCHAR", "", "The animal"),
    Column("lab", "VARCHAR", "", "The laboratory"),
    Column("date", "DATE", "", "Day of the recording"),
    Column("t_start_s", "DOUBLE", "s", "Start of the session, on its own clock"),
    Column("duration_s", "DOUBLE", "s", "Length of the session"),
    Column("tick_hz", "DOUBLE", "Hz", "Ticks per second of the stored spike times"),
    Column("n_units", "BIGINT", "", "Units stored: the good ones"),
    Column("n_spikes", "BIGINT", "", "Spikes stored, of all units"),
    Column("n_trials", "BIGINT", "", "Rows of the interval table 'trials'; 0 where there is none"),
    Column("ingested_at", "TIMESTAMP", "", "When it came into the store, UTC"),
    Column("path", "VARCHAR", "", "Its Zarr group, relative to the store"),
    Column("content_hash", "VARCHAR", "", "Digest of the stored content"),
    Column("software", "VARCHAR", "", "Program and version that stored it"),
)

_UNITS = (
    _UNIT_ID,
    _SESSION_ID,
    _SOURCE,
    Column("unit_index", "BIGINT", "", "Row in the session's units, the number in spikes/unit"),
    Column("probe", "VARCHAR", "", "Probe or electrode group"),
    Column("cluster_id", "BIGINT", "", "The source's own number of the unit, unique within a probe"),
    Column("region", "VARCHAR", "", "Brain region as the source names it; 'unknown' where it does not"),
    Column("depth_um", "DOUBLE", "µm", "Position along the probe as the source gives it"),
    Column("quality", "VARCHAR", "", "The source's rating; 'unrated' where it rates nothing"),
    Column("good", "BOOLEAN", "", "Good by the source's own rule; true where it rates nothing"),
    Column("n_spikes", "BIGINT", "", "Spikes stored"),
    Column(
        "rate_hz", "DOUBLE", "Hz", "n_spikes over the length of the session, or over the time the unit was observed"
    ),
    Column("observed_share", "DOUBLE", "", "Share of the session's valid time in which the unit was observed, 0 to 1"),
    Column("uuid", "VARCHAR", "", "The source's own universal id of the unit"),
    Column("label", "DOUBLE", "", "IBL: fraction of its three quality tests passed"),
    Column("firing_rate_hz", "DOUBLE", "Hz", "Firing rate as the source states it"),
    Column(
        "presence_ratio",
        "DOUBLE",
        "",
        "Fraction of the source's time bins that hold spikes",
    ),
    Column(
        "noise_cutoff",
        "DOUBLE",
        "SD",
        "IBL: excess of the lowest amplitudes over the tail expected",
    ),
    Column("max_confidence", "DOUBLE", "%", "IBL: confidence that refractory violations are rare enough"),
    Column("amp_median_uv", "DOUBLE", "µV", "Median spike amplitude"),
    Column("snr", "DOUBLE", "", "Waveform amplitude over noise, by the source's definition"),
    Column("isi_violations", "DOUBLE", "", "Contaminating spikes relative to the unit's; may exceed 1"),
    Column("amplitude_cutoff", "DOUBLE", "", "Estimated fraction of spikes below the detection threshold"),
    Column("peak_channel", "BIGINT", "", "The source's number of the channel with the largest waveform"),
    Column("x_um", "DOUBLE", "µm", "Coordinate x in the source's frame; IBL: mediolateral from bregma"),
    Column("y_um", "DOUBLE", "µm", "Coordinate y in the source's frame; IBL: anteroposterior from bregma"),
    Column("z_um", "DOUBLE", "µm", "Coordinate z in the source's frame; IBL: dorsoventral from bregma"),
    Column("ccf_ap_um", "DOUBLE", "µm", "Allen CCF coordinate, anterior to posterior"),
    Column("ccf_dv_um", "DOUBLE", "µm", "Allen CCF coordinate, dorsal to ventral"),
    Column("ccf_lr_um", "DOUBLE", "µm", "Allen CCF coordinate, left to right"),
    Column("ks_label", "VARCHAR", "", "Kilosort's own label: good or mua"),
    Column("beryl", "VARCHAR", "", "Region in IBL's Beryl parcellation"),
    Column("cosmos", "VARCHAR", "", "Region in IBL's Cosmos parcellation"),
    Column("metrics", "VARCHAR", "", "JSON object of the source's further columns, in the source's units"),
)

_ISI_EDGES_S = [f"{10 ** (k / 4 - 4):.4g}" for k in range(21)]
_FEATURES = (
    Column("rate_hz", "FLOAT", "Hz", "Spikes over the length of the window; 0 for a silent unit"),
    Column("isi_cv", "FLOAT", "", "SD over mean of the inter-spike intervals; NULL with under 3 spikes"),
    *(
        Column(
            f"isi_hist_{k:02d}",
            "FLOAT",
            "",
            f"Fraction of inter-spike intervals from {start} to {stop} s",
        )
        for k, (start, stop) in enumerate(pairwise(_ISI_EDGES_S))
    ),
    *(
        Column(
            f"autocorr_{10 * k:03d}ms",
            "FLOAT",
            "",
            f"Autocorrelation of 10 ms counts at {10 * k} ms",
        )
        for k in range(1, 11)
    ),
    Column("fano_20ms", "FLOAT", "", "Variance over mean of the counts in 20 ms bins; NULL without spikes"),
)

FEATURE_NAMES = tuple(column.name for column in _FEATURES)
"""The 33 reference features of a unit, in order."""

TABLES: dict[str, Table] = {
    "sessions": Table(
        "one recording session",
        "SELECT source, count(*) AS n_sessions, sum(duration_s) / 3600 AS h\nFROM sessions GROUP BY source",
        (),
        _SESSIONS,
    ),
    "units": Table(
        "one unit (neuron or cluster) of a session",
        "SELECT region, count(*) AS n_units, median(rate_hz) AS rate_hz\nFROM units GROUP BY region",
        ("unit_index",),
        _UNITS,
    ),
    "unit_features": Table(
        "the reference features of a unit in the first 60 s of good recording; NULL where undefined",
        "SELECT region, avg(fano_20ms) AS fano_20ms\nFROM units JOIN unit_features USING (unit_id) GROUP BY region",
        ("unit_id",),
        (
            _UNIT_ID,
            _SESSION_ID,
            Column("window_start_s", "DOUBLE", "s", "Start of the half-open window, on the session's clock"),
            Column("window_stop_s", "DOUBLE", "s", "End of the half-open window"),
            Column("version", "BIGINT", "", "Version of the features' definition"),
            *_FEATURES,
        ),
    ),
    "intervals": Table(
        "one time span: a trial, a stimulus, …",
        "SELECT session_id, interval_index, (fields->>'choice')::DOUBLE AS choice\n"
        "FROM intervals WHERE name = 'trials' AND stop_s - start_s < 10",
        ("name", "interval_index"),
        (
            _SESSION_ID,
            _SOURCE,
            Column("name", "VARCHAR", "", "The interval table: trials, …"),
            Column("interval_index", "BIGINT", "", "Row in that table"),
            Column("start_s", "DOUBLE", "s", "Start, on the session's clock"),
            Column("stop_s", "DOUBLE", "s", "End, not included"),
            Column("fields", "VARCHAR", "", "JSON object of the row's other columns"),
        ),
    ),
    "provenance": Table(
        "one fact about where a session came from and what was left out",
        "SELECT name AS reason, sum(n) AS units_left_out\nFROM provenance WHERE kind = 'dropped' GROUP BY name",
        ("kind", "name"),
        (
            _SESSION_ID,
            _SOURCE,
            Column(
                "kind",
                "VARCHAR",
                "",
                "file (read), original_id, rule (for a good unit), dropped (units), revision or note",
            ),
            Column("name", "VARCHAR", "", "Of a file, its name; of an original id, what it is; of units dropped, why"),
            Column("value", "VARCHAR", "", "Of a file, its SHA-256; else the id, rule, revision or note"),
            Column("n", "BIGINT", "", "Of a file, its bytes; of units dropped, how many"),
        ),
    ),
}


def arrow_schema(table_name: str) -> pa.Schema:
    """The Arrow schema of a table."""
    return pa.schema([(column.name, ARROW_TYPES[column.type]) for column in table_named(table_name).columns])


def conform(table_name: str, table: pa.Table) -> pa.Table:
    """Rows with exactly the registry's columns: cast, in order, missing ones NULL, NaN as NULL.

    Raises
    ------
    UserError
        If there is a column that the registry does not know, one twice, or a value that does not fit.
    """
    schema = arrow_schema(table_name)
    if unknown := [name for name in table.column_names if name not in schema.names]:
        raise UserError(
            f"table '{table_name}' has no column {', '.join(map(repr, unknown))}",
            "leave it out, or put it into a JSON column",
        )
    if len(set(table.column_names)) < len(table.column_names):
        raise UserError(f"rows for '{table_name}' hold a column twice", "give each column once")
    return pa.table([_column(table_name, table, target) for target in schema], schema=schema)


def describe() -> list[tuple[str, str, str, str, str]]:
    """Every column as (table, column, type, unit, meaning)."""
    return [
        (name, column.name, column.type, column.unit, column.meaning)
        for name, table in TABLES.items()
        for column in table.columns
    ]


def markdown() -> str:
    """The tables as Markdown, each with its example query."""
    parts = []
    for name, table in TABLES.items():
        lines = [f"## `{name}`", "", f"A row is {table.row}.", "", "```sql", table.example, "```", ""]
        lines += ["| column | type | unit | meaning |", "|---|---|---|---|"]
        lines += [f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning} |" for c in table.columns]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def table_named(name: str) -> Table:
    """The table of that name. Raises UserError if there is none."""
    if name not in TABLES:
        raise UserError(f"no table '{name}' in the catalog", f"choose one of {', '.join(TABLES)}")
    return TABLES[name]


def _column(table_name: str, table: pa.Table, target: pa.Field) -> pa.Array | pa.ChunkedArray:
    if target.name not in table.column_names:
        return pa.nulls(len(table), target.type)
    values = table[target.name]
    try:
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        return values.cast(target.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"{table_name}.{target.name}: {str(error).splitlines()[0]}", f"give values of type {target.type}"
        ) from None


if __name__ == "__main__":
    print(markdown(), end="")
