"""What all commands share: errors of one line, exit codes, commands that load when they are needed."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from types import FrameType
from typing import Any

import click

from nhcatalog.errors import UserError

EXIT_ERROR, EXIT_PARTLY, EXIT_INTERRUPTED = 1, 3, 130
EXIT_TERMINATED = 143


class Command(click.Command):
    """A command whose errors are one line and a remedy; ``--debug`` shows the traceback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(["debug", "--debug"], is_flag=True, help="Show the traceback of an error."))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and turn errors into a line and an exit code."""
        debug = ctx.params.pop("debug", False)
        try:
            return super().invoke(ctx)
        except UserError as error:
            if debug:
                raise
            click.echo(f"error: {error}", err=True)
            ctx.exit(EXIT_ERROR)
        except KeyboardInterrupt as interrupt:
            click.echo(f"interrupted; {str(interrupt) or 'what was finished is kept'}", err=True)
            ctx.exit(getattr(interrupt, "exit_code", EXIT_INTERRUPTED))
        except BrokenPipeError:
            sys.stdout = None
            ctx.exit(0)
        except (OSError, MemoryError) as error:
            if debug:
                raise
            click.echo(
                f"error: {error or type(error).__name__}: check the path, its permissions and the disk",
                err=True,
            )
            ctx.exit(EXIT_ERROR)


class WorkersCommand(Command):
    """A command that other processes or a cluster work for: SIGTERM stops them as Ctrl-C does, with exit code 143."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command with SIGTERM raising KeyboardInterrupt."""
        terminated = False

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal terminated
            terminated = True
            raise KeyboardInterrupt

        if threading.current_thread() is not threading.main_thread():
            return super().invoke(ctx)
        before = signal.signal(signal.SIGTERM, stop)
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit as end:
            if terminated and end.exit_code == EXIT_INTERRUPTED:
                raise click.exceptions.Exit(EXIT_TERMINATED) from None
            raise
        finally:
            signal.signal(signal.SIGTERM, before)


class LazyGroup(click.Group):
    """A group that imports a command's file when the command is asked for."""

    def __init__(self, *args: Any, package: str = "", names: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.package, self.names = package, names

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.names)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.names:
            return None
        command: click.Command = importlib.import_module(f"{self.package}.{name}").command
        return command
