"""A run: a folder with a model, its settings and what it was trained on.

``run.json`` (settings, selection, hashes), ``best.safetensors`` (the weights that validated best), ``checkpoint-<n>/``
(where training stands, see `nhmodel.checkpoint`), ``metrics.jsonl`` and ``README.md`` (the model card).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch

from nhcatalog.errors import UserError
from nhdata.loading import WindowDataset
from nhdata.store.store import Store
from nhmodel.checkpoint import last_checkpoint, load_weights, write_bytes
from nhmodel.config import Config
from nhmodel.cosmoother import Model, make_model
from nhmodel.layers.covariates import Shape
from nhmodel.model import NeuroHorizon, latent_steps

RUN_SCHEMA = 3


@dataclass(frozen=True)
class RunInfo:
    """What ``run.json`` holds.

    Attributes
    ----------
    config : Config
    query : str
        The selection of units, as SQL.
    position : int
        Log position of the catalog it was asked at.
    selection_hash : str
    unit_ids : tuple of str
        The units of training, in the order of the learned table.
    content_hash : dict
        Content hash of every session of training.
    fingerprint : dict
        What tells every session of training under another name; see `fingerprints`.
    windows_hash : dict
        Hash of the windows of each split.
    split_hash : dict
        Hash of the units and the stretches of time of each split, whatever the windows; empty in older runs.
    held_out : tuple of str
        Sessions that were not trained on, but chose the weights.
    covariates : dict of str to Shape
        What the model is told besides spikes.
    changes : tuple of dict
        Settings that a resumption changed: ``step``, the updates made before, and ``settings``, the old and the new
        value by ``section.name``. `config` has the newest values.
    software, torch : str
        What wrote it.
    """

    config: Config
    query: str
    position: int
    selection_hash: str
    unit_ids: tuple[str, ...]
    content_hash: dict[str, str]
    fingerprint: dict[str, str]
    windows_hash: dict[str, str]
    split_hash: dict[str, str]
    held_out: tuple[str, ...] = ()
    covariates: dict[str, Shape] = field(default_factory=dict)
    changes: tuple[dict[str, Any], ...] = ()
    software: str = f"neurohorizon {version('neurohorizon')}"
    torch: str = str(torch.__version__)

    @classmethod
    def of(
        cls,
        config: Config,
        store: Store,
        train: WindowDataset,
        splits: dict[str, WindowDataset],
        held_out: tuple[str, ...] = (),
        covariates: Mapping[str, Shape] | None = None,
    ) -> Self:
        """Describe a run that is about to begin."""
        return cls(
            config=config,
            query=train.selection.query,
            position=train.selection.position,
            selection_hash=train.selection.hash,
            unit_ids=train.unit_ids,
            content_hash={s: store.snapshot.entries[s].content_hash for s in train.session_ids},
            fingerprint={s: mark for s, mark in fingerprints(store).items() if s in train.session_ids},
            windows_hash={name: windows.windows_hash for name, windows in splits.items()},
            split_hash={name: windows.split_hash for name, windows in splits.items()},
            held_out=held_out,
            covariates=dict(covariates or {}),
        )

    def changed(self, config: Config, step: int) -> Self:
        """The same run with other settings, which hold from `step` on."""
        before, after = (_flat(settings) for settings in (self.config, config))
        settings = {name: [before[name], after[name]] for name in after if before[name] != after[name]}
        return replace(self, config=config, changes=(*self.changes, {"step": step, "settings": settings}))

    def change_lines(self) -> list[str]:
        """A line for every setting that a resumption changed."""
        return [
            f"from step {change['step']}: {name} {old} → {new}"
            for change in self.changes
            for name, (old, new) in change["settings"].items()
        ]

    def write(self, folder: Path) -> None:
        """Write ``run.json``."""
        values = asdict(self) | {"schema": RUN_SCHEMA, "config": self.config.model_dump(mode="json")}
        write_bytes(folder / "run.json", json.dumps(values, indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``run.json``; raises UserError if it is not there, of another version, or damaged."""
        path = folder / "run.json"
        try:
            values = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise UserError(f"no run at {folder}", "make one with 'nhmodel train … --out'") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: {error}", "train again") from None
        if not isinstance(values, dict) or values.get("schema") != RUN_SCHEMA:
            raise UserError(f"{path} is not of schema {RUN_SCHEMA}", "use the version of neurohorizon that wrote it")
        try:
            return cls(
                config=_config(values),
                unit_ids=tuple(values["unit_ids"]),
                held_out=tuple(values["held_out"]),
                changes=tuple(values.get("changes", ())),
                split_hash=values.get("split_hash", {}),
                covariates={name: _shape(shape) for name, shape in values.get("covariates", {}).items()},
                software=str(values["software"]),
                torch=str(values["torch"]),
                **{
                    k: values[k]
                    for k in ("query", "position", "selection_hash", "content_hash", "fingerprint", "windows_hash")
                },
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is damaged ({type(error).__name__})", "train again") from None


def _config(values: dict[str, Any]) -> Config:
    """The settings in ``run.json``, with the number of latent steps that the run was trained with.

    Versions that did not record `changes` divided floats: 0.14 s in steps of 0.02 s were 8 steps.
    """
    config = Config.model_validate(values["config"])
    history_s, step_s = config.data.history_s, config.model.latent_step_s
    n_steps = math.ceil(history_s / step_s)
    if "changes" in values or n_steps == latent_steps(config.model, config.data):
        return config
    model = config.model.model_copy(update={"latent_step_s": history_s / (n_steps - 0.5)})
    return config.model_copy(update={"model": model})


def _flat(config: Config) -> dict[str, Any]:
    """All settings by ``section.name``."""
    sections = config.model_dump(mode="json")
    return {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}


def _shape(values: list[int]) -> Shape:
    """A shape as JSON has it; raises ValueError if it is none."""
    shape = tuple(int(n) for n in values)
    if not 1 <= len(shape) <= 2 or min(shape) < 1:
        raise ValueError(f"{shape} is no shape of a covariate")
    return shape


def fingerprints(store: Store) -> dict[str, str]:
    """A mark of every session that is the same whatever source, clock and names it was ingested under.

    It hashes the sorted numbers of spikes of its units: a recording that comes as ALF and as Phy output, say, has
    one mark, and what was trained on under one name is not taken for unseen under the other.
    """
    rows = store.sql(
        "select session_id, list_sort(list(n_spikes))::varchar as counts from units group by 1"
    ).to_pylist()
    return {row["session_id"]: hashlib.sha256(row["counts"].encode()).hexdigest() for row in rows}


def weights_path(folder: Path, weights: str) -> Path:
    """File of the weights named ``best`` or ``last``."""
    if weights not in ("best", "last"):
        raise UserError(f"unknown weights '{weights}'", "choose best or last")
    return folder / "best.safetensors" if weights == "best" else last_checkpoint(folder) / "weights.safetensors"


def load_model(run: str | Path, weights: str = "best") -> Model:
    """The trained model of a run, whatever its task.

    Parameters
    ----------
    run : path
        Folder written by ``nhmodel train``.
    weights : {"best", "last"}

    Returns
    -------
    NeuroHorizon or CoSmoother
        In evaluation mode, on the CPU. Nothing but tensors is read from the file.

    Raises
    ------
    UserError
        If the run is not there, or its weights are damaged or of another shape.
    """
    folder = Path(run)
    info = RunInfo.read(folder)
    model = make_model(info.config, len(info.unit_ids), info.covariates)
    load_weights(weights_path(folder, weights), model)
    return model.eval()


def load(run: str | Path, weights: str = "best") -> NeuroHorizon:
    """The trained model of a run, ready to forecast.

    Parameters as `load_model`, which it raises the errors of, and one more.

    Raises
    ------
    UserError
        If the run co-smooths: it forecasts nothing.
    """
    model = load_model(run, weights)
    if not isinstance(model, NeuroHorizon):
        raise UserError(f"{run} was trained to co-smooth, and forecasts nothing", "score it with 'nhmodel evaluate'")
    return model
