"""The kernels say the same without the compiler, whose integers wrap and whose indices go unchecked."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

FILES = ("test_kernels.py", "test_bins.py", "test_group.py")


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="this is the mode that it tests")
def test_the_kernels_equal_numpy_uncompiled():
    """All of `FILES`, with a few examples each; every index out of bounds is an error here."""
    files = [str(Path(__file__).with_name(name)) for name in FILES]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "not interrupt", *files]
    done = subprocess.run(
        command,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "NH_EXAMPLES": "3"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
