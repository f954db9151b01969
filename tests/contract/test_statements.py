"""How many statements each verb costs: exactly, and the same for one row as for a hundred.

A number that grows is a regression, and one that shrinks is worth writing down.
"""

from collections.abc import Callable

import pytest

from outbox.lifecycle import Status
from outbox.message import Message
from outbox.policy.destination import Limits
from outbox.policy.retry import Verdict
from outbox.store.records import GateKind, Lane, MessageFilter, Stamp, Taker
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.statements import recorded
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DEFERRED,
    DELIVERED,
    MINUTE,
    PARKED,
    RESCUED,
    RETRY,
    RUN_LEASE_MS,
    WITHHELD,
    cancel,
    claim,
    claim_all,
    enqueue,
    new_row,
    prune,
    replay,
    rescue,
    settlement,
    shut,
    take,
)

LANE = Lane(CHANNEL, 0, 0)
DOWN = {"down": None}
ONE_OR_MANY = pytest.mark.parametrize("many", [1, 30])


def cost(store: SQLStore, verb: Callable[..., object], *arguments: object, **options: object) -> int:
    """The statements that ``verb`` sends."""
    with recorded(store) as sent:
        verb(*arguments, **options)
    return len(sent)


def on(store: SQLStore, *, sqlite: int, postgresql: int) -> int:
    """A number that differs between the databases."""
    return postgresql if store.sql.dialect.locks_rows else sqlite


def queued(store: SQLStore, many: int, **fields: object) -> list[str]:
    return enqueue(store, *(new_row(**fields) for _ in range(many)))


def keyed(store: SQLStore, many: int, **fields: object) -> list[str]:
    """Rows that all have an ordering key of their own."""
    return enqueue(store, *(new_row(ordering_key=f"key-{number}", **fields) for number in range(many)))


def sending(store: SQLStore, enqueued: Callable[..., list[str]], many: int, **fields: object) -> list[Message]:
    enqueued(store, many, **fields)
    return take(store, claim(store, limit=many))


def test_a_relay_that_has_nothing_to_do_costs_one_statement(store: SQLStore) -> None:
    assert cost(store, store.pending, [CHANNEL, "email", "console"]) == 1


@ONE_OR_MANY
def test_a_claim_counts_what_is_in_flight_locks_and_dispatches(store: SQLStore, many: int) -> None:
    queued(store, many)
    assert cost(store, claim, store, limit=many) == 3


@ONE_OR_MANY
def test_a_claim_of_keyed_rows_looks_at_their_keys_and_what_follows(store: SQLStore, many: int) -> None:
    keyed(store, many)
    assert cost(store, claim, store, limit=2 * many) == 5


@ONE_OR_MANY
def test_a_claim_with_followers_locks_them_where_rows_are_locked(store: SQLStore, many: int) -> None:
    keyed(store, many)
    keyed(store, many)
    assert cost(store, claim, store, limit=2 * many) == on(store, sqlite=5, postgresql=6)


@ONE_OR_MANY
def test_a_claim_that_only_finds_rows_that_wait_marks_them(store: SQLStore, many: int) -> None:
    sending(store, keyed, many)
    keyed(store, many)
    assert cost(store, claim, store, limit=many) == on(store, sqlite=4, postgresql=5)
    assert cost(store, claim, store, limit=many) == 2


@ONE_OR_MANY
def test_a_claim_that_only_finds_closed_destinations_postpones_them(store: SQLStore, many: int) -> None:
    shut(store, DOWN)
    queued(store, many, target="down")
    assert cost(store, store.claim, LANE, many + 1, Limits(closed=frozenset(DOWN))) == 4


@ONE_OR_MANY
def test_a_claim_looks_for_as_many_again_as_it_postponed_a_few_times(store: SQLStore, many: int) -> None:
    shut(store, DOWN)
    queued(store, many, target="down")
    queued(store, many)
    assert cost(store, store.claim, LANE, many, Limits(closed=frozenset(DOWN))) == 6
    queued(store, 9 * many, target="down")
    assert cost(store, store.claim, LANE, many, Limits(closed=frozenset(DOWN))) == 10


def test_a_claim_without_allowance_costs_one_statement(store: SQLStore) -> None:
    queued(store, 1)
    assert cost(store, claim_all, store, max_in_flight=0) == 1


@ONE_OR_MANY
def test_a_take_costs_one_statement(store: SQLStore, many: int) -> None:
    queued(store, many)
    claims = claim(store, limit=many)
    assert cost(store, take, store, claims) == 1


@ONE_OR_MANY
def test_a_take_of_keyed_rows_locks_their_keys_where_rows_are_locked(store: SQLStore, many: int) -> None:
    keyed(store, many)
    claims = claim(store, limit=many)
    assert cost(store, take, store, claims) == on(store, sqlite=1, postgresql=3)


@ONE_OR_MANY
def test_a_take_that_is_refused_gives_the_rows_back_with_one_more(store: SQLStore, many: int) -> None:
    queued(store, many)
    claims = claim(store, limit=many)
    take(store, claims)
    assert cost(store, take, store, claims) == 2


@ONE_OR_MANY
def test_a_group_of_successes_costs_one_statement(store: SQLStore, many: int) -> None:
    messages = sending(store, queued, many)
    assert cost(store, store.settle, [settlement(message, DELIVERED) for message in messages]) == 1


@ONE_OR_MANY
def test_a_group_of_successes_of_keyed_rows_lets_the_next_move_up_with_one_more(store: SQLStore, many: int) -> None:
    messages = sending(store, keyed, many)
    assert cost(store, store.settle, [settlement(message, DELIVERED) for message in messages]) == 2


@ONE_OR_MANY
@pytest.mark.parametrize(("verdict", "statements"), [(RETRY, 2), (DEAD, 2), (PARKED, 2), (DEFERRED, 1), (WITHHELD, 1)])
def test_a_group_of_failures_is_written_and_logged(store: SQLStore, many: int, verdict: Verdict, statements: int) -> None:
    messages = sending(store, queued, many)
    assert cost(store, store.settle, [settlement(message, verdict) for message in messages]) == statements


def test_a_group_of_everything_with_keys_costs_four_statements(store: SQLStore) -> None:
    messages = sending(store, keyed, 100)
    verdicts = (DELIVERED, RETRY, DEAD, PARKED, DEFERRED)
    outcomes = [settlement(message, verdicts[number % 5]) for number, message in enumerate(messages)]
    assert cost(store, store.settle, outcomes) == 4


@ONE_OR_MANY
def test_settling_and_taking_the_next_costs_two_statements(store: SQLStore, many: int) -> None:
    outcomes = [settlement(message, DELIVERED) for message in sending(store, queued, many)]
    queued(store, many)
    claims = claim(store, limit=many)
    assert cost(store, store.settle_and_take, outcomes, claims, Taker(CHANNEL, "w", RUN_LEASE_MS)) == 2


@ONE_OR_MANY
def test_release_redispatch_and_heartbeat_cost_one_statement_each(store: SQLStore, clock: FakeClock, many: int) -> None:
    queued(store, many)
    claims = claim(store, limit=many)
    clock.advance(MINUTE + 1)
    assert cost(store, store.redispatch, CHANNEL, many) == 1
    assert cost(store, store.release, claims) == 1
    messages = take(store, claims)
    assert len(messages) == many
    assert cost(store, store.extend, messages, run_lease_ms=RUN_LEASE_MS, longest_ms=RUN_LEASE_MS) == 1


@ONE_OR_MANY
def test_expiry_costs_one_statement_and_one_more_where_rows_move_up(store: SQLStore, clock: FakeClock, many: int) -> None:
    queued(store, many, ttl_ms=1)
    clock.advance(2)
    assert cost(store, store.expire, many) == 1
    keyed(store, many, ttl_ms=1)
    clock.advance(2)
    assert cost(store, store.expire, many) == 2
    assert cost(store, store.expire, many) == 1


@ONE_OR_MANY
def test_a_rescue_reads_writes_and_logs(store: SQLStore, clock: FakeClock, many: int) -> None:
    assert cost(store, rescue, store) == 1
    sending(store, queued, many)
    clock.advance(RUN_LEASE_MS + 1)
    assert cost(store, rescue, store, RESCUED) == 3


@ONE_OR_MANY
def test_a_prune_deletes_rows_and_their_attempts(store: SQLStore, clock: FakeClock, many: int) -> None:
    assert cost(store, prune, store, Status.DELIVERED, 0, many) == 1
    store.settle([settlement(message, DELIVERED) for message in sending(store, queued, many)])
    clock.advance(1)
    assert cost(store, prune, store, Status.DELIVERED, 0, many) == 2


@ONE_OR_MANY
def test_mend_reads_the_marked_keys_and_clears(store: SQLStore, many: int) -> None:
    assert cost(store, store.mend, ("", ""), many) == 1
    sending(store, keyed, many)
    keyed(store, many)
    claim(store, limit=many)
    assert cost(store, store.mend, ("", ""), many) == 2


def test_unfuture_costs_a_statement_for_each_thing_that_may_lie_ahead(store: SQLStore) -> None:
    assert cost(store, store.unfuture, MINUTE, MINUTE, {}, 10) == 6
    for delay_ms, lanes in ((0, 0), (MINUTE, 3)):
        for lane in ({}, {}, {"priority": 1}, {"channel": "email"}):
            enqueue(store, new_row(delay_ms=delay_ms, **lane))
        assert cost(store, store.unfuture, MINUTE, MINUTE, {}, 10) == 6 + lanes


@ONE_OR_MANY
def test_a_stamp_reads_and_writes(store: SQLStore, many: int) -> None:
    def defaults(message: Message) -> Stamp:
        return Stamp(message.id, 5, None, None)

    assert cost(store, store.stamp, [CHANNEL], defaults, many) == 1
    queued(store, many, stamped=False)
    assert cost(store, store.stamp, [CHANNEL], defaults, many) == 2


@ONE_OR_MANY
def test_an_operators_action_locks_writes_and_notes(store: SQLStore, many: int) -> None:
    names = queued(store, many)
    assert cost(store, cancel, store, *names) == 3
    assert cost(store, replay, store, *names) == 3
    assert cost(store, store.cancel, MessageFilter(channel=CHANNEL), many, actor=None, reason=None) == 3


def test_a_refused_action_only_looks(store: SQLStore) -> None:
    assert cost(store, replay, store, *queued(store, 10)) == 1


@ONE_OR_MANY
def test_a_keyed_enqueue_costs_one_statement_a_row_and_one_more_where_the_key_stands(store: SQLStore, many: int) -> None:
    rows = [new_row(idempotency_key=f"{number}") for number in range(many)]
    assert cost(store, enqueue, store, *rows) == many
    assert cost(store, enqueue, store, *rows) == 2 * many


def test_reading_verbs_cost_one_statement_and_stats_two(store: SQLStore) -> None:
    (name,) = queued(store, 1)
    assert cost(store, store.find, name) == 1
    assert cost(store, store.list_messages, MessageFilter(), 10) == 1
    assert cost(store, store.attempts, name) == 1
    assert cost(store, store.operations, name) == 1
    assert cost(store, store.turn, "t") == 1
    assert cost(store, store.violations, 10) == 1
    assert cost(store, store.channels_in_use) == 1
    assert cost(store, store.gates) == 1
    assert cost(store, store.already_settled, []) <= 1
    assert cost(store, store.stats) == 2


@ONE_OR_MANY
def test_counting_outcomes_costs_one_statement_where_there_are_none_and_four_for_each_place(
    store: SQLStore, clock: FakeClock, many: int
) -> None:
    store.settle([settlement(message, DELIVERED) for message in sending(store, queued, many)])
    clock.advance(MINUTE)
    assert cost(store, store.tally, many) == 5
    assert cost(store, store.tally, many) == 1
    assert cost(store, store.tallies, 0, MINUTE) == 1
    assert cost(store, store.forget_tallies) == 1


@ONE_OR_MANY
def test_a_census_costs_a_statement_for_each_index_and_a_page_at_most_three(store: SQLStore, many: int) -> None:
    messages = sending(store, queued, 2 * many)
    store.settle([settlement(message, DELIVERED) for message in messages[:many]])
    assert cost(store, store.census, 100) == 7
    assert cost(store, store.page, MessageFilter(), None, 100) == 2
    assert cost(store, store.page, MessageFilter(status=Status.DELIVERED), None, 100) == 3
    assert cost(store, store.find_named, "anything", [CHANNEL], 100) == 1


def test_closing_a_gate_costs_a_statement_and_opening_it_at_most_two_and_what_operators_do_one_more(store: SQLStore) -> None:
    for target, opening in (("", 1), ("target", 2)):
        assert cost(store, store.close, CHANNEL, target, GateKind.GONE, for_ms=None, reason="") == 1
        assert cost(store, store.close, CHANNEL, target, GateKind.PAUSE, for_ms=None, reason="") == 2
        assert cost(store, store.reopen, CHANNEL, target) == opening + 1
    assert cost(store, store.close_growing, CHANNEL, GateKind.NOT_READY, at_least_ms=1, reason="") == 1


def test_on_postgresql_the_database_tells_the_time(postgres_outbox_url: str, open_on: Callable[..., SQLStore]) -> None:
    store = open_on(postgres_outbox_url)
    queued(store, 1)
    with recorded(store) as sent:
        store.settle([settlement(message, DELIVERED) for message in take(store, claim(store))])
    timed = [statement for statement in sent if "clock_timestamp()" in statement.sql]
    assert len(timed) == 4
    assert not any("now" in (statement.parameters or {}) for statement in sent)
