"""Errors that travel between processes."""

import importlib
import pickle
import pkgutil
from collections.abc import Iterator

import pytest

import nhcatalog
import nhcli
import nhdata
import nhmodel
from nhcatalog.errors import UserError


def subclasses(cls: type[UserError]) -> Iterator[type[UserError]]:
    for below in cls.__subclasses__():
        yield below
        yield from subclasses(below)


@pytest.fixture(scope="module")
def error_classes() -> list[type[UserError]]:
    for package in (nhcatalog, nhdata, nhmodel, nhcli):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                try:
                    importlib.import_module(module.name)
                except ImportError:  # an optional dependency
                    continue
    ours = {nhcatalog.__name__, nhdata.__name__, nhmodel.__name__, nhcli.__name__}
    return [UserError, *(cls for cls in subclasses(UserError) if cls.__module__.split(".")[0] in ours)]


def arguments(cls: type[UserError]) -> list[str]:
    code = cls.__init__.__code__
    return [f"value {n}" for n in range(code.co_argcount - 1)]


def test_every_user_error_survives_pickling(error_classes: list[type[UserError]]) -> None:
    assert {"SourceError", "NetworkError", "SessionExists", "UnknownSource"} <= {cls.__name__ for cls in error_classes}
    for cls in error_classes:
        error = cls(*arguments(cls))
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 (made here)
        assert type(again) is cls
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
