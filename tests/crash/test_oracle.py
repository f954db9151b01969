"""The oracle finds what must not be: each sort of evidence against an outbox, one at a time."""

from dataclasses import replace
from typing import Any

import pytest

from outbox import Message
from outbox.lifecycle import Status
from outbox.message import AttemptRecord
from tests import factories
from tests.crash.arming import Act, Deed
from tests.crash.oracle import Evidence, Fate, judge
from tests.crash.receiver import Arrival, Verdict


def row(name: str = "m1", **fields: Any) -> Message:
    return factories.message(**{"id": name, "status": Status.DELIVERED, **fields})


def came(key: str = "m1", verdict: Verdict = Verdict.ACCEPTED) -> Arrival:
    return Arrival(key, 1, 1, verdict, 0.0)


def attempt(outcome: str, *, lease: int = 1, pid: int = 7) -> AttemptRecord:
    return AttemptRecord("m1", lease, 1, outcome, "gone", "unknown", 0, 0, f"host:token:{pid}")


SOUND = Evidence(
    wanted={"m1": Fate.DELIVERED}, rolled_back={"undone"}, keys={"m1": "m1"}, rows={"m1": row()}, attempts={},
    arrivals=[came()], effects=[], deeds=[], violations=[],
)  # fmt: skip
TWICE = [came(), came()]
DEATH = Deed("send.after", 1, Act.KILL, pid=7, at=0.0)


def problems(*, may_repeat: bool = False, **changes: Any) -> list[str]:
    return [problem.partition(":")[0] for problem in judge(replace(SOUND, **changes), may_repeat=may_repeat).problems]


def test_what_is_sound_is_not_found_wanting() -> None:
    assert problems() == []
    assert problems(arrivals=TWICE, attempts={"m1": [attempt("rescued")]}, deeds=[DEATH], may_repeat=True) == []


@pytest.mark.parametrize(
    ("found", "changes"),
    [
        ("lost", {"arrivals": []}),
        ("lost", {"arrivals": [came(verdict=Verdict.REFUSED)]}),
        ("unmeant", {"arrivals": [came(), came("undone")]}),
        ("unmeant", {"arrivals": [came(), came("another key")]}),
        ("unmeant", {"effects": ["another"]}),
        ("misplaced", {"rows": {}}),
        ("misplaced", {"rows": {"m1": row(status=Status.QUEUED)}}),
        ("misplaced", {"rows": {"m1": row(), "m2": row("m2")}}),
        ("misreported", {"arrivals": [], "wanted": {"m1": Fate.DELIVERED}}),
        ("misreported", {"rows": {"m1": row(status=Status.EXPIRED)}, "wanted": {"m1": Fate.EXPIRED}}),
        ("unexplained", {"arrivals": TWICE}),
        ("unexplained", {"effects": ["m1"]}),
        ("unexplained", {"arrivals": [came(), *TWICE], "attempts": {"m1": [attempt("rescued")]}}),
        ("unexplained", {"arrivals": TWICE, "attempts": {"m1": [attempt("retry")]}}),
        ("repeated", {"arrivals": TWICE, "attempts": {"m1": [attempt("rescued")]}, "deeds": [DEATH]}),
        ("overcharged", {"rows": {"m1": row(attempt_count=6)}}),
        ("overcharged", {"attempts": {"m1": [attempt("retry"), attempt("retry")]}}),
        ("stuck", {"violations": ["stuck: m1"]}),
    ],
)
def test_what_must_not_be_is_found(found: str, changes: dict[str, Any]) -> None:
    assert found in problems(**changes)


def test_a_message_that_came_before_its_turn_is_found() -> None:
    first, second = (row(name, ordering_key="a", seq=seq) for name, seq in (("m1", 1), ("m2", 2)))
    both = {"wanted": dict.fromkeys(("m1", "m2"), Fate.DELIVERED), "keys": {"m1": "m1", "m2": "m2"}}

    assert problems(rows={"m1": first, "m2": second}, arrivals=[came("m1"), came("m2")], **both) == []
    assert problems(rows={"m1": first, "m2": second}, arrivals=[came("m2"), came("m1")], **both) == ["out of order"]
