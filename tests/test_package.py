"""The wheel and the sdist hold all that is needed, and work where the source is not."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"nhcatalog": "catalog", "nhcli": "cli", "nhdata": ".", "nhmodel": "."}


def run(*command: object, cwd: Path, **env: str) -> str:
    parts = [str(part) for part in command]
    done = subprocess.run(parts, cwd=cwd, env=os.environ | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{parts}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    return out


def source_files() -> set[str]:
    """Every file of the packages, as it is named in a wheel."""
    found = set()
    for package, parent in PACKAGES.items():
        folder = ROOT / parent / package
        files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        found |= {str(path.relative_to(folder.parent)) for path in files}
    return found


def test_the_wheel_has_the_packages_and_nothing_else(built) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == source_files()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_has_what_tests_and_docs_need(built) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CITATION.cff", "mkdocs.yml", "tests/compat/store_v1.zip"} <= names
    assert not [name for name in names if name.startswith((".venv", "demo", ".git/", "site/"))]


def test_the_wheel_works_in_an_environment_of_its_own(built, tmp_path) -> None:
    """Its dependencies are borrowed from here; the package is the wheel's."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (site / "borrowed.pth").write_text(f"{Path(click.__file__).parents[1]}\n")
    where = run(python, "-c", "import nhcatalog, nhdata; print(nhdata.__file__, nhcatalog.__file__)", cwd=tmp_path)
    assert all(path.startswith(str(site)) for path in where.split())
    nhdata = python.parent / "nhdata"
    run(nhdata, "ingest", "--source", "synthetic", "--sessions", 1, "--units", 12, "--seconds", 30, cwd=tmp_path)
    assert "sim-n12" in run(nhdata, "ls", cwd=tmp_path)
    run(nhdata, "report", "--out", "store.html", cwd=tmp_path)
    assert "version" in run(python.parent / "nhmodel", "--version", cwd=tmp_path)


def test_the_oldest_versions_are_those_of_the_minimum_run() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["slurm"]]
    bounds = {re.match(r"[\w.-]+", one)[0].lower().replace("_", "-"): one.partition(">=")[2] for one in asked}
    lines = (ROOT / "constraints-min.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pins.keys() == bounds.keys()
    for name, bound in bounds.items():
        oldest, pinned = ([int(part) for part in version.split(".")] for version in (bound, pins[name]))
        assert oldest, f"{name} has no lower bound"
        if name != "torch":
            assert pinned[: len(oldest)] == oldest, name


def test_the_citation_is_of_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == version
