"""The CSV tables of an Allen cache folder: channels and sessions, as AllenSDK's project cache keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from nhdata.sources import SourceError
from nhdata.sources._files import one_line
from nhdata.sources.allen.units import CCF

CHANNELS, SESSIONS = "channels.csv", "sessions.csv"
FACTS = ("specimen_id", "session_type", "genotype", "sex", "age_in_days", "date_of_acquisition", "published_at")
REMEDY = "download it again, or move it away to do without"


def cache_folder(path: Path) -> Path:
    """The folder with the tables of a session file: its own, else the one above; its own where neither has any."""
    folders = (path.parent, path.parent.parent)
    return next((folder for folder in folders if table_files(folder)), path.parent)


def table_files(folder: Path) -> list[Path]:
    """Those of the tables read here that `folder` has."""
    return [file for name in (CHANNELS, SESSIONS) if (file := folder / name).is_file()]


def read_channels(folder: Path) -> pd.DataFrame | None:
    """Structure acronym and CCF coordinates in µm of each channel by id; None where there is no table.

    Raises
    ------
    SourceError
        If the table cannot be read, lacks a column or has a channel twice.
    """
    path = folder / CHANNELS
    if not path.is_file():
        return None
    table = _read(path)
    if missing := [name for name in ("ecephys_structure_acronym", *CCF) if name not in table]:
        raise SourceError(path, f"has no column {missing[0]}", REMEDY)
    table.index = pd.Index(pd.to_numeric(table.index.to_series(), errors="coerce"))
    table[list(CCF)] = table[list(CCF)].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    return table


def read_session_facts(folder: Path, session_id: str) -> dict[str, str]:
    """What the table of sessions says of one; empty where it says nothing. Raises as `read_channels`."""
    path = folder / SESSIONS
    table = _read(path) if path.is_file() else None
    if table is None or session_id not in table.index:
        return {}
    row = table.loc[session_id].dropna()
    return {name: str(row[name]) for name in FACTS if name in row}


def _read(path: Path) -> pd.DataFrame:
    """A table as text, by id; empty cells are NaN."""
    try:  # pandas before 3 makes numbers of an index_col, whatever dtype says
        table = pd.read_csv(path, dtype=str).set_index("id")
    except (ValueError, KeyError, OSError) as error:
        raise SourceError(path, f"not a table with a column id ({one_line(error)})", REMEDY) from error
    if not table.index.is_unique:
        raise SourceError(path, "has an id twice", REMEDY)
    return table
