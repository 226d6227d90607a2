"""The one kind of error a user is meant to read."""


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
