"""The example's audit: it finds what is wrong, each kind of it, and nothing where nothing is."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from examples.flask_bot.ledger import Entry, Verdict
from examples.flask_bot.show.audit import Account, Evidence, Reply, audit

DELIVERED = Account("delivered", 1, ())
DIED = Account("delivered", 2, ("the worker process died during the send",))
TOO_LATE = Account("delivered", 2, ("no answer within 2 s",))
KILLED_AT = 150.0


def arrival(which: int, at: float, **otherwise: Any) -> Entry:
    return replace(Entry(at, f"id-{which}", "ada", which, f"reply {which}", Verdict.ACCEPTED), **otherwise)


def evidence(*arrivals: Entry, **otherwise: Any) -> Evidence:
    """Three committed answers of one conversation, one that was rolled back, and what arrived of them."""
    sound = Evidence(
        committed={f"id-{number}": Reply("ada", number, f"reply {number}") for number in (1, 2, 3)},
        committed_at={"id-1": 99.0, "id-2": 109.0, "id-3": 119.0},
        rolled_back={"id-9"},
        ledger=arrivals,
        accounts={f"id-{number}": DELIVERED for number in (1, 2, 3)},
        kills=[KILLED_AT],
    )
    return replace(sound, **otherwise)


def problems(*arrivals: Entry, **otherwise: Any) -> Sequence[str]:
    return audit(evidence(*arrivals, **otherwise)).problems


IN_ORDER = (arrival(1, 100), arrival(2, 111), arrival(3, 124))


def test_where_all_is_well_it_counts_and_finds_nothing() -> None:
    refused = arrival(1, 99.5, verdict=Verdict.REFUSED)
    retried = {"id-1": Account("delivered", 2, ()), "id-2": DELIVERED, "id-3": DELIVERED}

    findings = audit(evidence(refused, *IN_ORDER, accounts=retried))

    assert findings.problems == []
    assert (findings.committed, findings.delivered, findings.rolled_back) == (3, 3, 1)
    assert (findings.retried, findings.duplicates, findings.lost) == (1, 0, 0)
    assert (findings.median_s, findings.slow_s) == (2.0, 5.0)


def test_what_never_arrived_is_lost() -> None:
    found = audit(evidence(*IN_ORDER[:2]))

    assert found.lost == 1
    assert "lost: id-3 was committed and never arrived" in found.problems


def test_a_refused_or_ignored_request_is_no_arrival() -> None:
    met = [arrival(3, 124, verdict=Verdict.REFUSED), arrival(3, 130, verdict=Verdict.IGNORED)]

    assert audit(evidence(*IN_ORDER[:2], *met)).lost == 1


def test_what_was_rolled_back_must_not_arrive() -> None:
    assert problems(*IN_ORDER, arrival(9, 130, conversation="bruno", number=1)) == ["unmeant: id-9 arrived and was rolled back"]


def test_what_nobody_committed_must_not_arrive() -> None:
    stranger = arrival(7, 130, conversation="bruno", number=1)

    assert problems(*IN_ORDER, stranger) == ["unmeant: id-7 arrived and was never committed"]


@pytest.mark.parametrize("change", [{"text": "something else"}, {"conversation": "bruno"}, {"number": 7}])
def test_another_content_than_the_committed_one_is_found(change: dict[str, Any]) -> None:
    assert "changed: id-3 arrived with another content than was committed" in problems(*IN_ORDER[:2], arrival(3, 124, **change))


def test_an_answer_that_overtakes_another_is_found() -> None:
    first, second, third = IN_ORDER

    assert "out of order: in ada number 3 came after 1" in problems(first, third, second)


def test_a_second_copy_that_comes_after_a_later_answer_is_out_of_order() -> None:
    late = arrival(2, 160)

    assert problems(*IN_ORDER, late, accounts={"id-1": DELIVERED, "id-2": DIED, "id-3": DELIVERED}) == [
        "out of order: in ada number 2 came after 3"
    ]


def test_a_wrong_signature_is_found() -> None:
    assert problems(*IN_ORDER, arrival(0, 99, verdict=Verdict.FORGED)) == ["1 requests had a wrong signature"]


def twice(account: Account, *, again_at: float) -> Evidence:
    accounts = {"id-1": DELIVERED, "id-2": DELIVERED, "id-3": account}
    return evidence(*IN_ORDER, arrival(3, again_at), accounts=accounts)


def test_a_second_copy_after_a_kill_that_the_outbox_noticed_is_explained() -> None:
    findings = audit(twice(DIED, again_at=160))

    assert findings.duplicates == 1
    assert findings.problems == []


def test_a_second_copy_after_an_answer_that_came_too_late_is_explained() -> None:
    assert audit(twice(TOO_LATE, again_at=140)).problems == []


@pytest.mark.parametrize(
    ("account", "again_at"),
    [(DELIVERED, 160), (Account("delivered", 2, ()), 160), (DIED, 140)],
    ids=["tried once", "not noticed", "before the kill"],
)
def test_a_second_copy_without_a_reason_is_not(account: Account, again_at: float) -> None:
    [problem] = audit(twice(account, again_at=again_at)).problems

    assert problem.startswith("unexplained: id-3 arrived twice")


def test_an_outbox_that_does_not_know_of_a_delivery_is_found() -> None:
    accounts = {"id-1": DELIVERED, "id-2": Account("queued", 0, ())}

    assert problems(*IN_ORDER, accounts=accounts) == [
        "misreported: the outbox says that id-2 is queued",
        "misreported: the outbox says that id-3 is unknown to it",
    ]
