"""What a user may name as the place of a store."""

from pathlib import Path

import pytest

from nhcatalog.errors import UserError
from nhcatalog.place import Url, to_place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("data.zarr", Path.cwd() / "data.zarr"),
        ("a:b/c", Path.cwd() / "a:b/c"),
        ("s3://lab/data.zarr", Url("lab", "data.zarr")),
        ("S3://lab/data.zarr//", Url("lab", "data.zarr")),
        ("s3://lab//a///b c/é%20?#.zarr/", Url("lab", "a/b c/é%20?#.zarr")),
        ("s3://lab", Url("lab")),
        (Path("/x"), Path("/x")),
        ("~/data.zarr", Path.home() / "data.zarr"),
        ("a/~", Path.cwd() / "a/~"),
        ("~nobody-of-this-name/x", Path.cwd() / "~nobody-of-this-name/x"),
        (Url("lab", "a"), Url("lab", "a")),
    ],
)
def test_places(text: str | Path | Url, place: Path | Url) -> None:
    assert to_place(text) == place
    assert to_place(str(place)) == place


@pytest.mark.parametrize(
    "text",
    [
        "https://lab/x",
        "gs://lab/x",
        "file:///x",
        "s3:///x",
        "s3://",
        "s3://La_b/x",
        "s3://user:password@lab/x",
        "s3://lab/../x",
        "s3://lab/a/./b",
        "s3://lab/a\\b",
        "s3://lab/a\nb",
        Path("s3://lab/x"),
    ],
)
def test_no_places(text: str | Path) -> None:
    with pytest.raises(UserError):
        to_place(text)


def test_joining_stays_inside() -> None:
    url = Url("lab", "data.zarr")
    assert str(url / "sessions/ibl/x") == "s3://lab/data.zarr/sessions/ibl/x"
    assert str(Url("lab") / "x") == "s3://lab/x"
    for name in ("../x", "a/../../x", "/x", "a//x", "./x"):
        with pytest.raises(ValueError, match="not inside"):
            url / name
