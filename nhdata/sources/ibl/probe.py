"""One probe of an IBL session: its good units and their spikes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.sources import SourceError, SourceOptions
from nhdata.sources._columns import UNKNOWN, add_columns, text_column
from nhdata.sources._files import AGAIN
from nhdata.sources._spikes import cluster_ids, int64_ids, select_spikes
from nhdata.sources.ibl.alf import Collection, revision_of
from nhdata.sources.ibl.regions import MAPPINGS, region_columns

RENAMED = {"firing_rate": "firing_rate_hz", "ks2_label": "ks_label"}
TOGETHER = "download the probe's spikes.*, clusters.* and channels.* again, of one revision"
NOT_RATED = "no row in clusters.metrics"
SPIKES = ("spikes.times.npy", "spikes.clusters.npy")
METRICS = ("clusters.metrics.pqt", "clusters.metrics.csv")
EARLIEST_S = -60.0


@dataclass(frozen=True, slots=True)
class Probe:
    """Good units of one probe.

    Attributes
    ----------
    time_s : (n_spikes,) float64
        Seconds on the session's clock, sorted.
    row : (n_spikes,) int32
        Row of the unit in `units`.
    units : dict of str to (n_units,) array
    last_s : float or None
        Last spike of any cluster; None where the probe has no spikes.
    rule, dropped, revision, notes, files
        As in `nhdata.recording.Provenance`.
    """

    time_s: NDArray[np.float64]
    row: NDArray[np.int32]
    units: dict[str, NDArray[Any]]
    last_s: float | None
    rule: str
    dropped: Counter[str]
    revision: str | None
    notes: tuple[str, ...]
    files: set[Path]


def read_probe(name: str, folder: Path, options: SourceOptions) -> Probe:
    """Read the spike sorting in one collection.

    The session's clock is the behaviour's, and a probe may have been recording before it started. Spikes of
    those first seconds have no place on it: they are an error, or, with ``drop_early``, left out and noted.

    Parameters
    ----------
    name : str
        The probe's, e.g. ``probe00``.
    folder : Path
        The collection, e.g. ``.../alf/probe00/pykilosort``.
    options : SourceOptions
        ``revision`` the spikes must be of (a file that was not revised then is taken as it was before),
        ``drop_early`` to leave out spikes of up to a minute before 0 s, and ``no_filter`` to keep every cluster
        that is rated.

    Raises
    ------
    SourceError
        If a file is missing or damaged, the files do not belong together, or no spikes are of `revision`.
    """
    revision = options.revision
    alf = Collection.open(folder, revision)
    if revision is not None and alf.revision(SPIKES) != revision:
        raise _other_revisions(folder, revision)
    times = alf.read("spikes.times.npy", kinds="f")
    clusters = alf.read("spikes.clusters.npy", kinds="iu")
    n_early = _n_early(times)
    if n_early and not options.drop_early:
        raise SourceError(
            alf.path("spikes.times.npy"),
            f"spike 0 is at {times[0]} s, {n_early} in all before 0 s of the session's clock",
            "download it again, or leave those spikes out with --drop-early-spikes",
        )
    if n_early and len(times) == len(clusters):
        times, clusters = times[n_early:], clusters[n_early:]
    metrics = _read_metrics(alf)
    n_clusters = _n_clusters(alf)
    table = np.unique(metrics["cluster_id"]) if n_clusters is None else np.arange(n_clusters)
    if len(strangers := np.setdiff1d(cluster_ids(alf.path("spikes.clusters.npy"), clusters), table)):
        problem = f"cluster {strangers[0]} has spikes but no row in clusters.* ({len(table)} clusters)"
        raise SourceError(alf.path("spikes.clusters.npy"), problem, TOGETHER)

    good, rule = _good_rows(alf, metrics)
    kept = np.ones(len(good), bool) if options.no_filter else good
    order = np.flatnonzero(kept)[np.argsort(metrics["cluster_id"][kept])]
    kept_ids = int64_ids(alf.path(_metrics_name(alf)), metrics["cluster_id"][order])
    if len(strangers := np.setdiff1d(metrics["cluster_id"], table)):
        problem = f"rates cluster {strangers[0]}, which clusters.* lack"
        raise SourceError(alf.path(_metrics_name(alf)), problem, TOGETHER)
    rated = np.isin(table, metrics["cluster_id"])
    dropped = Counter({NOT_RATED: int((~rated).sum()), rule.replace("==", "!="): int(rated.sum()) - len(kept_ids)})

    time_s, row = select_spikes(alf.path("spikes.times.npy"), times, clusters, kept_ids)
    units = {
        "cluster_id": kept_ids,
        "probe": text_column([name] * len(kept_ids)),
        "quality": text_column("good" if passed else "not good" for passed in good[order]),
    }
    add_columns(units, _places(alf, kept_ids, n_clusters).items(), {})
    left_out = add_columns(units, _own_metrics(metrics, order).items(), RENAMED)
    notes = [f"{name}: {note}" for note in left_out]
    if options.no_filter:
        units["good"] = good[order]
    if n_early:
        notes.append(f"{name}: {n_early} spikes before 0 s of the session's clock left out")
    if not len(times):
        notes.append(f"{name}: no spikes")
    return Probe(
        time_s=time_s.astype(np.float64, copy=False),
        row=row,
        units=units,
        last_s=float(times[-1]) if len(times) else None,
        rule="every rated unit (--no-filter)" if options.no_filter else rule,
        dropped=+dropped,
        revision=alf.revision(SPIKES),
        notes=tuple(notes),
        files=alf.used,
    )


def _other_revisions(folder: Path, revision: str) -> SourceError:
    files = [path for name in SPIKES for path in folder.glob(f"**/{name[:-3]}*npy")]
    there = sorted({revision_of(path) or "no revision" for path in files})
    problem = f"has no spikes of revision {revision}, but of {', '.join(there) or 'none'}"
    return SourceError(folder, problem, "name one that is there with --revision, or leave it out for the newest")


def _n_early(times: NDArray[Any]) -> int:
    """Spikes before 0 s, if they are in order and from `EARLIEST_S` on; else 0, and checking the times fails."""
    early = times[: np.searchsorted(times, 0.0)]
    if len(early) == 0 or not (early[0] >= EARLIEST_S and early[-1] < 0 and (early[1:] >= early[:-1]).all()):
        return 0
    return len(early)


def _metrics_name(alf: Collection) -> str:
    return next((name for name in METRICS if name in alf), METRICS[0])


def _read_metrics(alf: Collection) -> dict[str, NDArray[Any]]:
    name = _metrics_name(alf)
    path = alf.path(name)
    if name not in alf:
        raise SourceError(path, "no such file, so no unit can be told good", "download clusters.metrics too")
    metrics = alf.read_table(name)
    metrics.pop("", None)  # the row numbers that pandas writes without a name
    ids = metrics.get("cluster_id")
    if ids is None or ids.dtype.kind not in "iu":
        raise SourceError(path, "has no column of whole numbers 'cluster_id'", AGAIN)
    if len(np.unique(ids)) != len(ids):
        raise SourceError(path, "rates a cluster twice", AGAIN)
    return metrics


def _good_rows(alf: Collection, metrics: dict[str, NDArray[Any]]) -> tuple[NDArray[np.bool_], str]:
    for column, passed in (("label", 1), ("bitwise_fail", 0)):
        if column in metrics:
            return metrics[column] == passed, f"{column} == {passed}"
    path = alf.path(_metrics_name(alf))
    raise SourceError(path, "has neither 'label' nor 'bitwise_fail'", "download a newer revision of it")


def _n_clusters(alf: Collection) -> int | None:
    """Rows of the clusters.*.npy files; None where there are none, so that only the metrics tell."""
    names = ("channels", "depths", "amps", "peakToTrough")
    found = (name for attribute in names if (name := f"clusters.{attribute}.npy") in alf)
    return next((len(alf.read(name)) for name in found), None)


def _places(alf: Collection, ids: NDArray[np.int64], n_clusters: int | None) -> dict[str, NDArray[Any]]:
    """Identity and place of clusters: uuid, depth, channel, coordinates and regions, as far as known."""
    places: dict[str, NDArray[Any]] = {column: text_column([UNKNOWN] * len(ids)) for column in MAPPINGS}
    if n_clusters is None:
        return places
    if "clusters.uuids.csv" in alf:
        places["uuid"] = _read_uuids(alf, n_clusters)[ids]
    for name, column in (("depths", "depth_um"), ("amps", "amps"), ("peakToTrough", "peakToTrough")):
        if (values := alf.find(f"clusters.{name}.npy", n_clusters)) is not None:
            places[column] = values[ids]
    if "clusters.channels.npy" not in alf:
        return places
    channel = alf.read("clusters.channels.npy", kinds="iu").astype(np.int64)[ids]
    places["peak_channel"] = channel
    if (xy_um := _of_channels(alf, "localCoordinates", channel, 2)) is not None:
        places |= {"x_um": xy_um[:, 0], "y_um": xy_um[:, 1]}
    if (mlapdv_um := _of_channels(alf, "mlapdv", channel, 3)) is not None:
        places |= dict(zip(("ml_um", "ap_um", "dv_um"), mlapdv_um.T, strict=True))
    if (region_id := _of_channels(alf, "brainLocationIds_ccf_2017", channel, None)) is not None:
        places |= region_columns(region_id)
    return places


def _of_channels(
    alf: Collection, attribute: str, channel: NDArray[np.int64], n_columns: int | None
) -> NDArray[np.float64] | None:
    """Rows `channel` of ``channels.<attribute>``, or None where there is no such file."""
    name = f"channels.{attribute}.npy"
    if name not in alf:
        return None
    values = alf.read(name, n_columns=n_columns)
    if len(channel) and not 0 <= channel.min() <= channel.max() < len(values):
        problem = f"has {len(values)} channels, but clusters.channels names {channel.max()}"
        raise SourceError(alf.path(name), problem, TOGETHER)
    return values[channel].astype(np.float64)


def _read_uuids(alf: Collection, n_clusters: int) -> NDArray[Any]:
    path = alf.use("clusters.uuids.csv")
    header, *uuids = path.read_text(errors="replace").split() or [""]
    if header != "uuids" or len(uuids) != n_clusters:
        problem = f"has {len(uuids)} uuids under '{header}' for {n_clusters} clusters"
        raise SourceError(path, problem, TOGETHER)
    return text_column(uuids)


def _own_metrics(metrics: dict[str, NDArray[Any]], rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """The metrics table of some rows, with the median amplitude in µV instead of V."""
    own = {name: values[rows] for name, values in metrics.items() if name != "cluster_id"}
    if "amp_median" in own:
        own["amp_median_uv"] = own.pop("amp_median") * 1e6
    return own
