"""Weights and training state on disk, each whole or not there, and read without running anything.

A checkpoint is a folder ``checkpoint-<number>`` in the folder of the run with ``weights.safetensors`` and ``state.pt``.
It is written aside and renamed, so that both are always of the same moment; the highest number counts.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from nhcatalog.errors import UserError

WEIGHTS_SCHEMA = "1"
AGAIN = "the file is damaged or of another version; train again"
ANEW = "train anew with another --out"


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file by one rename, after its new content is on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights as safetensors, with a hash of what they are."""
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    write_bytes(path, save(weights, {"schema": WEIGHTS_SCHEMA, "sha256": _digest(weights)}))


def load_weights(path: Path, model: nn.Module) -> None:
    """Fill a model from a safetensors file: nothing but tensors is read.

    Raises
    ------
    UserError
        If the file is not there, damaged, changed since it was written, or of a model of another shape or version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            marks = file.metadata() or {}
        weights = load(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is not there", "train until the first validation, or use the other weights") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[-1].strip()}", AGAIN) from None
    if marks.get("schema") != WEIGHTS_SCHEMA:
        raise UserError(f"{path} holds weights of schema {marks.get('schema')}, not {WEIGHTS_SCHEMA}", AGAIN)
    if marks.get("sha256") != _digest(weights):
        raise UserError(f"{path}: the weights are not those that were written", AGAIN)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path}: {str(error).splitlines()[-1].strip()}", AGAIN) from None


def weights_hash(path: Path) -> str | None:
    """Hash of what a weights file says it holds; None where there is none that can be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError):
        return None


def _digest(weights: dict[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_checkpoint(run: Path, model: nn.Module, state: dict[str, Any]) -> None:
    """Write weights and state as one, and only then remove the checkpoint before.

    Parameters
    ----------
    run : path
    model : Module
    state : dict
        Tensors, numbers and text only, so that it loads with ``weights_only=True``.
    """
    before = _checkpoints(run)
    number = 1 + max(before, default=0)
    staged = run / f".checkpoint-{number}.{os.getpid()}"
    shutil.rmtree(staged, ignore_errors=True)
    try:
        staged.mkdir()
        save_weights(staged / "weights.safetensors", model)
        data = io.BytesIO()
        torch.save(state, data)
        write_bytes(staged / "state.pt", data.getvalue())
        write_bytes(staged / "state.json", json.dumps({"sha256": hashlib.sha256(data.getvalue()).hexdigest()}).encode())
        os.rename(staged, run / f"checkpoint-{number}")
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    for path in before.values():
        shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(run: Path) -> None:
    """Remove what processes that were killed left behind in a run, and checkpoints that a newer one replaced."""
    for path in run.glob(".*"):
        pid = path.name.rpartition(".")[2]
        if pid.isdecimal() and not _is_alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    checkpoints = _checkpoints(run)
    for number in sorted(checkpoints)[:-1]:
        shutil.rmtree(checkpoints[number], ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def last_checkpoint(run: Path) -> Path:
    """Folder of the newest checkpoint of a run.

    Raises
    ------
    UserError
        If there is none.
    """
    found = _checkpoints(run)
    if not found:
        raise UserError(f"{run} holds no checkpoint", f"the run was never saved; {ANEW}")
    return found[max(found)]


def _checkpoints(run: Path) -> dict[int, Path]:
    paths = run.glob("checkpoint-*")
    return {int(path.name[11:]): path for path in paths if path.name[11:].isdecimal()}


def load_state(checkpoint: Path) -> dict[str, Any]:
    """Read the state of a checkpoint; anything that would run code on loading is refused.

    Raises
    ------
    UserError
        If it is not there, damaged, changed since it was written, or holds anything but tensors, numbers and text.
    """
    path = checkpoint / "state.pt"
    try:
        data = path.read_bytes()
        expected = json.loads((checkpoint / "state.json").read_bytes())["sha256"]
        if hashlib.sha256(data).hexdigest() != expected:
            raise ValueError("other content than was written")
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is not there", f"the checkpoint is not whole; {ANEW}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{path} is damaged or was not written by a training run ({type(error).__name__})", ANEW
        ) from None
    return state
