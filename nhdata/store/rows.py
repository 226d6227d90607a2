"""A session's rows in the catalog, made from the session's own Zarr group: the group is the truth."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nhcatalog.schema import FEATURE_NAMES, TABLES, Type, conform
from nhdata.observed import observed_spans, seconds, within
from nhdata.recording import INVALID
from nhdata.store.session import Session

Rows = tuple[dict[str, Any], dict[str, pa.Table]]


def catalog_rows(session: Session) -> Rows:
    """The row of ``sessions``, and the rows of the other tables, of one session.

    Raises
    ------
    UserError
        If a value does not fit its column of the catalog, e.g. text in a column of numbers.
    """
    units = session.units()
    unit_ids = unit_names(session.session_id, units)
    intervals = session.intervals()
    trials = intervals.get("trials")
    row = {
        **{k: session.attrs[k] for k in ("session_id", "source", "subject", "lab", "date", "t_start_s", "duration_s")},
        **{k: session.attrs[k] for k in ("tick_hz", "n_units", "n_spikes", "software")},
        "n_trials": 0 if trials is None else len(trials["start_s"]),
    }
    conform("sessions", pa.Table.from_pylist([row]))
    tables = {
        "units": _units(session, units, unit_ids, intervals),
        "unit_features": _features(session, unit_ids),
        "intervals": _intervals(session, intervals),
        "provenance": _provenance(session),
    }
    return row, {name: conform(name, table) for name, table in tables.items()}


def unit_names(session_id: str, units: dict[str, NDArray[Any]]) -> list[str]:
    """Ids of units that are unique in any store: ``session/probe/cluster``."""
    return [f"{session_id}/{p}/{c}" for p, c in zip(units["probe"], units["cluster_id"], strict=True)]


def _plain(value: Any) -> Any:
    """A value that JSON can hold; what is not a number becomes null."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _json_rows(columns: dict[str, NDArray[Any]], n: int) -> list[str]:
    return [json.dumps({name: _plain(values[i]) for name, values in columns.items()}) for i in range(n)]


def _column(values: NDArray[Any]) -> pa.Array:
    """Arrow array with nulls for NaN and for missing text."""
    if values.dtype.kind in "OU":
        return pa.array([v or None for v in values.tolist()], pa.string())
    return pa.array(values, from_pandas=True)


def _fits(values: NDArray[Any], kind: Type) -> bool:
    """Whether a source's column is what the catalog means by its name; else it is one of the further ``metrics``."""
    if values.dtype.kind in "OU":
        return kind == "VARCHAR"
    if kind != "BIGINT":
        return True
    known = values[np.isfinite(values)]
    is_whole = bool(np.all(known % 1 == 0))
    return is_whole and (not known.size or (known.min().item() >= -(2**63) and known.max().item() < 2**63))


def _units(
    session: Session,
    units: dict[str, NDArray[Any]],
    unit_ids: list[str],
    intervals: dict[str, dict[str, NDArray[Any]]],
) -> pa.Table:
    n = session.n_units
    known = {c.name for c in TABLES["units"].columns if c.name not in units or _fits(units[c.name], c.type)}
    known -= {
        "metrics",
        "unit_id",
        "session_id",
        "source",
        "unit_index",
        "rate_hz",
        "observed_share",
    }  # a source's own go to the metrics
    observed_s, share = _observed(session, intervals)
    quality = units.get("quality", np.full(n, "unrated", dtype=object))
    columns = {
        "unit_id": pa.array(unit_ids, pa.string()),
        "session_id": pa.array([session.session_id] * n, pa.string()),
        "source": pa.array([session.source] * n, pa.string()),
        "unit_index": pa.array(np.arange(n)),
        "quality": _column(quality),
        "good": _column(units.get("good", np.ones(n, bool))),
        "rate_hz": pa.array(units["n_spikes"] / observed_s),
        "observed_share": pa.array(share),
        "metrics": pa.array(_json_rows({k: v for k, v in units.items() if k not in known}, n), pa.string()),
    }
    columns |= {name: _column(values) for name, values in units.items() if name in known and name not in columns}
    return pa.table(columns)


def _observed(
    session: Session, intervals: dict[str, dict[str, NDArray[Any]]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds that each unit's rate is over, and the share of the session's valid time in which it was observed."""
    observed_s, share = np.full(session.n_units, float(session.duration_s)), np.ones(session.n_units)
    if partly := observed_spans(intervals):
        invalid = intervals.get(INVALID, {"start_s": np.empty(0), "stop_s": np.empty(0)})
        start_s, stop_s = session.t_start_s, session.t_stop_s
        spans = np.column_stack(
            [np.nan_to_num(invalid["start_s"], nan=start_s), np.nan_to_num(invalid["stop_s"], nan=stop_s)]
        )
        valid_s = session.duration_s - seconds(within(spans, start_s, stop_s))
        for row, own in partly.items():
            observed_s[row] = max(seconds(within(own, start_s, stop_s)), 1 / session.tick_hz)
            share[row] = min(observed_s[row] / max(valid_s, 1 / session.tick_hz), 1.0)
    return observed_s, share


def _features(session: Session, unit_ids: list[str]) -> pa.Table:
    attrs, values = session.feature_attrs, session.features().values
    n = session.n_units
    return pa.table(
        {
            "unit_id": pa.array(unit_ids, pa.string()),
            "session_id": pa.array([session.session_id] * n, pa.string()),
            "window_start_s": pa.array(np.full(n, attrs["window_start_s"], float)),
            "window_stop_s": pa.array(np.full(n, attrs["window_stop_s"], float)),
            "version": pa.array(np.full(n, attrs["version"])),
            **{name: _column(values[:, k]) for k, name in enumerate(FEATURE_NAMES)},
        }
    )


def _intervals(session: Session, intervals: dict[str, dict[str, NDArray[Any]]]) -> pa.Table:
    parts = []
    for name, columns in intervals.items():
        n = len(columns["start_s"])
        fields = {k: v for k, v in columns.items() if k not in ("start_s", "stop_s")}
        parts.append(
            pa.table(
                {
                    "session_id": pa.array([session.session_id] * n, pa.string()),
                    "source": pa.array([session.source] * n, pa.string()),
                    "name": pa.array([name] * n, pa.string()),
                    "interval_index": pa.array(np.arange(n)),
                    "start_s": pa.array(columns["start_s"].astype(float)),
                    "stop_s": pa.array(columns["stop_s"].astype(float)),
                    "fields": pa.array(_json_rows(fields, n), pa.string()),
                }
            )
        )
    return pa.concat_tables(parts) if parts else pa.table({})


def _provenance(session: Session) -> pa.Table:
    known = session.attrs["provenance"]
    facts: list[dict[str, Any]] = [
        *(
            {"kind": "file", "name": file["name"], "value": file["sha256"], "n": file["size"]}
            for file in known["files"]
        ),
        *({"kind": "original_id", "name": name, "value": value} for name, value in known["original_ids"].items()),
        {"kind": "rule", "value": known["rule"]},
        *({"kind": "dropped", "name": reason, "n": n} for reason, n in known["dropped"].items()),
        *({"kind": "note", "value": note} for note in known.get("notes", ())),
    ]
    if known.get("revision"):
        facts.append({"kind": "revision", "value": known["revision"]})
    owner = {"session_id": session.session_id, "source": session.source}
    columns = ("session_id", "source", "kind", "name", "value", "n")
    return pa.table({name: [(owner | fact).get(name) for fact in facts] for name in columns})
