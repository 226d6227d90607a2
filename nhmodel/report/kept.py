"""What a run left in its folder, as plain values. Reads files, loads no weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from nhcatalog.errors import UserError
from nhmodel.checkpoint import weights_hash
from nhmodel.cosmoother import make_model
from nhmodel.run import RunInfo

SCORES_SCHEMA = 1


@dataclass(frozen=True)
class Curves:
    """How training went: one value for each validation, NaN where there is none; all (V,).

    Attributes
    ----------
    step : list of int
    minutes : list of float
    loss : list of float
        Of the last step before it.
    valid_fp_bps : list of float
        On later windows of the sessions of training.
    unseen_fp_bps : list of float
        On sessions that were held out; all NaN where there were none.
    """

    step: list[int]
    minutes: list[float]
    loss: list[float]
    valid_fp_bps: list[float]
    unseen_fp_bps: list[float]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``metrics.jsonl``; a last line that is still being written is left out.

        Raises
        ------
        UserError
            If another line is damaged, or the file cannot be read.
        """
        try:
            text = path.read_text(errors="replace")
        except FileNotFoundError:
            text = ""
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror})", "look at its permissions") from None
        rows = []
        lines = text.splitlines()
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                rows.append((int(row["step"]), *(_number(row.get(key)) for key in list(cls.__annotations__)[1:])))
            except (ValueError, KeyError, TypeError, AttributeError):
                if number < len(lines) or text.endswith("\n"):
                    raise UserError(f"{path}: line {number} is damaged", "take it out, or train again") from None
        columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in cls.__annotations__]
        return cls(*columns)

    @property
    def deciding(self) -> list[float]:
        """The scores that choose the weights: of sessions held out, where there are any."""
        unseen = self.unseen_fp_bps
        return unseen if any(not math.isnan(value) for value in unseen) else self.valid_fp_bps

    @property
    def best(self) -> int | None:
        """Which validation was the best; None before the first."""
        known = [k for k, value in enumerate(self.deciding) if not math.isnan(value)]
        return max(known, key=self.deciding.__getitem__, default=None)


@dataclass(frozen=True)
class KeptRun:
    """A run as its folder tells it.

    Attributes
    ----------
    folder : path
    info : RunInfo
    n_parameters : int
    curves : Curves
    scores : dict or None
        The evaluation that was kept with it, from `nhmodel.evaluation.result.Evaluation`.
    """

    folder: Path
    info: RunInfo
    n_parameters: int
    curves: Curves
    scores: dict[str, Any] | None

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Read a run.

        Raises
        ------
        UserError
            If there is none, or it is damaged or of another version.
        """
        folder = Path(folder)
        info = RunInfo.read(folder)
        with torch.device("meta"):  # shapes only
            model = make_model(info.config, len(info.unit_ids), info.covariates)
        return cls(folder, info, model.n_parameters, Curves.read(folder / "metrics.jsonl"), read_scores(folder))

    @property
    def scores_are_stale(self) -> bool:
        """Whether training went on after the scores were taken."""
        return self.scores is not None and self.scores.get("weights") != weights_hash(self.folder / "best.safetensors")


def read_scores(folder: Path) -> dict[str, Any] | None:
    """The evaluation kept with a run, or None.

    Raises
    ------
    UserError
        If it is damaged or of another version.
    """
    path = folder / "scores.json"
    again = "score the run again with 'nhmodel evaluate --card'"
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__})", again) from None
    if not isinstance(value, dict) or value.get("schema") != SCORES_SCHEMA:
        raise UserError(f"{path} is not of schema {SCORES_SCHEMA}", again)
    return value


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
