"""Every file of a catalog lost or cut short: each command answers rightly or says in one line what helps."""

import itertools
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import nhdata
from nhcatalog.catalog import Catalog
from nhcli.data import cli
from nhdata.ingest import ingest
from nhdata.sources import SourceOptions

QUERY = "select session_id, count(*) as n from units group by 1 order by 1"
COMMANDS = {
    "ls": ("ls", "--store", "STORE", "--json"),
    "sql": ("sql", "--store", "STORE", QUERY, "--json"),
    "info": ("info", "--store", "STORE", "SESSION"),
    "verify": ("catalog", "verify", "--store", "STORE"),
    "report": ("report", "--store", "STORE", "--out", "OUT"),
    "selection": ("select", "--store", "STORE", "--name", "good"),
    "ingest": (
        "ingest",
        "--source",
        "synthetic",
        *["--sessions", "4", "--units", "10", "--seconds", "5", "--store", "STORE"],
    ),
}
REMEDY = "catalog rebuild|--existing overwrite|select again|make one with"
QUIET = ("log", "log below", "selection")  # nothing else names them
FILES = ["history", "table", "superseded", "fragment", "log below", "log", "checkpoint", "selection", "session"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sessions below a checkpoint, one of them replaced; a fourth after it; a selection."""
    root = tmp_path_factory.mktemp("damage") / "data.zarr"
    options = {"n_units": 10, "duration_s": 5.0}
    ingest(root, "synthetic", [], options=SourceOptions(n_sessions=3, **options))
    ingest(root, "synthetic", [], options=SourceOptions(n_sessions=1, **options), existing="overwrite")
    catalog = Catalog(root / "catalog")
    catalog.compact()
    catalog.vacuum(0.0)
    ingest(root, "synthetic", [], options=SourceOptions(n_sessions=4, **options))
    units = nhdata.open(root).sql("select unit_id from units order by 1")["unit_id"].to_pylist()
    catalog.selections.create("good", "select unit_id from units", 5, units, {})
    return root


def run(command: tuple[str, ...], **values: str) -> Result:
    return CliRunner().invoke(cli, [values.get(word, word) for word in command])


def file_of(root: Path, kind: str) -> Path:
    """A file of that kind."""
    catalog = root / "catalog"
    checkpoint = json.loads((catalog / "checkpoints" / "0000000001.json").read_text())
    first, *_, last = sorted((catalog / "log").iterdir())
    return {
        "history": lambda: catalog / checkpoint["history"]["path"],
        "table": lambda: catalog / checkpoint["tables"]["units"]["current"][0]["path"],
        "superseded": lambda: catalog / checkpoint["tables"]["units"]["superseded"][0]["path"],
        "fragment": lambda: catalog / json.loads(last.read_text())["fragments"]["units"]["path"],
        "log below": lambda: first,
        "log": lambda: last,
        "checkpoint": lambda: catalog / "checkpoints" / "0000000001.json",
        "selection": lambda: catalog / "selections" / "good.parquet",
        "session": lambda: nhdata.open(root).session(nhdata.open(root).session_ids[0]).path / "zarr.json",
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "damage"),
    [*itertools.product(FILES, ["lost", "half"]), ("history", "empty"), ("log", "empty"), ("session", "empty")],
)
def test_a_damaged_file_is_named_with_a_remedy_that_works(
    prepared: Path, tmp_path: Path, kind: str, damage: str
) -> None:
    root = Path(shutil.copytree(prepared, tmp_path / "data.zarr"))
    everything = nhdata.open(root).session_ids
    file = file_of(root, kind)
    content = file.read_bytes()
    file.unlink()
    if damage != "lost":
        file.write_bytes(content[: len(content) // 2 if damage == "half" else 0])
    expected = everything[:-1] if (kind, damage) == ("log", "lost") else everything  # as if it had not been committed
    for name, command in COMMANDS.items():
        if name == "ingest" and (kind, damage) == ("log", "lost"):
            continue  # it commits the session again
        result = run(command, STORE=str(root), SESSION=everything[0], OUT=str(tmp_path / "report.html"))
        assert isinstance(result.exception, SystemExit | None), (name, result.exception)
        if result.exit_code == 0:
            if name in ("ls", "sql"):
                rows = json.loads(result.stdout)["sessions" if name == "ls" else "rows"]
                assert [row["session_id"] for row in rows] == expected
                assert {row.get("n", 10) for row in rows} == {10}
        else:
            lines = [line for line in result.output.splitlines() if not line.endswith("problems")]
            (line,) = [line for line in lines if file.name in line or file.parent.name in line or "error:" in line]
            assert name == "verify" or re.search(REMEDY, line), (name, result.output)
    verified = run(COMMANDS["verify"], STORE=str(root))
    sound = kind == "session" or (damage == "lost" and kind in QUIET)
    assert (verified.exit_code == 0) == sound, verified.output
    result = run(("catalog", "rebuild", "--store", "STORE"), STORE=str(root))
    if kind == "session":
        assert result.exit_code == 3
        assert "left out" in result.output
        assert run(COMMANDS["ingest"], STORE=str(root)).exit_code == 0
    else:
        assert result.exit_code == 0, result.output
    assert nhdata.open(root).session_ids == everything
    assert [row["n"] for row in nhdata.open(root).sql(QUERY).to_pylist()] == [10] * len(everything)
    problems = Catalog(root / "catalog").verify()
    assert len(problems) == (kind == "selection" and damage != "lost")
