"""Names of recordings and probes from the folders that they lie in."""

from __future__ import annotations

import re
from pathlib import Path

_GENERIC = re.compile(
    r"(kilo)?(sort|ks)[\d._-]*(_output|_by_shank)?|ks[\d._-]*(_output)?|sorter_output|sorting(_analyzer)?|analyzer|outputs?"
    r"|results?|waveforms|binary_folder|phy(_export|_output)?|spike_?sort(ing|ed)|sorted|alf",
    re.IGNORECASE,
)
_PART = re.compile(r"\d{1,2}|shank_?\d+|group_?\d+|imec\d+|probe_?[a-z0-9]{1,2}", re.IGNORECASE)
_PROBE = re.compile(r"(imec\d+)|probe_?(\d+|[a-f])(?![a-z0-9])", re.IGNORECASE)


def recording_name(folder: Path) -> str:
    """Return the nearest folder names that tell one recording from another.

    Names of sorters and their outputs are passed over; names of shanks and probes are kept with the folder above them.

    Examples
    --------
    >>> recording_name(Path("/lab/mouse1_day1/kilosort4"))
    'mouse1_day1'
    >>> recording_name(Path("/lab/rec_g0/rec_g0_imec1/kilosort4_by_shank/0/sorter_output"))
    'rec_g0_imec1_0'
    """
    names: list[str] = []
    for name in (folder.name, *(parent.name for parent in folder.parents)):
        if not name or _GENERIC.fullmatch(name):
            continue
        names.append(name)
        if not _PART.fullmatch(name):
            break
    return "_".join(reversed(names)) or folder.name or "recording"


def probe_name(folder: Path) -> str:
    """Return ``imec0``, ``probe01`` or ``probeA`` from the nearest folder name that has one, else ``unknown``.

    Examples
    --------
    >>> [probe_name(Path("/lab", name)) for name in ("rec_g0_imec1/kilosort4", "Probe A/ks2", "mouse1")]
    ['imec1', 'probeA', 'unknown']
    """
    for name in (folder.name, *(parent.name for parent in list(folder.parents)[:4])):
        if found := _PROBE.search(name.replace(" ", "")):
            return found[1].lower() if found[1] else f"probe{found[2].upper()}"
    return "unknown"
