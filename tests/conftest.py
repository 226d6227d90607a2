"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of real recordings: ``$NH_REALDATA``, else ``../shared/data`` beside the repository."""
    folder = Path(os.environ.get("NH_REALDATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}; set NH_REALDATA to their folder")
    return folder
