"""Help, lazy imports, errors of one line."""

import subprocess
import sys

import pytest

from nhcli.data import cli as nhdata_cli
from nhcli.model import cli as nhmodel_cli

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


def test_debug_shows_the_traceback(tmp_path) -> None:
    code = "from nhcli.data import cli; cli()"
    args = [sys.executable, "-c", code, "ls", "--store", str(tmp_path / "none.zarr"), "--debug"]
    result = subprocess.run(args, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_store_comes_from_the_environment(nhdata_run, small_store, monkeypatch) -> None:
    monkeypatch.setenv("NHDATA_STORE", str(small_store))
    assert "sim-n12" in nhdata_run("ls").stdout
