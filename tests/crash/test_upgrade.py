"""A process dies while it makes the tables, or changes them: all of it stands or nothing, and whoever comes next goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect, select, table, text

from outbox.lifecycle import Status
from outbox.message import ErrorClass
from outbox.policy.retry import Verdict
from outbox.store import migrating
from outbox.store.records import GateKind, MessageFilter
from outbox.store.sqlstore import SQLStore, open_store
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DELIVERED,
    MINUTE,
    PARKED,
    begin,
    cancel,
    claim,
    enqueue_named,
    ids,
    settle,
    take,
)
from tests.contract.test_schema import definitions
from tests.crash.arming import Act, Plans
from tests.crash.hand import Hand

LATER = Verdict(Status.FAILED_RETRYABLE, 10 * MINUTE, error="HTTP 503", error_class=ErrorClass.TRANSIENT)
BARE = "bare"
FROM = (BARE, *migrating.REVISIONS[:-1])
MOMENTS = [
    (start, moment, hit)
    for behind, start in enumerate(FROM)
    for moment, hit in [
        *(("revision", hit) for hit in range(1, len(migrating.REVISIONS) - behind + 1)), ("before_commit", 1), ("committed", 1),
    ]
]  # fmt: skip
"""What the database had, and where the process dies: with any of the revisions that it lacks made, or all of them."""


@pytest.fixture(scope="module")
def hand() -> Iterator[Hand]:
    hand = Hand()
    yield hand
    hand.close()


@pytest.fixture
def store(database_url: str) -> Iterator[SQLStore]:
    store = open_store(database_url)
    yield store
    store.engine.dispose()


@pytest.mark.parametrize(("start", "moment", "hit"), MOMENTS)
def test_a_process_killed_in_the_upgrade_leaves_all_of_it_or_nothing(
    hand: Hand, store: SQLStore, database_url: str, tmp_path: Path, start: str, moment: str, hit: int
) -> None:
    if start != BARE:
        migrating.upgrade(store, start)
        fill(store)
    schema, rows = definitions(store, "message_outbox"), contents(store)
    plans = tmp_path / "plans"
    plans.mkdir()
    Plans(plans).lay(f"upgrade.{moment}", {hit: Act.KILL})

    assert hand.does("upgrade", plans, url=database_url) == -9

    assert migrating.state(store).is_current is (moment == "committed")
    assert (definitions(store, "message_outbox") == schema) is (moment != "committed")
    assert kept(store, rows) == rows
    for _ in range(2):
        assert hand.does("upgrade", plans, url=database_url) == 0
        assert migrating.state(store).is_current
        assert kept(store, rows) == rows
    goes_on(store, is_bare=start == BARE)


def fill(store: SQLStore) -> None:
    """A row of each kind, in each table, and two of which one waits behind the other."""
    begin(store, "head", ordering_key="chat")
    enqueue_named(store, "behind", ordering_key="chat")
    for name, verdict in {"delivered": DELIVERED, "dead": DEAD, "parked": PARKED, "retried": LATER}.items():
        settle(store, begin(store, name), verdict)
    enqueue_named(store, "dispatched", "cancelled")
    claim(store)
    cancel(store, "cancelled")
    enqueue_named(store, "scheduled", delay_ms=10 * MINUTE)
    enqueue_named(store, "unstamped", stamped=False)
    store.close(CHANNEL, "down", GateKind.PAUSE, for_ms=None, reason="work on the line")


def contents(store: SQLStore) -> dict[str, list[str]]:
    """All rows of all tables of the outbox, as text."""
    with store.transaction(read_only=True) as tx:
        names = [name for name in inspect(tx.connection).get_table_names() if name.startswith("message_outbox")]
        return {
            name: sorted(str(row) for row in tx.connection.execute(select(text("*")).select_from(table(name))))
            for name in names if name != store.tables.version_table
        }  # fmt: skip


def kept(store: SQLStore, rows: dict[str, list[str]]) -> dict[str, list[str]]:
    """What the tables of ``rows`` hold now."""
    now = contents(store)
    return {name: now[name] for name in rows}


def goes_on(store: SQLStore, *, is_bare: bool) -> None:
    """What was under way comes to its end, and what is new goes."""
    if not is_bare:
        (head,) = store.list_messages(MessageFilter(status=Status.SENDING), 10)
        assert settle(store, head, DELIVERED).recorded == {"head"}
        assert ids(take(store, claim(store))) == ["behind"]
    settle(store, begin(store, "new"), DELIVERED)
    assert store.violations(10) == []
