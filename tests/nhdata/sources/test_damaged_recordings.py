"""Whatever bytes of a recording are changed, its reader reads it or refuses it: no other error leaves it.

libhdf5 itself may crash on a damaged file: that costs its process, and in an ingest its recording.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SCRIPT = Path(__file__).with_name("damage.py")
NOISE = st.binary(min_size=1, max_size=6).map(bytes.hex)
DAMAGE = st.tuples(st.integers(0, 30), st.floats(0, 1, exclude_max=True), NOISE, st.booleans())


@pytest.mark.parametrize("source", ["ibl", "phy", "nwb"])
@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=2, derandomize=True, database=None)
@given(damages=st.lists(st.lists(DAMAGE, min_size=1, max_size=4), min_size=40, max_size=40))
def test_it_is_read_or_refused(
    source: str, alf_session: Path, phy_folder: Path, nwb_file: Path, damages: list[list[tuple]]
) -> None:
    path = {"ibl": alf_session, "phy": phy_folder, "nwb": nwb_file}[source]
    damages = [*damages, [(k, 0.5, "00", True) for k in range(31)]]  # at last every file is cut in half
    results: list[str] = []
    while len(results) < len(damages):
        lines = "".join(json.dumps(some) + "\n" for some in damages[len(results) :])
        done = subprocess.run([sys.executable, SCRIPT, source, path], input=lines, capture_output=True, text=True)
        results += done.stdout.split()
        if done.returncode:
            assert done.returncode < 0, done.stderr  # an error of the reader that is not its word
            results.append("crashed")
    assert results.count("crashed") <= (2 if source == "nwb" else 0)
    assert results[-1] == "refused"
