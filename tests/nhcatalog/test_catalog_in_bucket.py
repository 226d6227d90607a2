"""Upkeep of a catalog in an object store: checkpoints, sweeping, checks, rebuilding."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nhcatalog.catalog import Catalog
from nhcatalog.log import CatalogError
from nhcatalog.storage import open_files

pytestmark = pytest.mark.parametrize("bucket", ["s3_server", "seaweed_server"], indirect=True)
Add = Callable[..., int]
POSITIONS = range(6)


@pytest.fixture
def place(bucket: str, add: Add) -> str:
    """Five commits: three sessions added, one replaced, one removed."""
    place = f"{bucket}/lab/data.zarr/catalog"
    catalog = Catalog(place)
    for session_id in ("a", "b", "c"):
        add(catalog, session_id)
    add(catalog, "a", replace=True, n_units=5)
    catalog.remove("b")
    return place


def units(catalog: Catalog, at: int | None = None) -> list[dict[str, Any]]:
    return catalog.snapshot(at).sql("SELECT * FROM units ORDER BY unit_id").to_pylist()


def test_every_position_stays_while_files_are_folded_and_swept(place: str, add: Add) -> None:
    catalog = Catalog(place)
    expected = [units(catalog, at) for at in POSITIONS]
    early = Catalog(place).snapshot(4)
    made = catalog.compact()
    assert made is not None
    assert made.position == 5
    assert catalog.compact() is None
    assert catalog.vacuum() == []  # within the hour that readers have
    would_go = catalog.vacuum(0.0, dry_run=True)
    assert {name.partition("/")[0] for name in would_go} == {"fragments", "log"}
    before = set(open_files(place).walk())
    assert catalog.vacuum(0.0) == would_go
    assert before - set(open_files(place).walk()) == set(would_go)
    assert early.sql("SELECT count(*) AS n FROM units").to_pylist() == [{"n": len(expected[4])}]
    assert [units(Catalog(place), at) for at in POSITIONS] == expected
    add(catalog, "b", n_units=1)
    full = catalog.compact(full=True)
    assert full is not None
    catalog.vacuum(0.0)
    assert catalog.verify() == []
    assert [units(Catalog(place), at) for at in POSITIONS] == expected
    assert len(units(Catalog(place))) == len(expected[5]) + 1


def test_of_two_checkpoints_at_once_one_holds(place: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: Catalog(place).compact(), range(2)))
    assert any(made)
    assert open_files(place).names("checkpoints") == ["0000000001.json"]
    Catalog(place).vacuum(0.0)
    named = {file.path for one in made if one for file in one.fragments()}
    assert set(open_files(place).sizes("tables")) == named
    assert Catalog(place).verify() == []


def test_a_lost_object_is_named_and_the_catalog_can_be_rebuilt(
    place: str, rows: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    catalog = Catalog(place)
    made = catalog.compact()
    assert made is not None
    lost = made.tables["units"].current[0].path
    open_files(place).delete(lost)
    monkeypatch.setenv("NHDATA_CACHE", str(tmp_path_factory.mktemp("another")))
    assert any(lost in problem for problem in Catalog(place).verify())
    with pytest.raises(CatalogError, match=lost):
        units(Catalog(place))
    with pytest.raises(CatalogError, match=lost):
        Catalog(place).vacuum(0.0)
    session, tables = rows("a")
    known = {"path": "sessions/synthetic/a", "content_hash": "hash-a"}
    assert Catalog(place).rebuild([({**session, **known}, tables)]).position == 6
    assert Catalog(place).verify() == []
    assert len(units(Catalog(place))) == 3
