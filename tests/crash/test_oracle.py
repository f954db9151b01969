"""The oracle finds what must not be: each sort of evidence against an outbox, one at a time."""

from dataclasses import replace
from typing import Any

import pytest

from outbox import Message
from outbox.lifecycle import Status
from outbox.message import AttemptRecord
from tests import factories
from tests.crash.arming import Act, Deed
from tests.crash.copies import Copies
from tests.crash.evidence import Evidence, Fate
from tests.crash.oracle import judge
from tests.crash.receiver import Arrival, Verdict


def row(name: str = "m1", *, receipt: int = 1, **fields: Any) -> Message:
    """Delivered by the first attempt, under the first lease, in the request with the id 1."""
    standing = {"status": Status.DELIVERED, "attempt_count": 1, "lease": 1, "receipt_json": f'{{"provider_id": "{receipt}"}}'}
    return factories.message(**{"id": name, **standing, **fields})


def came(key: str = "m1", verdict: Verdict = Verdict.ACCEPTED, *, attempt: int | None = 1, request: int = 1) -> Arrival:
    """A request of that attempt, under a lease of the same number; ``None``: of a channel that tells neither."""
    return Arrival(request, key, attempt, attempt, verdict, 0.0)


def tried(outcome: str, number: int = 1, *, owner: str = "host:token:7") -> AttemptRecord:
    """An attempt on record, under a lease of the same number."""
    return AttemptRecord("m1", number, number, outcome, "gone", "unknown", 0, 0, owner)


SOUND = Evidence(
    wanted={"m1": Fate.DELIVERED}, rolled_back={"undone"}, keys={"m1": "m1"}, rows={"m1": row()}, attempts={},
    arrivals=[came()], effects=[], deeds=[], violations=[],
)  # fmt: skip
SECOND = {"rows": {"m1": row(attempt_count=2, lease=2)}}
TWICE: dict[str, Any] = {"arrivals": [came(), came(attempt=2, request=2)], **SECOND}
RESCUED: dict[str, Any] = {**TWICE, "attempts": {"m1": [tried("rescued")]}}
DEATH = Deed("send.after", 1, Act.KILL, pid=7, at=0.0, owner="host:token:7")
OF_A_NODE = replace(DEATH, act=Act.NODE, pid=6, owner="host:token:6")
EFFECT: dict[str, Any] = {"arrivals": [], "effects": ["m1"], "rows": {"m1": row(receipt_json=None)}}


def problems(allowed: Copies = Copies.NONE, **changes: Any) -> set[str]:
    """The sorts of what is found."""
    return {problem.partition(":")[0] for problem in judge(replace(SOUND, **changes), allowed).problems}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        EFFECT,
        {**EFFECT, "attempts": {"m1": [tried("retry")]}},  # whose transaction was undone
        {"arrivals": [came(attempt=None)]},
        {"arrivals": [replace(came(request=2), verdict=Verdict.UNREADY, lease=0), came()]},  # which was not charged
        {"arrivals": [came(verdict=Verdict.REFUSED), came(attempt=2)], "attempts": {"m1": [tried("retry")]}, **SECOND},
        {"attempts": {"m1": [tried("delivered")]}},
        {"attempts": {"m1": [tried("rescued")]}, **SECOND},  # the other side was asked, and had it
        {"rows": {"m1": row(receipt_json=None, terminal_reason="resolved by an operator as sent")}},
    ],
)  # fmt: skip
def test_what_is_sound_is_not_found_wanting(changes: dict[str, Any]) -> None:
    assert problems(**changes) == set()


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
        ("unexplained", TWICE),
        ("unexplained", {"effects": ["m1"]}),
        ("unexplained", {**RESCUED, "arrivals": [*TWICE["arrivals"], came(attempt=3, request=3)]}),
        ("unexplained", {**TWICE, "attempts": {"m1": [tried("retry")]}}),
        ("stuck", {"violations": ["stuck: m1"]}),
    ],
)
def test_what_must_not_be_is_found(found: str, changes: dict[str, Any]) -> None:
    assert found in problems(**changes)


@pytest.mark.parametrize(
    ("allowed", "deeds", "found"),
    [
        (Copies.NONE, [], {"repeated"}),
        (Copies.NONE, [DEATH], {"repeated"}),
        (Copies.OF_THE_DEAD, [], {"repeated"}),
        (Copies.OF_THE_DEAD, [replace(DEATH, owner="host:token:8")], {"repeated"}),
        (Copies.OF_THE_DEAD, [replace(OF_A_NODE, owner="host:another:6")], {"repeated"}),
        (Copies.OF_THE_DEAD, [replace(DEATH, act=Act.STOP)], {"repeated"}),
        (Copies.OF_THE_DEAD, [DEATH], set()),
        (Copies.OF_THE_DEAD, [OF_A_NODE], set()),
        (Copies.ON_RECORD, [], set()),
    ],
)
def test_a_copy_that_is_on_record_is_excused_only_where_its_first_sender_may_have_died_of_a_plan(
    allowed: Copies, deeds: list[Deed], found: set[str]
) -> None:
    """A live worker's send that is wrongly rescued, and sent again, is on record as well."""
    assert problems(allowed, deeds=deeds, **RESCUED) == found


def test_a_death_that_cut_off_more_sends_than_its_process_may_have_under_way_is_found() -> None:
    names = ("m1", "m2", "m3")
    evidence: dict[str, Any] = {
        "wanted": dict.fromkeys(names, Fate.DELIVERED), "keys": {name: name for name in names}, "deeds": [DEATH],
        "rows": {name: row(name, attempt_count=2, lease=2, channel="crowd", receipt=place)
                 for place, name in enumerate(names, 1)},
        "attempts": {name: [tried("rescued")] for name in names},
        "arrivals": [came(name, attempt=2, request=place) for place, name in enumerate(names, 1)],
    }  # fmt: skip

    assert problems(at_once={"crowd": 3}, **evidence) == set()
    assert problems(at_once={"crowd": 2}, **evidence) == {"too many at once"}
    assert problems(Copies.OF_THE_DEAD, **evidence) == {"too many at once"}


@pytest.mark.parametrize(
    ("found", "changes"),
    [
        ("overcharged", {"rows": {"m1": row(attempt_count=6)}}),
        ("overcharged", {"arrivals": [came(attempt=6)], "rows": {"m1": row(attempt_count=5, lease=6)}}),
        ("overcharged", {"arrivals": [came(attempt=3)], "rows": {"m1": row(attempt_count=3, lease=3, max_attempts=2)}}),
        ("overcharged", {"attempts": {"m1": [tried("rescued", 6)]}}),
        ("overcharged", {"attempts": {"m1": [tried("retry"), tried("retry")]}}),
        ("unfenced", {**RESCUED, "arrivals": [came(), came(request=2)]}),
        ("unfenced", {"arrivals": [came(verdict=Verdict.REFUSED, request=2), came()]}),
        ("uncounted", {"arrivals": [came(verdict=Verdict.REFUSED, request=2), came(attempt=2)], **SECOND}),
        ("uncounted", {"arrivals": [came(attempt=2)]}),
        ("uncounted", {"arrivals": [came()], "rows": {"m1": row(lease=2)}}),
        ("uncounted", {"arrivals": [came()], "rows": {"m1": row(attempt_count=2)}}),
        ("uncounted", {"arrivals": [came(attempt=None), came(attempt=None, request=2)]}),
        ("uncounted", {"arrivals": [came()], "rows": {"m1": row(status=Status.EXPIRED)}}),
        ("misrecorded", {"attempts": {"m1": [tried("retry")]}}),
        ("unanswered", {"arrivals": [came(attempt=2)], "attempts": {"m1": [tried("retry")]}, **SECOND}),
        ("unanswered", {"arrivals": [came(attempt=2)], "attempts": {"m1": [tried("rejected")]}, **SECOND}),
        ("unacknowledged", {"rows": {"m1": row(receipt=2)}}),
        ("unacknowledged", {"rows": {"m1": row(receipt_json=None)}}),
        ("unacknowledged", {**RESCUED, "arrivals": [came(verdict=Verdict.REFUSED), came(attempt=2, request=2)]}),
    ],
)
def test_an_attempt_of_which_rows_and_ledger_tell_different_things_is_found(found: str, changes: dict[str, Any]) -> None:
    assert found in problems(Copies.ON_RECORD, **changes)


def test_what_nobody_was_there_to_hear_is_a_refusal_without_an_answer() -> None:
    evidence: dict[str, Any] = {"arrivals": [came(attempt=2)], "attempts": {"m1": [tried("retry")]}, **SECOND}
    assert problems(**evidence) == {"unanswered"}
    assert problems(receiver_has_died=True, **evidence) == set()


def test_a_message_that_came_before_its_turn_is_found() -> None:
    first, second = (row(name, ordering_key="a", seq=seq, receipt=seq) for name, seq in (("m1", 1), ("m2", 2)))
    arrivals = [came("m1"), came("m2", request=2)]
    both = {"wanted": dict.fromkeys(("m1", "m2"), Fate.DELIVERED), "keys": {"m1": "m1", "m2": "m2"}}

    assert problems(rows={"m1": first, "m2": second}, arrivals=arrivals, **both) == set()
    assert problems(rows={"m1": first, "m2": second}, arrivals=arrivals[::-1], **both) == {"out of order"}
