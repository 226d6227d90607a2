"""What is done with each recording, decided without touching a disk."""

from pathlib import Path

import pytest

from nhdata.ingest.plan import plan_ingest
from nhdata.sources import SessionRef

A, B, A_AGAIN, NAMELESS = (SessionRef(Path(p), i) for p, i in [("a", "A"), ("b", "B"), ("x/a", "A"), ("bad", None)])


@pytest.mark.parametrize(
    ("refs", "present", "existing", "actions"),
    [
        ([], [], "skip", []),
        ([A, B], [], "skip", ["ingest", "ingest"]),
        ([A, B], [], "error", ["ingest", "ingest"]),
        ([A, B], ["A"], "skip", ["skip", "ingest"]),
        ([A, B], ["A"], "overwrite", ["ingest", "ingest"]),
        ([A, B], ["A"], "error", ["fail", "ingest"]),
        ([A, B, A_AGAIN], [], "skip", ["ingest", "ingest", "fail"]),
        ([A, A_AGAIN], ["A"], "skip", ["skip", "fail"]),
        ([A, A_AGAIN], ["A"], "overwrite", ["ingest", "fail"]),
        ([A_AGAIN, A], [], "overwrite", ["ingest", "fail"]),
        ([NAMELESS, NAMELESS, A], ["A"], "skip", ["ingest", "ingest", "skip"]),
    ],
)
def test_the_plan(refs, present, existing, actions):
    steps = plan_ingest(refs, present, existing)
    assert [step.action for step in steps] == actions
    assert [step.ref for step in steps] == refs
    assert all(bool(step.reason) == (step.action != "ingest") for step in steps)


def test_reasons_name_the_paths_and_say_what_to_do():
    (_, twice) = plan_ingest([A, A_AGAIN], [], "skip")
    assert twice.reason == "x/a: has the session id A of a: ingest only one of them, or give them ids of their own"
    (there,) = plan_ingest([A], ["A"], "error")
    assert there.reason == "a: session A is in the store: use --existing skip, refresh or overwrite"
