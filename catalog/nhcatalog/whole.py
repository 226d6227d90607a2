"""A file of the user's that is there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nhcatalog.errors import UserError


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A hidden file to write, which takes the place of `path` by one rename when the block is done.

    Left by an error, it is gone and `path` is as it was.

    Raises
    ------
    UserError
        In the place of an OSError: if the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "a.txt")
    >>> with whole_file(path) as part:
    ...     _ = part.write_text("all of it")
    >>> path.read_text()
    'all of it'
    """
    path = Path(path)
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        problem = f"cannot write {path} ({error.strerror or error})"
        raise UserError(problem, "name a file in a folder you may write") from None
    finally:
        with suppress(OSError):
            part.unlink()
