"""The prompt of ``nhdata sql``: history, completion of names, a query up to its semicolon."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from nhcatalog.errors import UserError
from nhcatalog.macros import MACROS
from nhcatalog.schema import TABLES
from nhcli.output import write_rows

if TYPE_CHECKING:
    from nhcatalog.snapshot import Snapshot

KEYWORDS = re.findall(
    r"\w+(?: by)?",
    "select from where group by order by limit join using on left having and or not in like between is null as "
    "distinct count avg median sum min max desc asc union with case when then else end describe summarize",
)
HELP = "a query ends with ; and Enter.  Tab completes, ↑ recalls.  tables, quit, or help"
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def run_prompt(snapshot: Snapshot) -> None:
    """Answer queries until Ctrl-D or ``quit``; what is wrong with one is one line."""
    session = make_session()
    click.echo(f"log position {snapshot.position}; {HELP}", err=True)
    while True:
        try:
            text = session.prompt("nhdata> ").strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        match text.rstrip(";").strip().lower():
            case "":
                continue
            case "quit" | "exit" | "\\q":
                return
            case "help" | "\\h" | "?":
                click.echo(HELP, err=True)
                continue
            case "tables" | "\\d":
                text = "show tables"
        try:
            write_rows(snapshot.stream(text), "table", None)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)


def make_session() -> PromptSession[str]:
    """A prompt whose history is kept in the user's own folder, if there may be one."""
    return PromptSession(
        multiline=Condition(lambda: True),
        key_bindings=_bindings(),
        completer=NameCompleter(),
        complete_while_typing=False,
        history=_history(),
        prompt_continuation="   ...> ",
    )


class NameCompleter(Completer):
    """Tables, columns, macros and SQL words; after ``from`` and ``join`` only what stands there."""

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        word = document.get_word_before_cursor(pattern=_WORD)
        before = document.text_before_cursor[: len(document.text_before_cursor) - len(word)].rstrip().lower()
        table_macros = {macro.call: "macro" for macro in MACROS.values() if macro.is_table}
        if re.search(r"\b(from|join|describe|summarize)$", before):
            found = {**dict.fromkeys(TABLES, "table"), **table_macros}
        else:
            named = [name for name in TABLES if re.search(rf"\b{name}\b", document.text)]
            found = {
                **{column.name: name for name in named or TABLES for column in TABLES[name].columns},
                **dict.fromkeys(TABLES, "table"),
                **{macro.call.partition("(")[0] + "(": "macro" for macro in MACROS.values() if not macro.is_table},
                **dict.fromkeys(KEYWORDS, ""),
            }
        for name, of in found.items():
            if name.lower().startswith(word.lower()):
                yield Completion(name, start_position=-len(word), display_meta=of)


def _history() -> History:
    folder = Path(click.get_app_dir("nhdata"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "sql_history", "a", encoding="utf-8"):
            pass
    except OSError:
        return InMemoryHistory()
    return FileHistory(folder / "sql_history")


def _bindings() -> KeyBindings:
    """Enter sends what ends with a semicolon or is a word of the prompt's own; else it begins a new line."""
    bindings = KeyBindings()

    @bindings.add("enter")
    def enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        text = buffer.text.strip()
        if text.endswith(";") or text.lower() in ("", "quit", "exit", "help", "tables", "?") or text.startswith("\\"):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    return bindings
