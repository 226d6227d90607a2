"""Every example in a docstring runs and says what it says."""

import doctest
import importlib
import pkgutil
import warnings

import pytest

PACKAGES = ("nhcatalog", "nhdata", "nhmodel")


def modules() -> list[str]:
    names = list(PACKAGES)
    for package in PACKAGES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folders = importlib.import_module(package).__path__
            names += [found.name for found in pkgutil.walk_packages(folders, f"{package}.", onerror=_raise)]
    return names


def _raise(name: str) -> None:
    raise


@pytest.mark.parametrize("name", modules())
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, f"see the output above: {result.failed} of {result.attempted} examples"


def test_examples_are_found() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [test for name in modules() for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(examples) > 10
