"""Every verb of the store against every status: it changes what the transition table allows, and no column of any other row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from outbox.lifecycle import TERMINAL, TRANSITIONS, Event, Status, sources
from outbox.message import Claim
from outbox.policy.retry import Verdict
from outbox.store.records import MessageFilter, Settlement
from outbox.store.sqlstore import SQLStore
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DEFERRED,
    DELIVERED,
    MINUTE,
    NOW,
    PARKED,
    RESCUED,
    RETRY,
    RUN_LEASE_MS,
    SECOND,
    WITHHELD,
    cancel,
    claim_all,
    enqueue_named,
    prune,
    put,
    replay,
    rescue,
    stored,
    take,
)

LEASE = 3
ALL = frozenset(Status)
EVERY_ROW = [*map(str, Status)]
"""One row for each status, with its name for an id."""
NEVER_CHANGED = (
    "seq", "id", "turn_id", "channel", "account_id", "target", "dispatch_kind", "payload", "headers", "ordering_key",
    "priority", "idempotency_key", "queued_at", "max_attempts", "stamped", "blanked_at",
)  # fmt: skip
DEFERRED_AGAIN = Verdict(Status.FAILED_RETRYABLE, 5 * SECOND, reason="not connected", charged=False)


@dataclass(frozen=True)
class Verb:
    """A verb, aimed at all rows at once: the arrows of the table that it may follow, from the statuses in ``among``."""

    name: str
    events: Sequence[Event]
    run: Callable[[SQLStore], object]
    among: frozenset[Status] = ALL
    given: dict[str, Any] = field(default_factory=dict)
    """Columns that give the verb its occasion: every row has them, so that its status alone decides."""

    def becomes(self, status: Status) -> Status | None:
        """What the table makes of a row in that status; ``None`` where the verb must leave it alone."""
        targets = {TRANSITIONS[event].target or status for event in self.events if status in sources(event) & self.among}
        assert len(targets) <= 1, "one verb, one outcome"
        return targets.pop() if targets else None


def settling(verdict: Verdict) -> Callable[[SQLStore], object]:
    return lambda store: store.settle([Settlement(name, LEASE, verdict, "ended") for name in EVERY_ROW])


def claims() -> list[Claim]:
    return [Claim(name, LEASE) for name in EVERY_ROW]


def resolving(*, sent: bool) -> Callable[[SQLStore], object]:
    return lambda store: store.resolve(MessageFilter(ids=EVERY_ROW), 100, sent=sent, actor="ada", reason="asked")


OVERDUE = {"lease_until": NOW - 1, "lease_owner": "worker-1"}
SENDING = frozenset({Status.SENDING})
DISPATCHED = frozenset({Status.DISPATCHED})
UNTRIED = {"attempt_count": 0}
TAKEN_ONCE = {"attempt_count": 1}

VERBS = [
    Verb("claim", [Event.CLAIM], claim_all),
    Verb("claim of a closed target", [Event.POSTPONE],
         lambda store: claim_all(store, closed={"https://receiver.example/hook": NOW + MINUTE})),
    Verb("redispatch", [Event.REDISPATCH], lambda store: store.redispatch(CHANNEL, 100), given=OVERDUE),
    Verb("take", [Event.TAKE], lambda store: take(store, claims())),
    Verb("release of the untried", [Event.RELEASE_UNTRIED], lambda store: store.release(claims()), DISPATCHED, UNTRIED),
    Verb("release of the tried", [Event.RELEASE_TRIED], lambda store: store.release(claims()), DISPATCHED),
    Verb("settle: delivered", [Event.DELIVER, Event.DELIVER_LATE], settling(DELIVERED)),
    Verb("settle: retry", [Event.RETRY], settling(RETRY)),
    Verb("settle: failed", [Event.FAIL], settling(DEAD)),
    Verb("settle: parked", [Event.PARK], settling(PARKED)),
    Verb("settle: withheld", [Event.SUPPRESS], settling(WITHHELD)),
    Verb("settle: not ready, untried", [Event.RELEASE_UNTRIED], settling(DEFERRED), SENDING, TAKEN_ONCE),
    Verb("settle: not ready, tried", [Event.RELEASE_TRIED], settling(DEFERRED_AGAIN), SENDING),
    Verb("expire", [Event.EXPIRE], lambda store: store.expire(100), given={"expires_at": NOW - 1}),
    Verb("rescue to retry", [Event.RETRY], lambda store: rescue(store, RESCUED), given=OVERDUE),
    Verb("rescue to park", [Event.PARK], lambda store: rescue(store, PARKED), given=OVERDUE),
    Verb("rescue to fail", [Event.FAIL], lambda store: rescue(store, DEAD), given=OVERDUE),
    Verb("rescue from the dead", [Event.RETRY], lambda store: rescue(store, RESCUED, owner="worker-1"),
         given={"lease_until": NOW + MINUTE, "lease_owner": "worker-1"}),
    Verb("cancel", [Event.CANCEL], lambda store: cancel(store, *EVERY_ROW)),
    Verb("replay", [Event.REPLAY], lambda store: replay(store, *EVERY_ROW)),
    Verb("resolve as sent", [Event.RESOLVE_SENT], resolving(sent=True)),
    Verb("resolve as not sent", [Event.REPLAY], resolving(sent=False), frozenset({Status.PARKED})),
]  # fmt: skip

EACH_VERB = pytest.mark.parametrize(
    ("verb", "before"), [(verb, verb.given) for verb in VERBS], ids=[verb.name for verb in VERBS], indirect=["before"]
)


@pytest.fixture
def before(store: SQLStore, request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """A row in each status, as it stands there in life, with what the verb needs for an occasion."""
    given = request.param if hasattr(request, "param") else {}
    enqueue_named(store, *EVERY_ROW)
    for status in Status:
        ended = {"completed_at": NOW - SECOND, "terminal_reason": "over"} if status in TERMINAL else {}
        held = {"lease_until": NOW + MINUTE, "lease_owner": "worker-1"} if status in SENDING | DISPATCHED else {}
        history = {"lease": LEASE, "attempt_count": 2, "last_attempt_at": NOW - MINUTE, "last_error": "HTTP 503"}
        put(store, status, status=status, next_attempt_at=NOW - SECOND, **{**history, **ended, **held, **given})
    return rows(store)


def rows(store: SQLStore) -> dict[str, dict[str, Any]]:
    return {name: stored(store, name).columns for name in EVERY_ROW}


@pytest.mark.proves("R3", "T5")
@EACH_VERB
def test_a_verb_moves_the_rows_that_the_table_names_and_leaves_every_other_row_as_it_was(
    store: SQLStore, verb: Verb, before: dict[str, dict[str, Any]]
) -> None:
    verb.run(store)

    after = rows(store)
    allowed = {status: target for status in Status if (target := verb.becomes(status)) is not None}
    assert {status: after[status]["status"] for status in allowed} == allowed
    assert [status for status in allowed if after[status] == before[status]] == [], "the verb took no notice of these"
    left_alone = [status for status in Status if status not in allowed]
    assert {status: after[status] for status in left_alone} == {status: before[status] for status in left_alone}


@EACH_VERB
def test_a_verb_never_changes_what_was_enqueued_nor_takes_a_lease_or_an_error_back(
    store: SQLStore, verb: Verb, before: dict[str, dict[str, Any]]
) -> None:
    verb.run(store)

    for name, row in rows(store).items():
        assert {column: row[column] for column in NEVER_CHANGED} == {column: before[name][column] for column in NEVER_CHANGED}
        assert row["lease"] >= before[name]["lease"]
        assert row["last_error"]


@pytest.mark.parametrize(
    "upkeep",
    [
        pytest.param(lambda store: store.mend(("", ""), 100), id="mend"),
        pytest.param(lambda store: store.unfuture(MINUTE, MINUTE, {}, 100), id="unfuture"),
        pytest.param(lambda store: store.stamp([CHANNEL], None, 100), id="stamp"),
        pytest.param(lambda store: store.forget_buckets(), id="forget buckets"),
    ],
)
def test_upkeep_finds_nothing_to_do_on_sound_rows_of_any_status(
    store: SQLStore, before: dict[str, dict[str, Any]], upkeep: Callable[[SQLStore], object]
) -> None:
    upkeep(store)

    assert rows(store) == before


def test_a_heartbeat_moves_the_lease_of_rows_being_sent_and_nothing_else(
    store: SQLStore, before: dict[str, dict[str, Any]]
) -> None:
    held = store.list_messages(MessageFilter(ids=EVERY_ROW), 100)

    assert store.extend(held, run_lease_ms=RUN_LEASE_MS, longest_ms=10 * MINUTE) == {Status.SENDING}

    before[Status.SENDING]["lease_until"] = NOW + RUN_LEASE_MS
    assert rows(store) == before


@pytest.mark.proves("R7")
@pytest.mark.parametrize("before", [{"completed_at": NOW - MINUTE}], indirect=True)
@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_pruning_deletes_the_rows_of_its_status_and_touches_no_other(
    store: SQLStore, before: dict[str, dict[str, Any]], status: Status
) -> None:
    assert prune(store, status, kept_ms=0) == 1

    left = {row.id: stored(store, row.id).columns for row in store.list_messages(MessageFilter(), 100)}
    assert left == {name: row for name, row in before.items() if name != status}


def test_every_arrow_of_the_table_is_followed_by_a_verb_here() -> None:
    followed = {(event, status) for verb in VERBS for event in verb.events for status in sources(event) & verb.among}

    assert followed == {(event, status) for event in Event for status in sources(event)}
