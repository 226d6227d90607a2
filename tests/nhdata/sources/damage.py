"""Recordings with a few bytes changed, read in a process that may die of it."""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from nhdata.sources import SessionRef, SourceError, SourceOptions, open_source


class Damage(NamedTuple):
    """Where a recording is hurt: a file by its number, a place in it, the bytes there; or where it is cut."""

    file: int
    place: float
    noise: str
    cut: bool

    def do(self, recording: Path) -> None:
        files = sorted(p for p in recording.rglob("*") if p.is_file()) if recording.is_dir() else [recording]
        file = files[self.file % len(files)]
        whole = file.read_bytes()
        at = int(self.place * len(whole))
        noise = bytes.fromhex(self.noise)
        file.write_bytes(whole[:at] + (b"" if self.cut else noise + whole[at + len(noise) :]))


def read_damaged(source: str, path: Path, damages: list[Damage]) -> str:
    """``read`` or ``refused``; any other error of the reader is raised."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, *path.parts[1:][-6:])
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)
        for damage in damages:
            damage.do(copy)
        try:
            reader = open_source(source, SourceOptions(sample_rate_hz=30000.0 if source == "phy" else None))
            list(reader.iter_sessions([copy]))
            reader.load(SessionRef(copy, None))
            return "read"
        except SourceError:
            return "refused"


if __name__ == "__main__":  # SOURCE PATH: damages as lines of JSON on stdin, what became of each on stdout
    for line in sys.stdin:
        print(read_damaged(sys.argv[1], Path(sys.argv[2]), [Damage(*one) for one in json.loads(line)]), flush=True)
