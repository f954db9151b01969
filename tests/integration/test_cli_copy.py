"""`outbox db copy`: a whole outbox from one database into another, every row as it is."""

import os
import pty
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import create_engine, func, insert, select, text
from sqlalchemy.exc import OperationalError

from outbox import Outbox, PermanentFailure
from outbox.errors import OperationRefused
from outbox.store import copying
from outbox.store.records import MessageFilter
from tests.command import EXECUTABLE, Command

MESSAGES = 25


@pytest.fixture(params=["to PostgreSQL", "to SQLite"])
def urls(request: pytest.FixtureRequest, sqlite_url: str) -> tuple[str, str]:
    """A source on SQLite with something in every table, and an empty target; and the way back."""
    if request.param == "to PostgreSQL":
        return sqlite_url, str(request.getfixturevalue("postgres_url"))
    return str(request.getfixturevalue("postgres_url")), sqlite_url


@pytest.fixture
def source(urls: tuple[str, str]) -> Iterator[Outbox]:
    with closing(Outbox(urls[0], log_successes=True)) as outbox:
        outbox.upgrade_schema()
        fill(outbox)
        yield outbox


@pytest.fixture
def target(urls: tuple[str, str]) -> Iterator[Outbox]:
    with closing(Outbox(urls[1])) as outbox:
        yield outbox


def fill(outbox: Outbox) -> None:
    """Something in each table, in most statuses, with texts whose order is another in another collation."""

    @outbox.channel("chat", max_attempts=1)
    def send(message: Any, _attempt: Any) -> None:
        if message.payload == "bad":
            raise PermanentFailure("no such chät")

    with outbox.store.connection_for_schema() as connection:
        for number in range(MESSAGES):
            outbox.enqueue(connection, "chat", target="42", payload="bad" if number % 5 == 0 else {"a": number}, turn_id="t")
    outbox.drain()
    with outbox.store.connection_for_schema() as connection:
        for number in range(3):
            outbox.enqueue(connection, "chat", payload="ß", idempotency_key=f"k{number}", ordering_key="o", delay=3600)
    outbox.retry(where=MessageFilter(target="42"), actor="ada", reason="mended")
    for target in ("Z", "a", "Ä", "_", "é", "B"):
        outbox.pause("chat", target=target, reason="so", actor="ada")
    tables = outbox.store.tables
    with outbox.store.connection_for_schema() as connection:
        connection.execute(insert(tables.buckets), {"channel": "chat", "target": "a", "free_at": 1})
        imported = {"digest": "d", "outcome": "imported", "imported_at": 1}
        connection.execute(insert(tables.imports), [{"source_id": name, **imported} for name in ("b", "A", "ä")])
        tally = {"messages": 1, "latency_sum_ms": 1, "latency_max_ms": 1}
        connection.execute(insert(tables.tallies), {"minute": 1, "channel": "chat", "outcome": "delivered", **tally})
        mark = {"channel": "chat", "outcome": "delivered", "completed_at": 1, "seq": 1}
        connection.execute(insert(tables.tally_marks), mark)


def contents(outbox: Outbox) -> dict[str, set[tuple[Any, ...]]]:
    with outbox.store.transaction(read_only=True) as tx:
        tables = outbox.store.tables.metadata.tables
        return {name: {tuple(row) for row in tx.connection.execute(select(table))} for name, table in tables.items()}


def copied(source: Outbox, target: Outbox, **options: Any) -> Any:
    return copying.copy(source.store, target.store, **{"batch_size": 4, "on_progress": lambda *_: None, **options})


@pytest.mark.postgres
def test_every_row_of_every_table_arrives_as_it_is_and_new_ones_come_after_them(
    urls: tuple[str, str], source: Outbox, target: Outbox
) -> None:
    counts = Command().ok("db", "copy", *urls, "--batch", "4", "--json").data
    assert contents(target) == contents(source)
    assert counts == {name: len(rows) for name, rows in contents(source).items()}
    assert all(counts.values()), counts
    with target.store.connection_for_schema() as connection:
        queued = target.enqueue(connection, "chat")
        again = target.enqueue(connection, "chat", idempotency_key="k0")
    assert target.get(queued.id).seq > max(message.seq for message in source.list())
    assert not again.created
    target.pause("chat", target="new")  # the record of operations has a sequence of its own
    assert Command().ok("--database", urls[1], "db", "check").status == 0


@pytest.mark.postgres
def test_what_was_interrupted_goes_on_and_a_second_time_changes_nothing(source: Outbox, target: Outbox) -> None:
    def interrupt(table: str, there: int, _total: int) -> None:
        if there > MESSAGES // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copied(source, target, on_progress=interrupt)
    with target.store.transaction(read_only=True) as tx:
        there = tx.connection.scalar(select(func.count()).select_from(target.store.tables.messages)) or 0
    assert MESSAGES // 2 < there < MESSAGES
    for _ in range(2):
        copied(source, target)
        assert contents(target) == contents(source)


@pytest.mark.postgres
def test_a_source_with_messages_in_flight_is_refused_unless_one_is_told(
    urls: tuple[str, str], source: Outbox, target: Outbox
) -> None:
    message = source.list(limit=1)[0]
    with source.store.connection_for_schema() as connection:
        messages = source.store.tables.messages
        connection.execute(messages.update().where(messages.c.id == message.id).values(status="sending", lease_until=1))
    refused = Command()("db", "copy", *urls)
    assert refused.status == 1
    assert "1 messages are dispatched or being sent" in refused.complaint
    assert contents(target)[target.store.tables.messages.name] == set()
    Command().ok("db", "copy", *urls, "--even-if-live")
    assert contents(target) == contents(source)


@pytest.mark.postgres
def test_a_target_in_use_is_refused_and_left_as_it_is(source: Outbox, target: Outbox) -> None:
    target.upgrade_schema()
    with target.store.connection_for_schema() as connection:
        target.enqueue(connection, "chat", payload="of the target's own")
    before = contents(target)
    with pytest.raises(OperationRefused, match="other rows than the source"):
        copied(source, target)
    assert contents(target) == before


@pytest.mark.postgres
def test_rows_that_only_the_target_has_are_found_at_the_end(source: Outbox, target: Outbox) -> None:
    target.upgrade_schema()
    with target.store.connection_for_schema() as connection:
        gate = {"channel": "mail", "kind": "pause", "closed_since": 1}
        connection.execute(insert(target.store.tables.gates), gate)
    with pytest.raises(OperationRefused, match="_gate has 7 rows where the source has 6"):
        copied(source, target)


@pytest.mark.postgres
def test_nobody_writes_to_the_source_meanwhile(urls: tuple[str, str], source: Outbox, target: Outbox) -> None:

    patience = {"timeout": 0.05} if urls[0].startswith("sqlite") else {"options": "-c lock_timeout=50"}
    engine = create_engine(urls[0], connect_args=patience)

    def write(_table: str, _there: int, _total: int) -> None:
        with pytest.raises(OperationalError, match="lock"), engine.begin() as connection:
            connection.execute(text("update message_outbox set lease = lease + 1"))

    copied(source, target, batch_size=1000, on_progress=write)
    engine.dispose()
    assert contents(target) == contents(source)


def test_whoever_watches_sees_how_far_each_table_is(urls: tuple[str, str], source: Outbox) -> None:
    source.close()
    reading, writing = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [EXECUTABLE, "db", "copy", *urls, "--batch", "4"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=writing, env=environment) as process:
        os.close(writing)
        shown = b"".join(iter(lambda: _read(reading), b"")).decode()
    os.close(reading)
    assert process.returncode == 0, shown
    assert re.search(rf"message_outbox_attempt .*━.*{MESSAGES}/{MESSAGES}", shown), shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""


def test_a_misspelt_source_is_refused_before_anything_is_made(sqlite_url: str) -> None:
    refused = Command()("db", "copy", sqlite_url, f"{sqlite_url}.copy")
    assert refused.status == 1
    assert "there is no database" in refused.complaint


def test_a_database_is_not_copied_onto_itself(sqlite_url: str) -> None:
    Command(["--database", sqlite_url]).ok("db", "upgrade")
    assert "the same database" in Command()("db", "copy", sqlite_url, sqlite_url).complaint
