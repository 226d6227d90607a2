"""Refuse to start worker processes from a program that they cannot import."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import FrameType

from nhcatalog.errors import UserError

_REMEDY = "use num_workers=0, or put the program into a file with its statements under if __name__ == '__main__':"


def check_main_module() -> None:
    """Raise if processes that are started by spawn or forkserver could not import the main module.

    Such a process imports the main module first. A program from the standard input has no file to import; a
    statement at the top level of a script runs again in every worker, which then starts workers of its own.

    Raises
    ------
    UserError
        If the main module has no file, or the statement that starts the workers has no ``__main__`` guard.
    """
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is None:  # a notebook, python -c: nothing is imported
        return
    if getattr(main, "__spec__", None) is None and not Path(file).is_file():
        raise UserError(f"worker processes cannot import the main program ({file})", _REMEDY)
    line = _top_level_line(file)
    if line is not None and not _is_guarded(file, line):
        raise UserError(f"{file}:{line} starts worker processes without a __main__ guard", _REMEDY)


def _top_level_line(file: str) -> int | None:
    """Return the line of the main module that is executing at its top level, if there is one."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        code = frame.f_code
        at_top = code.co_name == "<module>" and code.co_filename == file
        if at_top and frame.f_globals.get("__name__") in ("__main__", "__mp_main__"):
            return frame.f_lineno
        frame = frame.f_back
    return None


def _is_guarded(file: str, line: int) -> bool:
    """Return whether a line lies within an ``if`` that tests ``__name__``; True where the source cannot be read."""
    try:
        module = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    return any(
        isinstance(statement, ast.If)
        and statement.lineno <= line <= (statement.end_lineno or line)
        and any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test))
        for statement in module.body
    )
