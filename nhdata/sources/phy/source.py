"""Kilosort and Phy: folders of spike sorting, curated or not."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nhdata.recording import Provenance, Recording, Spikes
from nhdata.sources import SessionRef, SourceError, SourceOptions
from nhdata.sources._columns import EVERY_UNIT, REGIONS, add_columns, known_names, text_column
from nhdata.sources._files import AGAIN, FileHash, describe_files, existing, read_npy, safe_id
from nhdata.sources._identity import probe_name, recording_name
from nhdata.sources._ratings import GOOD, TRUSTED, is_rating, words_of
from nhdata.sources._spikes import blocks, cluster_ids, select_spikes
from nhdata.sources.phy.tables import ClusterTable, read_cluster_table, read_sample_rate

RATINGS = (
    ("cluster_group.tsv", "group"),
    ("cluster_info.tsv", "group"),
    ("cluster_groups.csv", "group"),  # Phy 1
    *((None, name) for name in TRUSTED if name not in ("group", "quality", "kslabel", "ks_label", "kslabel_repeat")),
    ("cluster_group.tsv", "kslabel"),  # until someone curates it, Kilosort's own copy of cluster_KSLabel.tsv
    (None, "kslabel"),
)
"""Tables that rate clusters (None: any), and their column in lower case; the first that rates any counts, for all."""
CURATION = "cluster_group.tsv"
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

    A cluster is good where ``cluster_group.tsv`` says ``good``, whatever Kilosort thought. Where that file is missing
    or rates no cluster (all ``unsorted``), the groups in ``cluster_info.tsv`` count, then Phy 1's
    ``cluster_groups.csv``, then Bombcell's, SpikeInterface's and UnitRefine's labels, then Kilosort's. Without any,
    every cluster is kept as ``unrated``. A cluster that the table passes over was not curated, which is usual in Phy:
    it is left out and counted, not an error. Tables that cannot be read are left out with a note.

    The sample rate comes from ``params.py``, else from SpikeGLX's ``*.ap.meta``, else from `SourceOptions`. The
    session's id is the nearest folder names that tell recordings apart, and the start of the SHA-256 of
    ``spike_times.npy``, which curation leaves as it is.
    """

    name = "phy"
    takes = ("sample_rate_hz", "no_filter", "drop_early")

    def __init__(self, options: SourceOptions) -> None:
        self._sample_rate_hz = options.sample_rate_hz
        self._keep_all = options.no_filter
        self._drop_early = options.drop_early

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
                    hashed = _hash_or_none(folder / "spike_times.npy")
                    session_id = _session_id(folder, hashed) if hashed else None
                    fingerprint = hashed and hashed.sha256[:8]
                    yield SessionRef(folder, session_id, request=hashed, fingerprint=fingerprint)

    def load(self, ref: SessionRef) -> Recording:
        folder = ref.path
        rate_hz, rate_note = read_sample_rate(folder, self._sample_rate_hz)
        times_path = folder / "spike_times.npy"
        samples = _whole_numbers(times_path)
        if not len(samples):
            raise SourceError(times_path, "empty recording, no spikes", AGAIN)
        names = ("spike_clusters.npy", "spike_templates.npy")
        clusters_path = next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
        clusters = _whole_numbers(clusters_path)
        notes = [rate_note] if rate_note else []
        samples, clusters = self._without_early(times_path, samples, clusters, notes)

        ids = cluster_ids(clusters_path, clusters)
        tables = _read_tables(folder, notes)
        rating = _rate(tables, ids)
        kept = np.ones(len(ids), bool) if self._keep_all else rating.good
        time, row = select_spikes(times_path, samples, clusters, ids[kept])
        own = [column for table in tables.values() for column in _columns_of(table, ids)]
        units: dict[str, NDArray[Any]] = {
            "cluster_id": ids,
            "probe": text_column([probe_name(folder)] * len(ids)),
            "region": _region(own, len(ids)),
            "quality": rating.words,
        }
        notes += add_columns(units, own, RENAMED)
        if self._keep_all:
            units["good"] = rating.good
        dropped = Counter(rating.words[~kept])
        if rating.n_without_spikes:
            dropped["good, but without spikes"] = rating.n_without_spikes
        known = ref.request
        hashed = known if isinstance(known, FileHash) and known.is_of(times_path) else FileHash.of(times_path)
        read = [times_path, clusters_path, *(folder / name for name in tables), *folder.glob("params.py")]
        return Recording(
            source=self.name,
            session_id=_session_id(folder, hashed),
            spikes=Spikes(time, row, rate_hz),
            units={name: values[kept] for name, values in units.items()},
            stop_s=float(samples[-1]) / rate_hz,
            provenance=Provenance(
                files=describe_files(read, folder, {times_path: hashed}),
                original_ids={"folder": folder.name},
                rule=EVERY_UNIT if self._keep_all else rating.rule,
                dropped=dict(dropped),
                notes=tuple(notes),
            ),
        )

    def _without_early(
        self, path: Path, samples: NDArray[Any], clusters: NDArray[Any], notes: list[str]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """The spikes at or after sample 0, if the user asks to drop the others, which some sorters write."""
        if samples.dtype.kind == "u" or len(samples) != len(clusters):
            return samples, clusters
        early = samples < 0
        n = int(early.sum())
        if n and not self._drop_early:
            i = int(early.argmax())
            problem = f"spike {i} is at sample {samples[i]}, before the recording started ({n} such spikes)"
            raise SourceError(path, problem, "pass --drop-early-spikes to leave them out, or export the spikes again")
        if n:
            notes.append(f"{n} spikes before the start of the recording left out")
            return samples[~early], clusters[~early]
        return samples, clusters


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


def _session_id(folder: Path, hashed: FileHash) -> str:
    return f"{safe_id(recording_name(folder), 80)}-{hashed.sha256[:8]}"


def _hash_or_none(path: Path) -> FileHash | None:
    try:
        return FileHash.of(path)
    except OSError:
        return None


def _read_tables(folder: Path, notes: list[str]) -> dict[str, ClusterTable]:
    """Tables with a row per cluster by file name, ``cluster_info.tsv`` first, as it repeats the others."""
    paths = [*folder.glob("cluster_*.tsv"), *folder.glob("cluster_*.csv")]
    tables = {}
    for path in sorted(paths, key=lambda path: (path.name != "cluster_info.tsv", path.name)):
        try:
            tables[path.name] = read_cluster_table(path)
        except (SourceError, csv.Error, OSError) as error:
            if path.name == CURATION and isinstance(error, SourceError):
                raise
            problem = error.problem if isinstance(error, SourceError) else f"{path}: {error}"
            notes.append(f"table {path.name} left out: {problem.removeprefix(f'{path}: ')}")
            continue
        if path.name == CURATION:
            _check_curation(path, tables[path.name])
        if n := tables[path.name].n_without:
            notes.append(f"{n} rows of {path.name} left out: they name no cluster by a whole number")
    return tables


def _check_curation(path: Path, table: ClusterTable) -> None:
    """Raise SourceError if the table of a person's ratings cannot be trusted: without it noise would count as good."""
    if table.n_without:
        problem = f"{table.n_without} rows do not name a cluster by a whole number"
        raise SourceError(path, problem, "correct it or export it again, or remove it to be rated by the other tables")
    if not {"group", "kslabel"} & {name.lower() for name in table.columns}:
        raise SourceError(
            path, "has no column 'group'", "correct it or export it again, or remove it to be rated by the other tables"
        )


class _Rating(NamedTuple):
    """How clusters are rated: a word each, which are good, the rule in words, and good clusters without spikes."""

    words: NDArray[Any]
    good: NDArray[np.bool_]
    rule: str
    n_without_spikes: int = 0


def _rate(tables: dict[str, ClusterTable], ids: NDArray[np.int64]) -> _Rating:
    uncurated = CURATION in tables and "group" not in map(str.lower, tables[CURATION].columns)
    for wanted, column in RATINGS:
        if uncurated and wanted in ("cluster_info.tsv", "cluster_groups.csv"):
            continue  # Kilosort's own labels were written later, over a sorting that was curated before
        for name, table in tables.items():
            values = {key.lower(): (key, cells) for key, cells in table.columns.items()}.get(column)
            if (wanted and name != wanted) or values is None or not is_rating(values[1]):
                continue
            words = dict(zip(table.ids.tolist(), words_of(values[1]), strict=True))
            rating = [words.get(int(i), f"no row in {name}") or "unsorted" for i in ids]
            good = np.array([word in GOOD for word in rating], bool)
            n_without_spikes = sum(word in GOOD for word in words.values()) - int(good.sum())
            return _Rating(text_column(rating), good, f"{values[0]} == 'good' in {name}", n_without_spikes)
    unrated = text_column(["unrated"] * len(ids))
    return _Rating(unrated, np.ones(len(ids), bool), "every cluster, as no table rates them")


def _columns_of(table: ClusterTable, ids: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[Any]]]:
    """The table's columns by `ids`: NaN or empty where it has no row."""
    row_of = {int(i): row for row, i in enumerate(table.ids)}
    rows = np.array([row_of.get(int(i), len(table.ids)) for i in ids], np.intp)
    for name, values in table.columns.items():
        if name.lower() == "group" or not name:
            continue
        if values.dtype == bool and not (rows == len(table.ids)).any():
            yield name, values[rows]
            continue
        empty = np.array([""], object) if values.dtype == object else np.array([np.nan])
        yield name, np.concatenate([values, empty])[rows]
