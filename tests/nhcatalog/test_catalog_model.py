"""Any sequence of adds, replacements and removals, compared with a list of dictionaries."""

import tempfile
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nhcatalog.catalog import Catalog, SessionExists
from nhcatalog.errors import UserError

SESSIONS = st.sampled_from(["a", "b", "c"])
UNITS = st.integers(0, 3)


class CatalogModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.catalog = Catalog(self.folder.name)
        self.history: list[dict[str, int]] = [{}]

    def teardown(self) -> None:
        self.folder.cleanup()

    def add(self, session_id: str, n_units: int, **options: Any) -> int:
        units = pa.table({"session_id": pa.array([session_id] * n_units, pa.string())})
        session = {"session_id": session_id, "n_units": n_units}
        return self.catalog.add(session, {"units": units}, f"sessions/{session_id}", "hash", **options)

    @initialize()
    def begin(self) -> None:
        assert self.catalog.snapshot().position == 0

    @rule(session_id=SESSIONS, n_units=UNITS, replace=st.booleans())
    def put(self, session_id: str, n_units: int, replace: bool) -> None:
        now = self.history[-1]
        if session_id in now and not replace:
            with pytest.raises(SessionExists):
                self.add(session_id, n_units)
            return
        assert self.add(session_id, n_units, replace=replace) == len(self.history)
        self.history.append({**now, session_id: n_units})

    @rule(session_id=SESSIONS)
    def remove(self, session_id: str) -> None:
        now = self.history[-1]
        if session_id not in now:
            with pytest.raises(UserError):
                self.catalog.remove(session_id)
            return
        assert self.catalog.remove(session_id) == len(self.history)
        self.history.append({key: n for key, n in now.items() if key != session_id})

    @rule()
    def reopen(self) -> None:
        self.catalog = Catalog(self.folder.name)

    @precondition(lambda self: len(self.history) > 1)
    @rule(data=st.data())
    def look_back(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.history) - 1))
        expected = {key: n for key, n in self.history[at].items() if n}
        found = self.catalog.snapshot(at).sql("SELECT session_id, count(*) AS n FROM units GROUP BY 1")
        assert {row["session_id"]: row["n"] for row in found.to_pylist()} == expected

    @invariant()
    def every_position_lists_its_sessions(self) -> None:
        for at, expected in enumerate(self.history):
            entries = self.catalog.snapshot(at).entries
            assert {key: entry.session["n_units"] for key, entry in entries.items()} == expected


TestCatalogModel = CatalogModel.TestCase
TestCatalogModel.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
