"""Which indexes the store's statements use with 100,000 terminal rows beside some thousands that are alive.

The statements are recorded as the store sends them and explained with their own parameters. Each arm has its partial index;
a statement that reads the table from end to end is as slow as the table is long.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from outbox.lifecycle import Status
from outbox.message import Claim, Message
from outbox.policy.destination import Limits
from outbox.store import (
    arriving,
    blocking,
    claiming,
    counting,
    enqueueing,
    gating,
    inspecting,
    listing,
    operating,
    rewinding,
    settling,
    sweeping,
    taking,
    tallying,
)
from outbox.store.records import Lane, MessageFilter, Place, Stamp, Taker
from outbox.store.sql import Transaction
from outbox.store.sqlstore import SQLStore, open_store
from outbox.testing import FakeClock
from tests.contract.conftest import OpenStore
from tests.contract.filling import ALIVE, TABLE, fill
from tests.contract.statements import Statement, recorded
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DELIVERED,
    MINUTE,
    NOW,
    RESCUED,
    RUN_LEASE_MS,
    claim_all,
    enqueue,
    new_row,
    settlement,
)
from tests.servers import postgresql

pytestmark = pytest.mark.xdist_group("full tables")  # which take long to fill: not in every process

TERMINAL_ROWS = 100_000
YOUNG_ROWS = 10_000
"""Terminal rows of a table that PostgreSQL has not analysed yet."""


def _on_postgresql(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.postgres)


@pytest.fixture(
    scope="module",
    params=["sqlite", "sqlite analysed", _on_postgresql("postgresql young"), _on_postgresql("postgresql analysed")],
)
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLStore]:
    """A full outbox; what a test changes is rolled back. Nobody analyses a SQLite file unless told to, nor a young table."""
    if request.param.startswith("postgresql"):
        server: postgresql.PostgresServer = request.getfixturevalue("postgres_server")
        template = str(request.getfixturevalue("postgres_outbox")).rsplit("/", 1)[1]
        with server.database(template) as url:
            analysed = request.param == "postgresql analysed"
            yield from _filled(url, TERMINAL_ROWS if analysed else YOUNG_ROWS, analyse=analysed)
        return
    path: Path = tmp_path_factory.mktemp("full") / "outbox.db"
    shutil.copy(request.getfixturevalue("sqlite_template"), path)
    yield from _filled(f"sqlite:///{path}", TERMINAL_ROWS, analyse=request.param == "sqlite analysed")


def _filled(url: str, terminal: int, *, analyse: bool) -> Iterator[SQLStore]:
    store = open_store(url, clock=FakeClock())
    fill(store, terminal)
    if analyse:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("analyze"))
    yield store
    store.engine.dispose()


LIVING = ("due", "unstamped", "dispatched", "sending", "busy", "parked", "key", "blocked", "expires")
"""Indexes of living rows only, which may be read from end to end."""

ALIASES = (TABLE, "start", "following", "here", "head", "busy", "beyond", "behind", "due", "other", "counted", "underway")


@dataclass(frozen=True)
class Plan:
    """The indexes of the messages table that a statement uses, and what it reads from end to end."""

    indexes: frozenset[str]
    scans: frozenset[str]


def explain(connection: Connection, statement: Statement) -> Plan:
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"explain query plan {statement.sql}", statement.parameters)
        return _read_sqlite([row.detail for row in rows])
    (plan,) = connection.exec_driver_sql(f"explain (format json) {statement.sql}", statement.parameters).scalar_one()
    return _read_postgresql(plan["Plan"])


def _read_sqlite(details: list[str]) -> Plan:
    indexes, scans = set(), set()
    for detail in details:
        how = re.match(rf"(SCAN|SEARCH) (?:{'|'.join(ALIASES)})\b(?: USING (?:COVERING )?INDEX {TABLE}_(\w+))?", detail)
        if how is None:
            continue
        if how[2]:
            indexes.add(how[2])
        if how[1] == "SCAN" and how[2] not in LIVING:
            scans.add(detail)
    return Plan(frozenset(indexes), frozenset(scans))


def _read_postgresql(plan: dict[str, Any]) -> Plan:
    indexes, scans = set(), set()
    nodes = [plan]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        index = str(node.get("Index Name", "")).removeprefix(f"{TABLE}_")
        if index:
            indexes.add(index)
        if node.get("Relation Name") == TABLE and node["Node Type"] == "Seq Scan":
            scans.add(f"Seq Scan: {node.get('Filter')}")
        if index and index not in LIVING and "Index Cond" not in node:
            scans.add(f"whole index {index}")
    return Plan(frozenset(indexes), frozenset(scans))


Prepare = Callable[[Transaction], Callable[[], object]]
CASES: list[tuple[Prepare, frozenset[str]]] = []


def uses(*indexes: str) -> Callable[[Prepare], Prepare]:
    """What follows prepares a verb and returns it; its statements use these indexes and read no long one from end to end."""

    def register(prepare: Prepare) -> Prepare:
        CASES.append((prepare, frozenset(indexes)))
        return prepare

    return register


LANE = Lane(CHANNEL, 0, 0)


def dispatched(tx: Transaction, *, keyed: bool) -> list[Claim]:
    m = tx.sql.tables.messages
    if keyed:
        claims = claiming.claim(tx, LANE, 200, Limits(max_in_flight=10**6)).claims
        return [each for each in claims if each.ordering_key is not None]
    rows = tx.connection.execute(select(m.c.id, m.c.lease).where(m.c.status == "dispatched").limit(50)).all()
    return [Claim(row.id, row.lease) for row in rows]


def being_sent(tx: Transaction, *, keyed: bool = False) -> list[Message]:
    return taking.take(tx, dispatched(tx, keyed=keyed), Taker(CHANNEL, "w", RUN_LEASE_MS))


@uses("due", "unstamped", "dispatched")
def pending(tx: Transaction) -> Callable[[], object]:
    return lambda: arriving.pending(tx, [CHANNEL])


@uses("dispatched", "sending")
def held_by_priority(tx: Transaction) -> Callable[[], object]:
    return lambda: arriving.held_by_priority(tx, CHANNEL)


@uses("dispatched")
def recall(tx: Transaction) -> Callable[[], object]:
    return lambda: claiming.recall(tx, "node:1:a", 1_000, 100)


@uses("due", "dispatched", "sending", "key", "busy")
def claim(tx: Transaction) -> Callable[[], object]:
    return lambda: claiming.claim(tx, LANE, 500, Limits(max_in_flight=10**6))


@uses("due", "dispatched", "sending")
def claim_within_what_each_target_can_take(tx: Transaction) -> Callable[[], object]:
    return lambda: claiming.claim(tx, LANE, 100, Limits(max_in_flight=10**6, target_in_flight=100))


@uses("dispatched")
def redispatch(tx: Transaction) -> Callable[[], object]:
    return lambda: claiming.redispatch(tx, CHANNEL, 100)


@uses("id")
def release(tx: Transaction) -> Callable[[], object]:
    claims = dispatched(tx, keyed=False)
    return lambda: taking.release(tx, claims)


@uses("id")
def take(tx: Transaction) -> Callable[[], object]:
    claims = dispatched(tx, keyed=False)
    return lambda: taking.take(tx, claims, Taker(CHANNEL, "w", RUN_LEASE_MS))


@uses("id", "key", "busy")
def take_of_keyed_rows(tx: Transaction) -> Callable[[], object]:
    claims = dispatched(tx, keyed=True)
    return lambda: taking.take(tx, claims, Taker(CHANNEL, "w", RUN_LEASE_MS))


@uses("id")
def heartbeat(tx: Transaction) -> Callable[[], object]:
    messages = being_sent(tx)
    return lambda: taking.extend(tx, messages, run_lease_ms=RUN_LEASE_MS, longest_ms=RUN_LEASE_MS)


@uses("id")
def settle(tx: Transaction) -> Callable[[], object]:
    outcomes = [settlement(message, (DELIVERED, DEAD)[number % 2]) for number, message in enumerate(being_sent(tx))]
    return lambda: settling.settle(tx, outcomes)


@uses("id", "blocked", "key")
def settle_of_keyed_rows(tx: Transaction) -> Callable[[], object]:
    outcomes = [settlement(message, DELIVERED) for message in being_sent(tx, keyed=True)]
    return lambda: settling.settle(tx, outcomes)


@uses("id")
def already_settled(tx: Transaction) -> Callable[[], object]:
    outcomes = [settlement(message, DELIVERED) for message in being_sent(tx)]
    return lambda: settling.already_settled(tx, outcomes)


@uses("expires", "blocked", "key")
def expire(tx: Transaction) -> Callable[[], object]:
    return lambda: sweeping.expire(tx, 100)


@uses("sending")
def rescue_by_time(tx: Transaction) -> Callable[[], object]:
    return lambda: sweeping.rescue(tx, lambda _message: RESCUED, 100)


@uses("sending")
def rescue_by_owner(tx: Transaction) -> Callable[[], object]:
    return lambda: sweeping.rescue(tx, lambda _message: RESCUED, 100, owner="worker-1")


@uses("completed")
def prune(tx: Transaction) -> Callable[[], object]:
    return lambda: sweeping.prune(tx, CHANNEL, Status.FAILED_TERMINAL, 60 * MINUTE, 100)


@uses("completed")
def prunable(tx: Transaction) -> Callable[[], object]:
    return lambda: sweeping.prunable(tx, CHANNEL, Status.FAILED_TERMINAL, 60 * MINUTE)


@uses("completed")
def completed(tx: Transaction) -> Callable[[], object]:
    return lambda: sweeping.completed(tx)


@uses("completed")
def blank(tx: Transaction) -> Callable[[], object]:
    return lambda: sweeping.blank(tx, CHANNEL, Status.DELIVERED, 60 * MINUTE, 0, 100)


@uses("blocked", "key")
def mend(tx: Transaction) -> Callable[[], object]:
    return lambda: blocking.mend(tx, ("", ""), 100)


@uses("due", "dispatched", "sending")
def unfuture(tx: Transaction) -> Callable[[], object]:
    return lambda: rewinding.unfuture(tx, MINUTE, MINUTE, {}, 100)


@uses("unstamped")
def stamp(tx: Transaction) -> Callable[[], object]:
    return lambda: arriving.stamp(tx, [CHANNEL], lambda message: Stamp(message.id, 5, None, None), 100)


@uses("id")
def find(tx: Transaction) -> Callable[[], object]:
    return lambda: inspecting.find(tx, "anything")


@uses("turn")
def turn(tx: Transaction) -> Callable[[], object]:
    return lambda: inspecting.turn(tx, "anything")


@uses("completed")
def tally(tx: Transaction) -> Callable[[], object]:
    return lambda: tallying.tally(tx, 100)


@uses("due", "blocked", "unstamped", "dispatched", "sending", "parked", "completed")
def census(tx: Transaction) -> Callable[[], object]:
    return lambda: counting.census(tx, 100)


@uses("completed")
def page_of_what_has_ended(tx: Transaction) -> Callable[[], object]:
    return lambda: listing.page(tx, MessageFilter(status=Status.DELIVERED), Place(1, NOW), 50)


@uses("parked")
def page_of_parked_messages(tx: Transaction) -> Callable[[], object]:
    return lambda: listing.page(tx, MessageFilter(status=Status.PARKED), None, 50)


@uses("due", "blocked", "unstamped")
def page_of_what_waits(tx: Transaction) -> Callable[[], object]:
    return lambda: listing.page(tx, MessageFilter(status=Status.QUEUED), None, 50)


@uses("turn")
def page_of_a_turn(tx: Transaction) -> Callable[[], object]:
    return lambda: listing.page(tx, MessageFilter(turn_id="anything"), None, 50)


@uses("id", "turn", "idempotency", "key")
def find_named(tx: Transaction) -> Callable[[], object]:
    return lambda: listing.find_named(tx, "anything", [CHANNEL, "email"], 50)


@uses("id")
def replay_by_id(tx: Transaction) -> Callable[[], object]:
    wanted = MessageFilter(ids=[f"failed_terminal-{number}-01" for number in range(1, 50)])
    return lambda: operating.replay(tx, wanted, 100, actor=None, reason=None)


@uses("id", "blocked", "key")
def cancel_by_id(tx: Transaction) -> Callable[[], object]:
    wanted = MessageFilter(ids=[each.id for each in dispatched(tx, keyed=True)])
    return lambda: operating.cancel(tx, wanted, 100, actor=None, reason=None)


@uses("due")
def reopen(tx: Transaction) -> Callable[[], object]:
    tx.connection.execute(tx.sql.tables.gates.insert().values(channel=CHANNEL, target="t", kind="pause", closed_since=0))
    return lambda: gating.reopen(tx, CHANNEL, "t")


@uses("idempotency")
def enqueue_of_a_key_that_stands(tx: Transaction) -> Callable[[], object]:
    enqueueing.add(tx.connection, tx.sql, [new_row(idempotency_key="k")], NOW)
    return lambda: enqueueing.add(tx.connection, tx.sql, [new_row(idempotency_key="k")], NOW)


@pytest.mark.parametrize(("prepare", "indexes"), [pytest.param(*case, id=case[0].__name__) for case in CASES])
def test_a_long_history_slows_nothing_down(full: SQLStore, prepare: Prepare, indexes: frozenset[str]) -> None:
    with full.engine.connect() as connection:
        verb = prepare(Transaction(connection, full.sql, NOW))
        with recorded(full) as sent:
            verb()
        connection.rollback()
        plans = [(explain(connection, each), each.sql) for each in sent if TABLE in each.sql]
        connection.rollback()
    for plan, sql in plans:
        assert not plan.scans, sql
    assert frozenset().union(*(plan.indexes for plan, _ in plans)) >= indexes


LEAPS: dict[str, Callable[[Transaction], object]] = {
    "completed": sweeping.completed,
    # When nothing is due, it counts nothing in flight.
    "pending": lambda tx: arriving.pending(replace(tx, now_ms=0), [CHANNEL]),
    "mend": lambda tx: blocking.mend(tx, ("", ""), 1),
    "tally": lambda tx: tallying.tally(tx, 0),
    "unfuture": lambda tx: rewinding.unfuture_waiting(tx, MINUTE, {}, 1),
}


@pytest.mark.parametrize("leap", LEAPS.values(), ids=LEAPS)
@pytest.mark.parametrize("full", ["sqlite", "sqlite analysed"], indirect=True)
def test_a_leap_reads_an_entry_and_not_what_lies_between(full: SQLStore, leap: Callable[[Transaction], object]) -> None:
    """SQLite says in its plan that it searches, and then reads every row of the prefix; only its steps tell."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 100

    with full.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.set_progress_handler(count, 100)
        try:
            leap(Transaction(connection, full.sql, NOW))
        finally:
            driver.set_progress_handler(None, 0)
        connection.rollback()
    assert steps < ALIVE


def test_rows_are_locked_by_their_number_where_nobody_has_analysed_a_backlog(
    postgres_outbox_url: str, open_on: OpenStore
) -> None:
    """PostgreSQL then believes that hardly any row is due, and would look for each one in all the numbers."""
    store = open_on(postgres_outbox_url)
    enqueue(store, *(new_row(ordering_key="talk") for _ in range(3_000)))

    with recorded(store) as sent:
        claim_all(store, limit=100, per_key=50)

    locking = [each for each in sent if "FOR UPDATE OF" in each.sql]
    assert locking
    with store.engine.connect() as connection:
        for each in locking:
            assert not explain(connection, each).scans, each.sql
