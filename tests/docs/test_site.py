"""Every block of the docs: what says ``bash`` or ``python`` runs, and every other command line is one that exists."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from nhcatalog.schema import TABLES
from nhcli.data import cli as nhdata_cli
from nhcli.model import cli as nhmodel_cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FASTER = {
    "train.max_minutes=2": "train.max_steps=10",
    "--html scores.html": "--html scores.html --baseline mean",
}
CLIS = {"nhdata": nhdata_cli, "nhmodel": nhmodel_cli}


def name(page: Path) -> str:
    return str(page.relative_to(DOCS))


def has_own_test(page: Path) -> bool:
    """Whether what a page needs, a server say, is in a test of its own: ``test_s3.py`` for ``s3.md``."""
    return Path(__file__).with_name(f"test_{page.stem.replace('-', '_')}.py").exists()


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every fenced block, in order."""
    return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def runnable(page: Path) -> list[tuple[str, str]]:
    return [(language, text) for language, text in blocks(page) if language in ("bash", "python")]


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page) and not has_own_test(page)], ids=name)
def test_blocks_run_in_order(page: Path, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for language, text in runnable(page):
        for slow, fast in FASTER.items():
            text = text.replace(slow, fast)
        command = ["bash", "-euc", text] if language == "bash" else [sys.executable, "-c", text]
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def command_lines(page: Path) -> list[str]:
    """Lines of shell blocks that call one of our commands; a line goes on after a backslash or within quotes."""
    found = []
    for language, text in blocks(page):
        if language in ("", "sh", "bash"):
            parts = re.split(r"^(?=nhdata |nhmodel )", text.replace("\\\n", " "), flags=re.MULTILINE)
            for part in parts:
                if part.startswith(("nhdata ", "nhmodel ")):
                    line = part.splitlines()[0]
                    found.append(line if line.count('"') % 2 == 0 else part[: part.index('"', part.index('"') + 1) + 1])
    return found


LINES = sorted({(name(page), line) for page in [*PAGES] for line in command_lines(page)})


@pytest.mark.parametrize(("page", "line"), LINES)
def test_commands_and_options_exist(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    words = words[: words.index("|")] if "|" in words else words
    words = [word for word in words if not word.startswith((">", "2>"))]
    command, rest = CLIS[words[0]], words[1:]
    context = click.Context(command, info_name=words[0])
    while isinstance(command, click.Group):
        assert rest, line
        found = command.get_command(context, rest[0])
        assert found is not None, f"{page}: no command {rest[0]!r} in: {line}"
        command, rest = found, rest[1:]
    try:
        command.make_context(words[0], list(rest))
    except click.UsageError as error:
        if "No such file" in error.message or "does not exist" in error.message:
            return  # the page has made it by then
        if "unknown source 'spk'" in error.message:
            return  # the page has written it by then
        pytest.fail(f"{page}: {error.format_message()} in: {line}")


def pages_module():
    spec = importlib.util.spec_from_file_location("docs_pages", DOCS / "_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_and_table_is_in_the_reference() -> None:
    module = pages_module()
    commands = module.commands_page()
    for cli in CLIS.items():
        for path, command in module.walk(*cli):
            assert f"`{path}`" in commands
            assert command.help, f"{path} has no help"
            for parameter in command.params:
                if isinstance(parameter, click.Option) and not isinstance(command, click.Group):
                    assert parameter.opts[0] in commands
    tables = module.tables_page()
    assert all(f"`{column.name}`" in tables for table in TABLES.values() for column in table.columns)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
            generated = target.endswith(("commands.md", "tables.md"))
            assert target.startswith("http") or generated or (page.parent / target).exists(), f"{page}: {target}"
