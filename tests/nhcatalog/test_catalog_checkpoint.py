"""Checkpoints and sweeping: nothing that can be asked changes, at any position, for readers old and new."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from nhcatalog import compact as compaction
from nhcatalog.catalog import Catalog
from nhcatalog.checkpoint import Checkpoint, TableFiles, n_to_fold
from nhcatalog.files import Stat
from nhcatalog.fragment import Fragment
from nhcatalog.log import CatalogError, Commit
from nhcatalog.schema import TABLES
from nhcatalog.vacuum import needed_checkpoints, plan_vacuum

Add = Callable[..., int]
NOW = datetime(2024, 2, 29, 12, tzinfo=UTC)


def everything(catalog: Catalog, at: int) -> dict[str, list[dict]]:
    """All rows of all tables at a position."""
    snapshot = catalog.snapshot(at)
    found = {name: snapshot.sql(f"SELECT * FROM {name} ORDER BY ALL").to_pylist() for name in TABLES}
    found["entries"] = [{"id": key, "at": entry.position, **entry.session} for key, entry in snapshot.entries.items()]
    found["entries"].sort(key=lambda entry: entry["id"])
    return found


@pytest.fixture
def busy(tmp_path: Path, add: Add) -> Catalog:
    """Twelve commits: sessions added, replaced and removed."""
    catalog = Catalog(tmp_path / "catalog")
    for k in range(7):
        add(catalog, f"s{k}", n_units=k + 1)
    add(catalog, "s1", replace=True, n_units=9)
    catalog.remove("s2")
    add(catalog, "s2", n_units=4)
    catalog.remove("s3")
    add(catalog, "s1", replace=True, n_units=2)
    return catalog


def test_every_position_reads_the_same_whenever_a_checkpoint_is_made(busy: Catalog, add: Add) -> None:
    folder = busy._files.root
    looked_at = [0, 4, 7, 8, 9, 12]
    expected = [everything(busy, at) for at in looked_at]
    for grace_s in (3600.0, 0.0):
        assert busy.compact() is not None or grace_s == 0.0
        busy.vacuum(grace_s)
        assert busy.verify() == []
        assert [everything(Catalog(folder), at) for at in looked_at] == expected
    add(busy, "s3", n_units=1)
    add(busy, "s0", replace=True, n_units=8)  # rows of a checkpoint are ended by the tail
    busy.remove("s4")
    looked_at = [8, 12, 14, 15]
    expected = [*expected[3::2], *(everything(busy, at) for at in looked_at[2:])]
    for full in (False, True, True):
        assert [everything(Catalog(folder), at) for at in looked_at] == expected
        assert busy.compact(full=full) is not None
        busy.vacuum(0.0)
        assert busy.verify() == []
    assert [everything(Catalog(folder), at) for at in looked_at] == expected
    assert busy.log()["position"].to_pylist() == list(range(15, 0, -1))
    assert [file.name for file in (folder / "log").iterdir()] == ["0000000015.json"]


@pytest.mark.parametrize("seed", range(2))
def test_any_history_reads_the_same_with_checkpoints_as_without(
    tmp_path: Path, add: Add, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FULL_ROWS", 12)  # several files of each table
    monkeypatch.setattr(compaction, "MAX_DEAD", 2)
    monkeypatch.setattr("nhcatalog.catalog.COMPACT_EVERY", 10**9)
    choose = random.Random(seed)
    plain, folded = Catalog(tmp_path / "plain"), Catalog(tmp_path / "folded")
    there: set[str] = set()
    for _ in range(25):
        session_id, n_units = f"s{choose.randrange(8)}", choose.randrange(1, 6)
        remove = session_id in there and choose.random() < 0.3
        for catalog in (plain, folded):
            if remove:
                catalog.remove(session_id)
            else:
                add(catalog, session_id, n_units=n_units, replace=session_id in there)
        there = there - {session_id} if remove else there | {session_id}
        if choose.random() < 0.3:
            folded.compact(full=choose.random() < 0.2)
        if choose.random() < 0.2:
            folded.vacuum(0.0)
    folded.compact()
    assert folded.verify() == []
    strip = {"ingested_at": None}
    for at in range(0, 26, 5):
        here, other = everything(plain, at), everything(folded, at)
        for name in ("sessions", "entries"):
            here[name], other[name] = ([row | strip for row in found[name]] for found in (here, other))
        assert here == other


def test_a_reader_survives_that_its_files_are_swept(busy: Catalog, add: Add) -> None:
    pinned = [busy.snapshot(at) for at in (5, 12)]
    entries = dict(pinned[0].entries)
    busy.compact()
    add(busy, "new")
    busy.compact(full=True)
    busy.vacuum(0.0)
    assert [snapshot.sql("SELECT count(*) AS n FROM units")["n"][0].as_py() for snapshot in pinned] == [15, 25]
    assert dict(pinned[0].entries) == entries
    assert "new" not in pinned[1].entries


def test_writers_fold_by_themselves(tmp_path: Path, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nhcatalog.catalog.COMPACT_EVERY", 5)
    catalog = Catalog(tmp_path)
    for k in range(23):
        add(catalog, f"s{k:02d}", n_units=2)
    state = Catalog(tmp_path)._reader.state()
    assert (state.checkpoint.number, state.checkpoint.position, len(state.tail)) == (4, 20, 3)
    assert len(state.checkpoint.tables["units"].current) <= 3
    assert catalog.snapshot().sql("FROM units").num_rows == 46
    assert catalog.verify() == []


def test_a_failing_checkpoint_does_not_fail_the_commit(
    tmp_path: Path, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nhcatalog.catalog.COMPACT_EVERY", 1)
    monkeypatch.setattr("nhcatalog.catalog.compact", full)
    assert add(Catalog(tmp_path), "a") == 1
    assert Catalog(tmp_path).snapshot().sql("FROM units").num_rows == 3


def test_of_two_checkpoints_at_once_one_holds_and_the_other_leaves_nothing(busy: Catalog, add: Add) -> None:
    state = busy._reader.state()
    assert compaction.compact(busy._files, state) is not None
    before = set(busy._files.names("tables"))
    assert compaction.compact(busy._files, state) is None
    assert set(busy._files.names("tables")) == before


def test_a_damaged_checkpoint_is_named_and_nothing_is_swept(busy: Catalog) -> None:
    busy.compact()
    folder = busy._files.root
    file = folder / busy._reader.checkpoint().tables["units"].current[0].path
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert any(file.name in problem for problem in busy.verify())
    with pytest.raises(CatalogError, match=file.name):
        busy.vacuum(0.0)
    with pytest.raises(CatalogError, match=f"{file.name}: cut short"):
        Catalog(folder).snapshot().sql("FROM units")
    file.write_bytes(content)
    (manifest,) = (folder / "checkpoints").iterdir()
    whole = manifest.read_text()
    for wrong, message in [("{", "not a readable checkpoint"), (json.dumps({"format": 9}), "newer version")]:
        manifest.write_text(wrong)
        with pytest.raises(CatalogError, match=message):
            Catalog(folder).snapshot()
    record = json.loads(whole)
    record["tables"]["units"]["current"][0]["path"] = "../../etc/passwd"
    manifest.write_text(json.dumps(record))
    with pytest.raises(CatalogError, match="not a readable checkpoint"):
        Catalog(folder).snapshot()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: rows.slice(1), "rows, not"),
        (lambda rows: rows.set_column(1, "session_id", pa.array(["zz"] * len(rows))), "of session 'zz'"),
        (lambda rows: rows.set_column(len(rows.column_names) - 1, "_commit", pa.array([1] * len(rows))), "in commit 1"),
    ],
)
def test_verify_sees_rows_that_do_not_belong(
    busy: Catalog, damage: Callable[[pa.Table], pa.Table], message: str
) -> None:
    import pyarrow.parquet as pq

    busy.compact()
    folder = busy._files.root
    (manifest,) = (folder / "checkpoints").iterdir()
    record = json.loads(manifest.read_text())
    named = record["tables"]["units"]["current"][0]
    pq.write_table(damage(pq.read_table(folder / named["path"])), folder / named["path"])
    named["n_bytes"] = (folder / named["path"]).stat().st_size
    manifest.write_text(json.dumps(record))
    assert any(message in problem for problem in Catalog(folder).verify())


def test_sizes_fall_and_rows_are_written_few_times() -> None:
    rows: list[int] = []
    written = 0
    for _ in range(1000):
        n = n_to_fold(rows, 10, full_rows=2000)
        folded = sum(rows[len(rows) - n :]) + 10
        rows = [*rows[: len(rows) - n], folded]
        written += folded
    small = [size for size in rows if size < 2000]
    assert sum(rows) == 10_000
    assert small == sorted(small, reverse=True)
    assert len(small) <= 9
    assert written <= 10_000 * 9


def checkpoint(number: int, position: int, age_s: float, *paths: str) -> Checkpoint:
    made = (NOW - timedelta(seconds=age_s)).isoformat()
    tables = {"units": TableFiles(tuple(Fragment(path, 1) for path in paths))}
    return Checkpoint(number, position, 0, Fragment(f"tables/h{number}.parquet", 1), tables, made)


def test_what_a_reader_may_have_open_is_needed() -> None:
    line = [checkpoint(1, 10, 9000), checkpoint(2, 20, 4000), checkpoint(3, 30, 100)]
    assert [one.number for one in needed_checkpoints(line, NOW, 3600)] == [2, 3]
    assert [one.number for one in needed_checkpoints(line, NOW, 0)] == [3]
    assert [one.number for one in needed_checkpoints(line[:1], NOW, 10_000)] == [0, 1]
    assert [one.number for one in needed_checkpoints(line[:1], NOW, 3600)] == [1]
    assert [one.number for one in needed_checkpoints([], NOW, 0)] == [0]


def test_what_nobody_names_goes_when_it_is_old() -> None:
    old, young = Stat(1, NOW.timestamp() - 7200), Stat(1, NOW.timestamp() - 1)
    needed = [checkpoint(2, 20, 4000, "tables/named-units.parquet")]
    after = [Commit("add", "a", {}, {"units": Fragment("fragments/logged-units.parquet", 1)})]
    found = {
        "tables/named-units.parquet": old,
        "fragments/logged-units.parquet": old,
        "tables/forgotten-units.parquet": old,
        "fragments/.dead-writer.tmp": old,
        "fragments/to-be-named-units.parquet": young,
        "log/0000000001.json": old,  # goes by its number, not by its age
        "selections/ca1.parquet": old,
    }
    assert plan_vacuum(needed, after, found, NOW, 3600) == [
        "fragments/.dead-writer.tmp",
        "tables/forgotten-units.parquet",
    ]
