"""Pages that are made from the code, and folders whose every page is listed: what mkdocs calls hooks."""

from __future__ import annotations

import html
import inspect
import re
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from nhcatalog.schema import markdown as tables_markdown
from nhcli.data import cli as nhdata
from nhcli.model import cli as nhmodel

DOCS = Path(__file__).parent


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List every page of the folders that the navigation names: a new how-to needs no line there."""
    assert config.nav is not None
    config.nav = [_listed(item) for item in config.nav]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that the code writes."""
    pages = {"reference/commands.md": commands_page(), "reference/tables.md": tables_page()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def _listed(item: Any) -> Any:
    if isinstance(item, dict):
        ((title, value),) = item.items()
        if isinstance(value, str) and (DOCS / value).is_dir():
            return {title: [f"{value}/{path.name}" for path in sorted((DOCS / value).glob("*.md"))]}
    return item


def tables_page() -> str:
    """Every table and column of the catalog."""
    intro = "A query is one SELECT over these tables. NULL means unknown; columns are added, never renamed.\n\n"
    return "# Tables\n\n" + intro + tables_markdown()


def commands_page() -> str:
    """Every command with its options, as ``--help`` says them."""
    parts = ["# Commands", ""]
    for name, cli in (("nhdata", nhdata), ("nhmodel", nhmodel)):
        parts += [section for path, command in walk(name, cli) for section in _command(path, command)]
    return "\n".join(parts) + "\n"


def walk(path: str, command: click.Command) -> list[tuple[str, click.Command]]:
    """A command and all below it, with their full names."""
    found = [(path, command)]
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found += walk(f"{path} {name}", below)
    return found


def _command(path: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=path)
    heading = "##" if " " not in path else "###"
    lines = [f"{heading} `{path}`", "", *_paragraphs(inspect.cleandoc(command.help or "")), ""]
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    if isinstance(command, click.Group):
        return lines
    lines += ["```text", usage, "```", ""]
    rows = [
        record
        for parameter in command.params
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)) is not None
    ]
    if rows:
        lines += ["| option | |", "|---|---|"]
        lines += [f"| <code>{_cell(option)}</code> | {_cell(help_text)} |" for option, help_text in rows]
    return [*lines, ""]


def _cell(text: str) -> str:
    return html.escape(re.sub(r"\s+", " ", text), quote=False).replace("|", "&#124;").replace("*", "&#42;")


def _paragraphs(text: str) -> list[str]:
    r"""A help text as Markdown: what follows ``\b`` is shown as it stands."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        if paragraph.startswith("\b"):
            lines += ["```text", *(line for line in paragraph.splitlines() if line != "\b"), "```", ""]
        else:
            lines += [" ".join(paragraph.split()), ""]
    return lines
