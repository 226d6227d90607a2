"""``nhdata doctor``."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from nhcatalog.errors import UserError
from nhcli import options
from nhcli.base import EXIT_ERROR, Command
from nhcli.output import print_json

PACKAGES = (
    "neurohorizon", "numpy", "numba", "zarr", "duckdb", "pyarrow", "xarray", "dask", "torch", "bokeh", "starlette",
)  # fmt: skip
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "SLURM_CPUS_PER_TASK")
LITTLE_DISK = 5 * 2**30
MAX_CHECKED = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to mend, and how."""

    problem: str
    remedy: str


@click.command("doctor", cls=Command)
@options.store
@options.as_json
@click.pass_context
def command(ctx: click.Context, store: str, as_json: bool) -> None:
    """What this installation, this machine and the store are like, and what to mend.

    Exit code: 0 nothing to mend, 1 something is. Paste the answer into a question about a fault.
    """
    given = ctx.get_parameter_source("store") is not click.core.ParameterSource.DEFAULT
    sections: dict[str, dict[str, Any]] = {
        "versions": _versions(),
        "machine": _machine(),
        "gpu": _gpu(),
        "disk": _disk(store),
    }
    findings = _look(sections)
    sections["store"] = _store(store, given, findings)
    if as_json:
        print_json({"schema": 1, "ok": not findings, **sections, "findings": [asdict(f) for f in findings]})
    else:
        for title, values in sections.items():
            click.echo(title)
            for name, value in values.items():
                click.echo(f"  {name:<22} {'–' if value is None else value}")
        if note := sections["disk"].get("store_note"):
            click.echo(f"note: {note}", err=True)
        for finding in findings:
            click.echo(f"mend: {finding.problem}: {finding.remedy}", err=True)
        click.echo("nothing to mend" if not findings else f"{len(findings)} to mend", err=True)
    ctx.exit(EXIT_ERROR if findings else 0)


def _versions() -> dict[str, Any]:
    found: dict[str, Any] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _machine() -> dict[str, Any]:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    values: dict[str, Any] = {"system": platform.platform(), "cpus": os.cpu_count(), "cpus_usable": usable}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        values["memory_gb"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    values["torch_threads"] = torch.get_num_threads()
    values |= {name: os.environ[name] for name in THREADS if name in os.environ}
    values["browser_for_png"] = shutil.which("chromium") or shutil.which("google-chrome")
    return values


def _gpu() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {"available": False}
    devices = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
    return {
        "available": True,
        "cuda": torch.version.cuda,
        **{f"device_{k}": f"{d.name}, {d.total_memory / 2**30:.0f} GB" for k, d in enumerate(devices)},
    }


def _disk(store: str) -> dict[str, Any]:
    """Free space where the store and temporary files are; a store elsewhere has none to tell."""
    from nhcatalog.place import to_place
    from nhdata.store.publish import single_machine_note

    values: dict[str, Any] = {"temporary": tempfile.gettempdir()}
    values["temporary_free_gb"] = round(shutil.disk_usage(tempfile.gettempdir()).free / 2**30, 1)
    if "://" not in store:
        folder = Path(store).absolute()
        while not folder.exists():
            folder = folder.parent
        values["store_free_gb"] = round(shutil.disk_usage(folder).free / 2**30, 1)
        values["store_writable"] = os.access(folder, os.W_OK)
        values["store_note"] = single_machine_note(to_place(store))
    return values


def _look(sections: dict[str, dict[str, Any]]) -> list[Finding]:
    """What is missing or short, from what was found."""
    findings = [
        Finding(f"the package {name} is not installed", "install with 'pip install neurohorizon' or 'make install'")
        for name, found in sections["versions"].items()
        if found is None
    ]
    findings += [
        Finding(
            f"{sections['disk'][name]} GB free on the disk ({name})",
            "make room: a session is staged before it is moved",
        )
        for name in ("temporary_free_gb", "store_free_gb")
        if sections["disk"].get(name, LITTLE_DISK) * 2**30 < LITTLE_DISK
    ]
    threads, usable = sections["machine"]["torch_threads"], sections["machine"]["cpus_usable"]
    if usable and threads > usable:
        findings.append(Finding(f"torch uses {threads} threads on {usable} CPUs", f"set OMP_NUM_THREADS={usable}"))
    return findings


def _store(store: str, given: bool, findings: list[Finding]) -> dict[str, Any]:
    """State of the store; adds to `findings`. A default store that is not there is no fault."""
    import nhdata
    from nhdata.store.validate import validate

    try:
        opened = nhdata.open(store)
        n = len(opened.session_ids)
        values: dict[str, Any] = {"place": store, "sessions": n, "log_position": opened.position}
        if n > MAX_CHECKED:
            return values | {"checked": f"no, for there are more than {MAX_CHECKED} sessions: run 'nhdata validate'"}
        problems = validate(store)
    except UserError as error:
        if given:
            findings.append(Finding(error.problem, error.remedy))
        return {"place": store, "sessions": None}
    findings += [
        Finding(f"{problem.session_id or 'store'}: {problem.kind}: {problem.detail}", "see 'nhdata validate --deep'")
        for problem in problems[:10]
    ]
    return values | {"checked": "structure", "problems": len(problems)}
