"""Two transactions that want the same rows, forced to the dangerous moment: one is held open, the other starts.

``with store.transaction()`` is the one that came first; what runs beside it came second. Tests of the `postgres_store`
are about what SQLite's single writer rules out.
"""

import pytest
from sqlalchemy import create_engine

from outbox.message import Claim, Message
from outbox.policy.destination import Breaker, Limits
from outbox.store import arriving, claiming, enqueueing
from outbox.store.records import Settled, Stamp
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.concurrency import await_lock_wait, in_background, passing, pausing_before, result, waiting
from tests.contract.conftest import OpenStore
from tests.contract.held_open import LANE, cancel_in, claim_in, expire_in, extend_in, settle_in, take_in
from tests.contract.steps import (
    CHANNEL,
    DELIVERED,
    MINUTE,
    SECOND,
    cancel,
    claim,
    enqueue,
    enqueue_named,
    ids,
    new_row,
    settle,
    statuses,
    stored,
    take,
)


def test_a_second_enqueue_of_a_key_waits_for_the_first_and_gets_its_message(store: SQLStore) -> None:
    with store.transaction() as tx:
        (first,) = store.add(tx.connection, [new_row(idempotency_key="k")])
        second = waiting(store, enqueue_one, store, "k")
    assert result(second) == (first.id, False)


def test_a_second_enqueue_of_a_key_stands_when_the_first_is_rolled_back(store: SQLStore) -> None:
    with store.engine.connect() as connection:
        (first,) = store.add(connection, [new_row(idempotency_key="k")])
        second = waiting(store, enqueue_one, store, "k")
        connection.rollback()
    message_id, created = result(second)
    assert created
    assert message_id != first.id


def enqueue_one(store: SQLStore, key: str) -> tuple[str, bool]:
    with store.transaction() as tx:
        (queued,) = store.add(tx.connection, [new_row(idempotency_key=key)])
    return queued.id, queued.created


def test_an_enqueue_of_a_key_whose_row_goes_between_its_two_looks_stands(postgres_store: SQLStore) -> None:
    """It conflicts, and when it asks with what, that is gone."""
    store = postgres_store
    enqueue(store, new_row(id="m", idempotency_key="k"))
    with pausing_before(store, "SELECT message_outbox.id FROM message_outbox") as (reached, go_on):
        second = in_background(enqueue_one, store, "k")
        assert reached.wait(20)
        with store.transaction() as tx:
            tx.connection.execute(store.tables.messages.delete())
        go_on.set()
        message_id, created = result(second)
    assert created
    assert message_id != "m"


def test_the_same_keys_in_opposite_orders_do_not_lock_up(postgres_store: SQLStore) -> None:
    store = postgres_store

    def enqueue_keys(*keys: str) -> None:
        enqueue(store, *(new_row(idempotency_key=key) for key in keys))

    with store.engine.connect() as holder:
        store.add(holder, [new_row(idempotency_key="m")])
        one = in_background(enqueue_keys, "a", "m", "z")
        await_lock_wait(store, 1)
        other = in_background(enqueue_keys, "z", "m", "a")
        await_lock_wait(store, 2)
        holder.rollback()
    result(one)
    result(other)


def test_an_idempotency_key_above_read_committed_is_the_callers_to_retry(
    postgres_store: SQLStore, postgres_outbox_url: str
) -> None:
    application = create_engine(postgres_outbox_url, isolation_level="REPEATABLE READ")
    with application.connect() as connection:
        enqueueing.add(connection, postgres_store.sql, [new_row(idempotency_key="other")], 0)
        enqueue(postgres_store, new_row(idempotency_key="k"))
        with pytest.raises(Exception, match="could not serialize"):
            enqueueing.add(connection, postgres_store.sql, [new_row(idempotency_key="k")], 0)
    application.dispose()


def test_two_claims_at_once_share_the_rows_and_neither_waits(store: SQLStore) -> None:
    enqueue_named(store, "a", "b", "c")
    with store.transaction() as tx:
        first = claim_in(tx, 2)
        second = passing(store, claim, store)
    assert (ids(first.claims), ids(result(second))) == (["a", "b"], ["c"])


def test_a_claim_passes_over_a_row_that_an_operator_is_cancelling(store: SQLStore) -> None:
    enqueue_named(store, "a", "b")
    with store.transaction() as tx:
        cancel_in(tx, "a")
        claims = passing(store, claim, store)
    assert ids(result(claims)) == ["b"]


def test_two_claims_at_once_send_one_probe(store: SQLStore, clock: FakeClock) -> None:
    """Both have seen that the destination is half open."""
    store.note_failures(CHANNEL, {"a": 1}, Breaker(failures=1, open_s=30), reason="HTTP 503")
    enqueue_named(store, "1", "2", target="a")
    clock.advance(MINUTE)
    probing = Limits(probed=frozenset({"a"}), permit_ms=MINUTE)
    with store.transaction() as tx:
        first = claiming.claim(tx, LANE, 1, probing)
        second = waiting(store, store.claim, LANE, 1, probing)
    assert (len(first.claims), len(result(second).claims)) == (1, 0)


def test_two_redispatches_at_once_publish_a_row_once(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m")
    claim(store)
    clock.advance(MINUTE + 1)
    with store.transaction() as tx:
        first = claiming.redispatch(tx, CHANNEL, 100)
        second = passing(store, store.redispatch, CHANNEL, 100)
    assert (ids(first), result(second)) == (["m"], [])


def test_two_takes_of_one_row_charge_it_once(store: SQLStore) -> None:
    enqueue_named(store, "m")
    copy = claim(store)
    with store.transaction() as tx:
        first = take_in(tx, copy)
        second = waiting(store, take, store, copy)
    assert (ids(first), result(second)) == (["m"], [])
    assert stored(store, "m").attempt_count == 1


def test_a_take_waits_for_a_redispatch_and_is_admitted(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m")
    copy = claim(store)
    clock.advance(MINUTE + 1)
    with store.transaction() as tx:
        claiming.redispatch(tx, CHANNEL, 100)
        taken = waiting(store, take, store, copy)
    assert ids(result(taken)) == ["m"]


@pytest.fixture
def row_by_row(postgres_outbox_url: str, open_on: OpenStore, clock: FakeClock) -> SQLStore:
    """A store whose statements look their rows up one after the other, as they do in a table that is not tiny.

    The rows that are there already could be taken and settled as well, so that a planner sees no shorter way than by those
    that are named.
    """
    plans = " ".join(f"-c enable_{way}=off" for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"))
    store = open_on(None, engine=create_engine(postgres_outbox_url, connect_args={"options": plans}), clock=clock)
    enqueue(store, *(new_row() for _ in range(900)))
    claim(store, limit=900)
    with store.transaction() as tx:
        tx.connection.exec_driver_sql("analyze message_outbox")
    return store


def test_takes_of_the_same_rows_in_opposite_orders_do_not_lock_up(row_by_row: SQLStore) -> None:
    store = row_by_row
    enqueue_named(store, "a", "m", "z")
    a, m, z = claim(store)
    with store.transaction() as holder:
        extend_in(holder, *take_in(holder, [m]))
        one = in_background(in_one_transaction, store, [a, m, z])
        await_lock_wait(store, 1)
        other = in_background(in_one_transaction, store, [z, m, a])
        await_lock_wait(store, 2)
    assert sorted([*ids(result(one)), *ids(result(other))]) == ["a", "z"]


def in_one_transaction(store: SQLStore, claims: list[Claim]) -> list[Message]:
    """A take that nobody runs again after a deadlock."""
    with store.transaction() as tx:
        return take_in(tx, claims)


def test_settles_of_the_same_rows_in_opposite_orders_do_not_lock_up(row_by_row: SQLStore) -> None:
    store = row_by_row
    enqueue_named(store, "a", "m", "z")
    messages = take(store, claim(store))

    def settle_all(order: list[Message]) -> Settled:
        with store.transaction() as tx:
            return settle_in(tx, *order, verdict=DELIVERED)

    with store.transaction() as holder:
        settle_in(holder, messages[1], verdict=DELIVERED)
        one = in_background(settle_all, messages)
        await_lock_wait(store, 1)
        other = in_background(settle_all, messages[::-1])
        await_lock_wait(store, 2)
    assert sorted([*result(one).recorded, *result(other).recorded]) == ["a", "z"]


@pytest.mark.proves("T40")
@pytest.mark.parametrize("told_key", ["chat", None])
def test_t40_two_takes_of_two_rows_of_one_key_at_once_admit_one(
    store: SQLStore, clock: FakeClock, told_key: str | None
) -> None:
    """The second cannot see that the first is sending: only the lock on the key tells it."""
    enqueue_named(store, "reminder", delay_ms=SECOND, ordering_key="chat")
    enqueue_named(store, "later", ordering_key="chat")
    claims = claim(store)
    with store.transaction() as tx:
        first = take_in(tx, claims)
        clock.advance(SECOND)
        second = passing(store, take, store, [Claim("reminder", 0, told_key)])
    assert (ids(first), result(second)) == (["later"], [])
    assert statuses(store) == {"reminder": "queued", "later": "sending"}


def test_a_row_that_was_not_taken_for_another_take_of_its_key_is_claimed_in_its_turn(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "reminder", delay_ms=SECOND, ordering_key="chat")
    enqueue_named(store, "later", ordering_key="chat")
    claims = claim(store)
    with store.transaction() as tx:
        (later,) = take_in(tx, claims)
        clock.advance(SECOND)
        early = passing(store, take, store, [Claim("reminder", 0, "chat")])
    assert result(early) == []
    settle(store, later, DELIVERED)
    assert ids(take(store, claim(store))) == ["reminder"]


def test_a_take_does_not_wait_for_a_take_of_another_key(postgres_store: SQLStore) -> None:
    store = postgres_store
    enqueue_named(store, "a", ordering_key="a")
    enqueue_named(store, "b", ordering_key="b")
    a, b = claim(store)
    with store.transaction() as tx:
        take_in(tx, [a])
        assert ids(result(in_background(take, store, [b]))) == ["b"]


def test_a_take_waits_for_a_cancel_and_is_refused(store: SQLStore) -> None:
    enqueue_named(store, "m")
    copy = claim(store)
    with store.transaction() as tx:
        cancel_in(tx, "m")
        taken = waiting(store, take, store, copy)
    assert result(taken) == []
    assert statuses(store) == {"m": "cancelled"}


def test_a_cancel_waits_for_a_take_and_is_refused(store: SQLStore) -> None:
    enqueue_named(store, "m")
    copy = claim(store)
    with store.transaction() as tx:
        take_in(tx, copy)
        cancelled = waiting(store, cancel, store, "m")
    assert "being sent" in result(cancelled).refused[0].reason
    assert statuses(store) == {"m": "sending"}


def test_a_take_waits_for_an_expiry_and_is_refused(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m", ttl_ms=SECOND)
    copy = claim(store)
    in_time = clock.now
    clock.advance(SECOND + 1)
    with store.transaction() as tx:
        assert expire_in(tx) == 1
        clock.now = in_time
        taken = waiting(store, take, store, copy)
    assert result(taken) == []


def test_an_expiry_passes_over_a_row_that_is_being_taken(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m", ttl_ms=SECOND)
    copy = claim(store)
    with store.transaction() as tx:
        take_in(tx, copy)
        clock.advance(SECOND + 1)
        expiry = passing(store, store.expire, 100)
    assert (result(expiry), store.expire(100)) == (0, 0)


def test_a_second_stamp_waits_so_that_no_row_gets_its_key_after_a_later_one(postgres_store: SQLStore) -> None:
    store = postgres_store
    enqueue_named(store, "1", "2", stamped=False, max_attempts=None)

    def defaults(message: Message) -> Stamp:
        return Stamp(message.id, 5, None, "chat")

    with store.transaction() as tx:
        assert arriving.stamp(tx, [CHANNEL], defaults, 1) == 1
        second = in_background(store.stamp, [CHANNEL], defaults, 100)
        await_lock_wait(store)
        assert claim(store) == []
    assert result(second) == 1
    assert ids(claim(store)) == ["1", "2"]
