"""The one kind of error a user is meant to read."""

from __future__ import annotations

from typing import Any


class UserError(Exception):
    """Something the user can mend: what failed, on which value, and what to do.

    Parameters
    ----------
    problem : str
        What failed, naming the file or the value.
    remedy : str
        What to do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}: {self.remedy}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle class, arguments and attributes; `__init__` of a subclass may take other arguments."""
        return _restore, (type(self), self.args), self.__dict__


def _restore(cls: type[UserError], args: tuple[Any, ...]) -> UserError:
    return cls.__new__(cls, *args)
