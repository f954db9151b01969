"""Several processes at once on one database, each doing what it likes: nothing is lost and nothing is done twice."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text

from outbox.errors import DatabaseBusy
from outbox.lifecycle import Status
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.concurrency import PATIENCE_S, await_lock_wait, in_background, result
from tests.contract.conftest import OpenStore
from tests.contract.steps import (
    CHANNEL,
    DELIVERED,
    RUN_LEASE_MS,
    SECOND,
    claim,
    claim_all,
    enqueue,
    enqueue_named,
    ids,
    new_row,
    rescue,
    settle,
    settlement,
    statuses,
    take,
)


def test_invariant_11_relays_at_once_claim_each_row_once(store: SQLStore, other_store: SQLStore) -> None:
    enqueue(store, *(new_row() for _ in range(200)))

    def relay(own: SQLStore) -> list[str]:
        claimed: list[str] = []
        while own.pending([CHANNEL]).lanes:
            claimed += ids(claim(own, limit=7))
        return claimed

    with ThreadPoolExecutor(4) as pool:
        rounds = list(pool.map(relay, [store, other_store] * 2))
    assert Counter(name for claimed in rounds for name in claimed) == Counter(statuses(store).keys())


def test_invariant_11_workers_at_once_take_each_copy_once(store: SQLStore, other_store: SQLStore) -> None:
    enqueue(store, *(new_row() for _ in range(100)))
    claims = claim(store)
    orders = [claims, claims[::-1], claims[50:] + claims[:50], claims]

    def work(own: SQLStore, order: list[object]) -> list[str]:
        return [name for start in range(0, 100, 10) for name in ids(take(own, order[start : start + 10]))]  # type: ignore[arg-type]

    with ThreadPoolExecutor(4) as pool:
        rounds = list(pool.map(work, [store, other_store] * 2, orders))
    assert Counter(name for taken in rounds for name in taken) == Counter(ids(claims))


@pytest.mark.proves("T40")
def test_t40_relays_and_workers_at_once_keep_the_order_of_every_key(store: SQLStore, other_store: SQLStore) -> None:
    """Each thread claims, takes and settles; what a thread sends is noted between its take and its settle."""
    rows = [new_row(id=f"{key}-{number:02}", ordering_key=key) for number in range(10) for key in "abcd"]
    enqueue(store, *rows)
    sent: list[str] = []
    give_up = time.monotonic() + PATIENCE_S

    def serve(own: SQLStore) -> None:
        while set(statuses(own).values()) != {"delivered"}:
            assert time.monotonic() < give_up, statuses(own)
            for each in claim_all(own, limit=8, per_key=3).claims:
                for message in take(own, [each]):
                    sent.append(message.id)
                    assert settle(own, message, DELIVERED).recorded

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(serve, [store, other_store, store]))
    assert {key: [name for name in sent if name[0] == key] for key in "abcd"} == {
        key: [f"{key}-{number:02}" for number in range(10)] for key in "abcd"
    }
    assert store.violations(10) == []


def test_maintenance_at_once_ends_and_rescues_each_row_once(store: SQLStore, other_store: SQLStore, clock: FakeClock) -> None:
    enqueue(store, *(new_row() for _ in range(40)))
    take(store, claim(store))
    enqueue(store, *(new_row(ttl_ms=SECOND) for _ in range(40)))
    clock.advance(RUN_LEASE_MS + 1)

    def maintain(own: SQLStore) -> tuple[int, int]:
        return sum(own.expire(5) for _ in range(10)), sum(rescue(own) for _ in range(3))

    with ThreadPoolExecutor(2) as pool:
        ended, rescued = zip(*pool.map(maintain, [store, other_store]), strict=True)
    assert (sum(ended), sum(rescued)) == (40, 40)
    assert Counter(statuses(store).values()) == {Status.EXPIRED: 40, Status.FAILED_RETRYABLE: 40}


@pytest.mark.proves("T39")
def test_a_verb_gets_its_row_once_another_writer_is_done(store: SQLStore, other_store: SQLStore) -> None:
    enqueue_named(store, "m")
    with store.transaction() as tx:
        tx.connection.execute(store.tables.messages.update().values(priority=0))
        waiting = in_background(claim_until_something, other_store)
    assert ids(result(waiting)) == ["m"]


def claim_until_something(store: SQLStore) -> list[object]:
    give_up = time.monotonic() + PATIENCE_S
    while not (claims := claim(store)):
        assert time.monotonic() < give_up
    return claims  # type: ignore[return-value]


def test_sqlite_readers_do_not_wait_for_a_writer(sqlite_outbox_url: str, open_on: OpenStore) -> None:
    store = open_on(sqlite_outbox_url)
    enqueue_named(store, "m")
    with store.transaction():
        assert result(in_background(store.find, "m")) is not None
        assert result(in_background(store.pending, [CHANNEL])).lanes


def test_a_write_lock_that_is_never_given_free_is_a_typed_error(sqlite_outbox_url: str, open_on: OpenStore) -> None:
    store = open_on(sqlite_outbox_url)
    impatient = open_on(sqlite_outbox_url)
    with impatient.engine.connect() as connection:
        connection.exec_driver_sql("pragma busy_timeout = 1")
        connection.rollback()
    with store.transaction(), pytest.raises(DatabaseBusy):
        claim(impatient)


def test_a_deadlock_is_run_again_and_not_told(postgres_outbox_url: str, open_on: OpenStore, clock: FakeClock) -> None:
    """The take waits for a stranger, who then wants what it holds; PostgreSQL ends the take, which looks for a deadlock first.

    It looks once, when it has waited for so long: by then the stranger must have asked.
    """
    engine = create_engine(postgres_outbox_url, connect_args={"options": "-c deadlock_timeout=2s"})
    store = open_on(None, engine=engine, clock=clock)
    enqueue_named(store, "a", "b")
    claims = claim(store)
    lock = text("select 1 from message_outbox where id = :id for update")
    stranger = create_engine(postgres_outbox_url, connect_args={"options": "-c deadlock_timeout=60s"})
    with stranger.begin() as connection:
        connection.execute(lock, {"id": "b"})
        taken = in_background(take, store, claims)
        await_lock_wait(store)
        connection.execute(lock, {"id": "a"})
    assert ids(result(taken)) == ["a", "b"]
    stranger.dispose()


def test_a_connection_that_the_server_closed_is_replaced(postgres_store: SQLStore, postgres_outbox_url: str) -> None:
    store = postgres_store
    enqueue_named(store, "m")
    stranger = create_engine(postgres_outbox_url, isolation_level="AUTOCOMMIT")
    with stranger.connect() as connection:
        connection.execute(
            text(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
        )
    stranger.dispose()
    assert ids(claim(store)) == ["m"]


def test_a_settle_whose_commit_was_ambiguous_is_lost_and_yet_recognised(store: SQLStore) -> None:
    enqueue_named(store, "m")
    (message,) = take(store, claim(store))
    outcome = settlement(message, DELIVERED)
    store.settle([outcome])
    assert store.settle([outcome]).lost == {"m"}
    assert store.already_settled([outcome]) == {"m"}


def test_a_store_serves_many_threads(store: SQLStore) -> None:
    barrier = threading.Barrier(8)

    def enqueue_one() -> None:
        barrier.wait()
        enqueue(store, new_row())

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(enqueue_one) for _ in range(8)]:
            done.result()
    assert len(claim(store)) == 8
