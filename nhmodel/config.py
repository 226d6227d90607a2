"""Every setting of a run, with its default; presets are TOML files that change some of them."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, ValidationInfo, field_validator

from nhcatalog.errors import UserError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(_Section):
    """Which units, and what a window is.

    The task ``forecast`` is to say the counts of the horizon; ``co-smoothing``, those of some units over the history,
    from the spikes of all others in it. ``covariates`` are what the model is told of the history besides spikes (see
    `nhdata.loading.covariates`); one that numbers frames of a stimulus is looked up in the ``.npy`` file (frames, dim)
    that ``embeddings`` names for it.
    """

    task: Literal["forecast", "co-smoothing"] = "forecast"
    select: str = "select unit_id from units where good"
    history_s: float = Field(0.5, gt=0)
    horizon_s: float = Field(0.5, gt=0)
    bin_s: float = Field(0.02, gt=0)
    ema_tau_s: tuple[PositiveFloat, ...] = Field((0.05, 0.2, 0.8, 3.2, 12.8), min_length=1)
    covariates: tuple[str, ...] = ()
    embeddings: dict[str, str] = Field(default_factory=dict, validate_default=True)
    memory_budget_mb: float = Field(2048, gt=0)
    num_workers: int = Field(0, ge=0)

    @field_validator("covariates")
    @classmethod
    def _each_once(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if names and info.data.get("task") == "co-smoothing":
            raise ValueError("covariates are for forecasts alone")
        if len(set(names)) < len(names):
            raise ValueError("a covariate is named twice")
        return names

    @field_validator("embeddings")
    @classmethod
    def _of_columns(cls, embeddings: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for name in embeddings:
            if name not in info.data.get("covariates", ()) or "." not in name:
                raise ValueError(f"{name!r} is no column among data.covariates")
        return embeddings


class ModelConfig(_Section):
    """Size of the network."""

    dim: int = Field(64, ge=8)
    n_heads: int = Field(2, ge=1, validate_default=True)
    depth: int = Field(2, ge=0)
    decoder_depth: int = Field(1, ge=1)
    latent_step_s: float = Field(0.05, gt=0)
    latents_per_step: int = Field(4, ge=1)
    head_hidden: int = Field(64, ge=1)
    rank: int = Field(16, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    identity: Literal["features", "table", "both"] = "both"
    table_dropout: float = Field(0.2, ge=0, le=1)
    unit_dropout: float = Field(0.3, ge=0, lt=1)
    covariate_dropout: float = Field(0.2, ge=0, lt=1)
    loss_units: int = Field(256, ge=1)

    @field_validator("n_heads")
    @classmethod
    def _divide_dim(cls, n_heads: int, info: ValidationInfo) -> int:
        dim = info.data.get("dim", 0)
        if dim % (4 * n_heads):
            raise ValueError(f"dim={dim} is not a multiple of 4 * n_heads={4 * n_heads}")
        return n_heads


class TrainConfig(_Section):
    """How long and how fast to learn. Training ends at the first of its limits.

    ``table_lr`` is the rate of the learned table of units as a multiple of ``lr``; ``average`` the decay of the
    moving average of the weights that is validated and kept. ``threads`` is the number of torch threads of the
    commands; ``timeout_minutes`` is how long a rank waits for another before it fails.
    """

    batch_size: int = Field(32, ge=1)
    accumulate: int = Field(1, ge=1)
    lr: float = Field(2e-3, gt=0)
    table_lr: float = Field(4.0, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    average: float = Field(0.99, ge=0, lt=1)
    warmup: float = Field(0.1, ge=0, lt=1)
    grad_clip: float = Field(1.0, gt=0)
    max_steps: int = Field(20_000, ge=1)
    max_minutes: float | None = Field(None, gt=0)
    validate_every: int = Field(100, ge=1)
    patience: int = Field(15, ge=1)
    unseen_sessions: int = Field(0, ge=0)
    seed: int = 0
    threads: int | None = Field(None, ge=1, le=1024)
    timeout_minutes: float = Field(10.0, gt=0, le=10_000)
    compile: bool = False
    tensorboard: bool = True


class Config(_Section):
    """All settings of a run."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(p.name.removesuffix(".toml") for p in files("nhmodel.presets").iterdir() if p.name.endswith(".toml"))


def load_config(preset: str = "tiny", settings: Sequence[str] = (), *, select: str | None = None) -> Config:
    """A preset or a TOML file, changed by ``section.key=value`` settings.

    Parameters
    ----------
    preset : str
        Name of a preset, or the path of a ``.toml`` file.
    settings : sequence of str
        E.g. ``"train.max_minutes=4"``; values are read as TOML, else as text.
    select : str, optional
        The setting ``data.select``.

    Raises
    ------
    UserError
        If the preset, a key or a value is not one; names it.

    Examples
    --------
    >>> load_config("tiny", ["train.max_steps=10"]).train.max_steps
    10
    """
    if preset.endswith(".toml"):
        path = Path(preset)
        if not path.is_file():
            raise UserError(f"no file {preset}", f"name a TOML file or a preset ({', '.join(preset_names())})")
        text = path.read_text()
    elif preset in preset_names():
        text = files("nhmodel.presets").joinpath(f"{preset}.toml").read_text()
    else:
        raise UserError(
            f"unknown preset '{preset}'", f"choose one of {', '.join(preset_names())}, or name a .toml file"
        )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{preset}: {error}", "mend the file") from None
    for setting in settings:
        _apply(values, setting)
    if select is not None:
        values.setdefault("data", {})["select"] = select
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"setting {where}: {first['msg']}", f"choose from {_known(first['loc'])}") from None


def _known(where: tuple[int | str, ...]) -> str:
    """The settings that could have been meant, with their defaults."""
    section = getattr(Config(), str(where[0]), None) if len(where) > 1 else None
    if section is None:
        return ", ".join(f"{name}.…" for name in Config.model_fields)
    return ", ".join(f"{where[0]}.{name}={value!r}" for name, value in section)


def _apply(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and name):
        raise UserError(f"setting {setting!r} is not section.key=value", "e.g. --set train.max_minutes=4")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    table = values.setdefault(section, {})
    if isinstance(table, dict):  # else the check of the whole says what is wrong
        table[name] = value
