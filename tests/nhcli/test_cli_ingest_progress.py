"""What ``nhdata ingest`` shows while it works."""

import io

from rich.console import Console
from rich.progress import Progress, TextColumn

from nhcli.data.ingest_progress import IngestProgress
from nhdata.ingest import Failed, Ingested, Skipped


def shown_by(say_skipped=True):
    """A display on a clock that moves by hand."""
    clock = [0.0]
    bar = Progress(TextColumn("{task.fields[note]}"), console=Console(file=io.StringIO()), disable=True)
    return IngestProgress(bar, say_skipped, now=lambda: clock[0]), clock, bar.tasks[0]


def test_sessions_spikes_per_second_and_what_is_being_read(capsys):
    shown, clock, task = shown_by()
    shown.on_start(4)
    shown.on_begin("data/a.nwb")
    shown.on_begin("data/b.nwb")
    assert (task.completed, task.total, task.fields["note"]) == (0, 4, "data/a.nwb +1")
    clock[0] = 2.0
    shown.on_outcome(Ingested("a", "nwb", 3, 5_000_000, "data/a.nwb"))
    assert (task.completed, task.fields["note"]) == (1, "2.5 M spikes/s  data/b.nwb")
    clock[0] = 4.0
    shown.on_outcome(Failed("data/b.nwb", "data/b.nwb: broken"))
    shown.on_outcome(Skipped("data/c.nwb", "already in the store"))
    assert (task.completed, task.fields["note"]) == (3, "1.25 M spikes/s")
    assert capsys.readouterr().err == "error: data/b.nwb: broken\nskipped: data/c.nwb: already in the store\n"


def test_long_paths_keep_their_end():
    shown, _, task = shown_by()
    shown.on_begin("x" * 200 + "/probe.nwb")
    assert task.fields["note"].startswith("…x")
    assert task.fields["note"].endswith("/probe.nwb")
    assert len(task.fields["note"]) == 49


def test_nothing_is_shown_where_there_is_no_terminal(nhdata_run, tmp_path):
    args = ("ingest", "--source", "synthetic", "--sessions", 2, "--seconds", 20, "--units", 10)
    result = nhdata_run(*args, "--store", tmp_path / "a.zarr")
    assert (result.exit_code, result.stderr) == (0, f"2 ingested into {tmp_path / 'a.zarr'}, 0 skipped, 0 failed\n")
    shown = nhdata_run(*args, "--store", tmp_path / "b.zarr", "--progress")
    assert "2/2" in shown.stderr
    assert "spikes/s" in shown.stderr
