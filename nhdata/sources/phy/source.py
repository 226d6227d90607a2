"""Kilosort and Phy: folders of spike sorting, curated or not."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.recording import Provenance, Recording, Spikes
from nhdata.sources import SessionRef, SourceError, SourceOptions
from nhdata.sources._columns import EVERY_UNIT, REGIONS, add_columns, known_names, text_column
from nhdata.sources._files import AGAIN, describe_files, existing, read_npy, safe_id, sha256
from nhdata.sources._spikes import blocks, cluster_ids, select_spikes
from nhdata.sources.phy.tables import read_cluster_table, read_sample_rate

RATINGS = (
    ("cluster_group.tsv", "group"),
    ("cluster_group.tsv", "KSLabel"),  # until someone curates it, Kilosort's own copy of cluster_KSLabel.tsv
    ("cluster_info.tsv", "group"),
    ("cluster_groups.csv", "group"),  # Phy 1
    ("cluster_KSLabel.tsv", "KSLabel"),
)
"""Tables that rate clusters, and their column; the first that rates any counts, for all clusters."""
RENAMED = {
    "ch": "peak_channel",
    "depth": "depth_um",
    "fr": "firing_rate_hz",
    "KSLabel": "ks_label",
    "n_spikes": "source_n_spikes",
    "quality": "source_quality",
}


class PhySource:
    """Folders with ``spike_times.npy``, or folders that hold such at any depth; one is one `Recording`.

    A cluster is good where ``cluster_group.tsv`` says ``good``, whatever Kilosort thought; without that file
    the groups in ``cluster_info.tsv`` count, then Phy 1's ``cluster_groups.csv``, then ``cluster_KSLabel.tsv``;
    without any, every cluster is kept as ``unrated``. A cluster that the table passes over was not curated,
    which is usual in Phy: it is left out and counted, not an error.

    The sample rate comes from ``params.py``, else from `SourceOptions`. The session's id is the folder's name
    and the start of the SHA-256 of ``spike_times.npy``, which curation leaves as it is.
    """

    name = "phy"
    takes = ("sample_rate_hz", "no_filter")

    def __init__(self, options: SourceOptions) -> None:
        self._sample_rate_hz = options.sample_rate_hz
        self._keep_all = options.no_filter

    def iter_sessions(self, paths: Sequence[Path]) -> Iterator[SessionRef]:
        seen: set[Path] = set()
        for path in existing(paths):
            found = list(_phy_folders(path))
            if not found:
                problem = "no spike_times.npy in this folder or below"
                raise SourceError(path, problem, "name a folder that Kilosort or Phy wrote")
            for folder in found:
                if folder not in seen:
                    seen.add(folder)
                    yield SessionRef(folder, _session_id_or_none(folder))

    def load(self, ref: SessionRef) -> Recording:
        folder = ref.path
        rate_hz = read_sample_rate(folder, self._sample_rate_hz)
        times_path = folder / "spike_times.npy"
        samples = _whole_numbers(times_path)
        if not len(samples):
            raise SourceError(times_path, "empty recording, no spikes", AGAIN)
        names = ("spike_clusters.npy", "spike_templates.npy")
        clusters_path = next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
        clusters = _whole_numbers(clusters_path)

        ids = cluster_ids(clusters_path, clusters)
        rating, good, rule = _rate(folder, ids)
        kept = np.ones(len(ids), bool) if self._keep_all else good
        time, row = select_spikes(times_path, samples, clusters, ids[kept])
        tables = _cluster_tables(folder)
        own = [column for path in tables for column in _columns_of(path, ids)]
        units: dict[str, NDArray[Any]] = {
            "cluster_id": ids,
            "probe": text_column([_probe_name(folder)] * len(ids)),
            "region": _region(own, len(ids)),
            "quality": rating,
        }
        notes = add_columns(units, own, RENAMED)
        if self._keep_all:
            units["good"] = good
        if not (folder / "params.py").is_file():
            notes.append(f"{rate_hz:g} samples per second by the user's word")
        read = [times_path, clusters_path, *tables, *folder.glob("params.py")]
        return Recording(
            source=self.name,
            session_id=_session_id(folder),
            spikes=Spikes(time, row, rate_hz),
            units={name: values[kept] for name, values in units.items()},
            stop_s=float(samples[-1]) / rate_hz,
            provenance=Provenance(
                files=describe_files(read, folder),
                original_ids={"folder": folder.name},
                rule=EVERY_UNIT if self._keep_all else rule,
                dropped=dict(Counter(rating[~kept])),
                notes=tuple(notes),
            ),
        )


def _whole_numbers(path: Path) -> NDArray[Any]:
    """An array of whole numbers, which MATLAB saves as doubles."""
    values = read_npy(path)
    if values.dtype.kind != "f":
        return values
    whole = np.empty(len(values), np.int64)
    for block in blocks(len(values)):
        part = values[block]
        is_whole = np.isfinite(part) & (np.abs(part) < 2**53) & (part == np.floor(part))
        if not is_whole.all():
            i = int(is_whole.argmin())
            remedy = "export it again in whole numbers: samples, not seconds"
            raise SourceError(path, f"entry {block.start + i} is {part[i]}, not a whole number", remedy)
        whole[block] = part
    return whole


def _region(own: list[tuple[str, NDArray[Any]]], n_units: int) -> NDArray[Any]:
    """The first text column that names brain regions, by the names that NWB files use."""
    named = {name.lower(): values for name, values in own if values.dtype == object}
    return known_names(next((named[name] for name in REGIONS if name in named), None), n_units)


def _phy_folders(path: Path) -> Iterator[Path]:
    if path.is_file():  # one of the folder's own files names it
        if (path.parent / "spike_times.npy").is_file():
            yield path.parent
        return
    for name, folders, files in os.walk(path):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        if "spike_times.npy" in files:
            yield Path(name)


def _session_id(folder: Path) -> str:
    return f"{safe_id(folder.name, 80)}-{sha256(folder / 'spike_times.npy')[:8]}"


def _session_id_or_none(folder: Path) -> str | None:
    try:
        return _session_id(folder)
    except OSError:
        return None


def _probe_name(folder: Path) -> str:
    """``probe01``, ``imec0`` or the like from the folder's or its parent's name, else ``probe00``."""
    for name in (folder.name, folder.parent.name):
        if found := re.search(r"(probe|imec)[0-9]+", name.lower()):
            return found[0]
    return "probe00"


def _cluster_tables(folder: Path) -> list[Path]:
    """Tables with a row per cluster; ``cluster_info.tsv`` first, as it repeats the others."""
    found = [*folder.glob("cluster_*.tsv"), *folder.glob("cluster_*.csv")]
    return sorted(found, key=lambda path: (path.name != "cluster_info.tsv", path.name))


def _rate(folder: Path, ids: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.bool_], str]:
    """Rating of each cluster in lower case or why it has none, which are good, and the rule in words."""
    for name, column in RATINGS:
        if not (folder / name).is_file():
            continue
        rated, columns = read_cluster_table(folder / name)
        if name == "cluster_group.tsv" and not {"group", "KSLabel"} & columns.keys():
            raise SourceError(folder / name, "has no column 'group'", "save it again in Phy")
        if column in columns and columns[column].dtype == object:
            words = {int(i): word.strip().lower() for i, word in zip(rated, columns[column], strict=True)}
            rating = [words.get(int(i), f"no row in {name}") or "unsorted" for i in ids]
            good = np.array([word == "good" for word in rating], bool)
            return text_column(rating), good, f"{column} == 'good' in {name}"
    return (
        text_column(["unrated"] * len(ids)),
        np.ones(len(ids), bool),
        "every cluster, as no table rates them",
    )


def _columns_of(path: Path, ids: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[Any]]]:
    """The table's columns by `ids`: NaN or empty where it has no row."""
    rated, columns = read_cluster_table(path)
    row_of = {int(i): row for row, i in enumerate(rated)}
    rows = np.array([row_of.get(int(i), len(rated)) for i in ids], np.intp)
    for name, values in columns.items():
        if name == "group":
            continue
        empty = np.array([""], object) if values.dtype == object else np.array([np.nan])
        yield name, np.concatenate([values, empty])[rows]
