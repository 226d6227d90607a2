"""The page of a run, of scores alone, and of a folder of runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nhcatalog.errors import UserError
from nhdata.report.parts import Page, Panel, Table
from nhmodel.report.draw_scores import score_panels, verdicts
from nhmodel.report.draw_training import runs_panel, training_panel
from nhmodel.report.kept import KeptRun

MAX_RUNS = 200
N_SESSIONS = 200


def run_page(run: KeptRun, scores: dict[str, Any] | None = None) -> Page:
    """The report of a run: scores, training, and the card that says what it is.

    Parameters
    ----------
    run : KeptRun
    scores : dict, optional
        ``Evaluation.to_json(run) | Evaluation.pictures()``; by default those that are kept with the run.

    Raises
    ------
    UserError
        If the scores are damaged.
    """
    info, data = run.info, run.info.config.data
    value = scores or run.scores
    n_sessions = len(info.content_hash)
    sessions = "one session" if n_sessions == 1 else f"{n_sessions:,} sessions"
    task = "held-out units" if data.task == "co-smoothing" else f"{data.horizon_s:g} s ahead"
    facts = [
        ("forecasts", f"{task}, bins of {data.bin_s * 1000:g} ms"),
        ("history", f"{data.history_s:g} s"),
        ("parameters", f"{run.n_parameters:,}"),
        ("trained on", f"{len(info.unit_ids):,} units of {sessions}"),
    ]
    if run.curves.step:
        facts += [
            ("steps", f"{run.curves.step[-1]:,}"),
            ("time", f"{run.curves.minutes[-1]:.1f} min"),
        ]
    if run.curves.best is not None:
        facts.append(("best validation", f"{run.curves.deciding[run.curves.best]:.4f} bits/spike"))
    panels, notes = [training_panel(run.curves), *_card(run)], ["Not scored yet: give a store with --store."]
    if value is not None:
        with _reading_scores(run.folder):
            panels, notes = [*score_panels(value), *panels], verdicts(value)
        if scores is None and run.scores_are_stale:
            notes.append("These scores were taken with other weights: 'nhmodel evaluate --card' takes them again.")
    return Page(run.folder.resolve().name, facts, notes, panels)


def scores_page(value: dict[str, Any]) -> Page:
    """The report of baselines alone; `value` as `run_page` takes it."""
    facts = [
        ("forecast", f"{value['horizon_s']:g} s ahead, bins of {value['bin_s'] * 1000:g} ms"),
        ("windows", f"{value['n_windows']:,}"),
        ("split", str(value["split"])),
        ("windows' hash", str(value["windows_hash"])[:16]),
    ]
    return Page("Baselines", facts, verdicts(value), score_panels(value))


@contextmanager
def _reading_scores(folder: Path) -> Iterator[None]:
    """What damaged scores raise, as one line."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        problem = f"the scores of {folder} are damaged ({type(error).__name__})"
        raise UserError(problem, "score the run again with 'nhmodel evaluate --card'") from None


def _card(run: KeptRun) -> list[Panel]:
    """What the run was made from, and by what."""
    info = run.info
    sessions = [
        (name, "held out" if name in info.held_out else "trained on", info.content_hash.get(name, "")[:16])
        for name in sorted({*info.content_hash, *info.held_out})
    ]
    splits = [
        (split, info.windows_hash[split][:16], info.split_hash.get(split, "")[:16]) for split in info.windows_hash
    ]
    settings = [
        (f"{section}.{name}", _setting(value))
        for section, values in info.config
        for name, value in values
        if name != "select"
    ]
    changes = "".join(f" Changed on resumption, {line}." for line in info.change_lines())
    some = f" The first {N_SESSIONS} of {len(sessions):,}." if len(sessions) > N_SESSIONS else ""
    return [
        Panel(
            "Data",
            f"At position {info.position} of the catalog; hash of the units {info.selection_hash[:16]}. Of every "
            "session the first 70 % were trained on, the next 10 % validated, the last 20 % are for tests, with a "
            f"window's length between them.{some}",
            table=Table(("session", "use", "content hash"), sessions[:N_SESSIONS], "lll"),
            code=info.query,
        ),
        Panel("Windows", table=Table(("split", "hash of the windows", "hash of units and times"), splits, "lll")),
        Panel("Settings", f"Written by {info.software}, torch {info.torch}.{changes}", facts=settings),
    ]


def _setting(value: Any) -> str:
    if isinstance(value, tuple | list):
        value = ", ".join(map(str, value))
    return "none" if value in ("", None, {}) else str(value)


@dataclass(frozen=True)
class RunFolder:
    """The runs in a folder and one folder below, as ``nhdata serve`` shows them.

    Attributes
    ----------
    folder : path
    """

    folder: Path

    def found(self) -> dict[str, Path]:
        """Runs by name, newest first."""
        paths = [*self.folder.glob("run.json"), *self.folder.glob("*/run.json"), *self.folder.glob("*/*/run.json")]
        paths.sort(key=_changed, reverse=True)
        return {self._name(path.parent): path.parent for path in paths[:MAX_RUNS]}

    def _name(self, run: Path) -> str:
        return run.resolve().name if run == self.folder else run.relative_to(self.folder).as_posix()

    def overview(self) -> Page:
        """All runs in a table whose first column is their name, and how training went."""
        rows: list[tuple[Any, ...]] = []
        curves = {}
        for name, folder in self.found().items():
            try:
                run = KeptRun.read(folder)
                with _reading_scores(folder):
                    rows.append(_row(name, run))
            except UserError as error:
                rows.append((name, *[None] * 6, error.problem))
            else:
                curves[name] = run.curves
        if not rows:
            return Page("Training runs", [], ["No run here yet: 'nhmodel train --out' makes one."], [])
        head = ("run", "test score", "best validation", "steps", "minutes", "units", "sessions", "selection")
        table = Panel(
            "",
            "Scores are fp-bps, in bits per spike gained over the null; the newest run first.",
            table=Table(head, rows, "lrrrrrrw"),
        )
        panel = runs_panel(curves)
        return Page("Training runs", [], [], [table, *([panel] if panel else [])])

    def page(self, name: str) -> Page:
        """The report of one run.

        Raises
        ------
        UserError
            If there is none of that name, or it is damaged.
        """
        found = self.found()
        if name not in found:
            raise UserError(f"there is no run {name!r}", "choose one from the list of runs")
        return run_page(KeptRun.read(found[name]))


def _row(name: str, run: KeptRun) -> tuple[Any, ...]:
    curves, scores = run.curves, run.scores
    mine = [] if scores is None else [row["fp_bps"] for row in scores["scores"] if row["model"] == "neurohorizon"]
    return (
        name,
        mine[0] if mine else None,
        None if curves.best is None else curves.deciding[curves.best],
        curves.step[-1] if curves.step else None,
        f"{curves.minutes[-1]:.1f}" if curves.step else None,
        len(run.info.unit_ids),
        len(run.info.content_hash),
        run.info.query,
    )


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0
