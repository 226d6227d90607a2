"""Help, lazy imports, errors of one line."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from nhcatalog.catalog import Catalog
from nhcatalog.errors import UserError
from nhcli.data import cli as nhdata_cli
from nhcli.model import cli as nhmodel_cli
from nhdata.ingest import ingest
from nhdata.sources import SourceOptions

HEAVY = ("torch", "zarr", "numba", "duckdb", "pyarrow", "xarray", "numpy")


@pytest.mark.parametrize(
    "args",
    [
        "nhcli.data:--help",
        "nhcli.model:--help",
        *(f"nhcli.data:{name} --help" for name in nhdata_cli.names),
        *(f"nhcli.model:{name} --help" for name in nhmodel_cli.names),
    ],
)
def test_help_imports_nothing_heavy(args: str) -> None:
    module, line = args.split(":")
    code = (
        f"import sys; from {module} import cli; cli({line.split()!r}, standalone_mode=False); "
        f"print('heavy', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Usage:" in out
    assert out.rstrip().endswith("heavy []")


@pytest.fixture(scope="module")
def grown_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose catalog has a checkpoint, and changes after it."""
    path = tmp_path_factory.mktemp("grown") / "data.zarr"
    ingest(path, "synthetic", [], options=SourceOptions(n_sessions=2, n_units=12, duration_s=60.0))
    catalog = Catalog(path / "catalog")
    catalog.compact()
    catalog.remove(min(catalog.snapshot().entries))
    ingest(path, "synthetic", [], options=SourceOptions(n_sessions=1, n_units=13, duration_s=60.0))
    return path


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        (["sql", "select count(*) from units"], ()),
        (["sql", "from sessions", "--at", "1"], ()),
        (["ls"], ()),
        (["info"], ()),
        (["info", "sim-n13"], ("zarr",)),
    ],
)
def test_a_question_imports_only_what_answers_it(line: list[str], allowed: tuple[str, ...], grown_store: Path) -> None:
    unwanted = {"pandas", "numba", "torch", "zarr", "xarray", "dask", "bokeh"} - {*allowed}
    if int(version("pyarrow").split(".")[0]) < 26:  # which imports it with its own data sets
        unwanted.remove("pandas")
    code = (
        f"import sys; from nhcli.data import cli; cli([*{line!r}, '--store', {str(grown_store)!r}], "
        f"standalone_mode=False); print(sorted({unwanted!r} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout
    assert done.stderr == "[]\n"


def test_every_command_answers_help(nhdata_run, nhmodel_run) -> None:
    for run in (nhdata_run, nhmodel_run):
        names = run("--help").output.split("Commands:")[1].split("\n")
        commands = [line.split()[0] for line in names if line.strip()]
        assert commands
        for name in commands:
            result = run(name, "--help")
            assert result.exit_code == 0
            assert "Usage:" in result.output


def test_unknown_command_and_option_are_usage_errors(nhdata_run) -> None:
    assert nhdata_run("no-such").exit_code == 2
    assert nhdata_run("ls", "--no-such").exit_code == 2


def test_an_error_is_one_line_and_exit_1(nhdata_run, tmp_path) -> None:
    result = nhdata_run("ls", "--store", tmp_path / "none.zarr")
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert "none.zarr" in line
    assert "nhdata ingest" in line


@pytest.mark.parametrize("said", ["", "2 of 4 are done"])
def test_an_interruption_says_what_is_kept(said: str, nhdata_run, small_store, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt(*[said] if said else [])

    monkeypatch.setattr("nhdata.store.store.open_store", interrupted)
    result = nhdata_run("ls", "--store", str(small_store))
    assert result.exit_code == 130
    assert result.stderr == f"interrupted; {said or 'what was finished is kept'}\n"


def test_debug_shows_the_traceback(tmp_path) -> None:
    code = "from nhcli.data import cli; cli()"
    args = [sys.executable, "-c", code, "ls", "--store", str(tmp_path / "none.zarr"), "--debug"]
    result = subprocess.run(args, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_debug_belongs_to_its_command(nhdata_run, tmp_path, monkeypatch) -> None:
    missing = str(tmp_path / "none.zarr")
    assert isinstance(nhdata_run("ls", "--store", missing, "--debug").exception, UserError)
    monkeypatch.setattr(sys, "argv", ["program", "--debug"])
    result = nhdata_run("ls", "--store", missing)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)


def test_store_comes_from_the_environment(nhdata_run, small_store, monkeypatch) -> None:
    monkeypatch.setenv("NHDATA_STORE", str(small_store))
    assert "sim-n12" in nhdata_run("ls").stdout
