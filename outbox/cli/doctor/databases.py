"""The database and the connections to it: schema, durability, transactions, clock."""

import time
from collections.abc import Iterator

from sqlalchemy import Engine

from outbox.cli.doctor.findings import Check, Finding
from outbox.outbox import Outbox
from outbox.store import examining, migrating
from outbox.store.examining import Begin

LARGEST_CLOCK_DIFFERENCE_MS = 2_000
SHORTEST_BUSY_TIMEOUT_MS = 1_000
OLDEST_POSTGRESQL = 130_000
_FULL = 2


def checks(outbox: Outbox, engine: Engine | None) -> list[Check]:
    """The checks of the database; ``engine`` is the application's, if one was named beside its Outbox."""
    own = engine if engine is not None else outbox.application_engine
    made = [
        Check("schema", lambda: _schema(outbox), is_vital=True),
        Check("database", lambda: _connections(outbox.store.engine, "the database")),
        Check("clock", lambda: _clock(outbox)),
    ]
    if own is not None:
        made.append(Check("application's engine", lambda: _applications_engine(own)))
    return made


def _schema(outbox: Outbox) -> Iterator[Finding]:
    migrating.state(outbox.store).require_current(outbox.store.tables.messages.name)
    yield from ()


def _connections(engine: Engine, whose: str) -> Iterator[Finding]:
    if engine.dialect.name == "sqlite":
        yield from _sqlite(examining.sqlite_settings(engine), whose)
    else:
        yield from _postgresql(examining.postgresql_settings(engine), whose)


def _applications_engine(engine: Engine) -> Iterator[Finding]:
    yield from _connections(engine, "the application's engine")
    if engine.dialect.name == "sqlite" and examining.begin_of(engine) is Begin.DEFERRED:
        yield Finding(
            "the application's engine begins deferred transactions: one that reads and then writes fails with"
            " 'database is locked' at once when somebody else wrote meanwhile, whatever the busy timeout",
            "emit BEGIN IMMEDIATE in a begin event of the engine, with isolation_level=None set on connect",
        )


def _sqlite(found: examining.SQLiteSettings, whose: str) -> Iterator[Finding]:
    if found.read_only:
        yield Finding(
            f"{whose} is read-only: its file or file system cannot be written, or its URL says so",
            "let the process write the file and its directory, and take mode=ro and immutable out of the URL",
        )
    if found.journal_mode != "wal":
        yield Finding(
            f"{whose} uses journal_mode={found.journal_mode}, so readers and writers wait for each other",
            "PRAGMA journal_mode=WAL, on a local disk: WAL does not work over a network",
        )
    if found.synchronous < _FULL:
        yield Finding(
            f"{whose} uses synchronous={found.synchronous}: a power failure can take back what was committed last",
            "PRAGMA synchronous=FULL in a connect event of the engine",
        )
    if found.busy_timeout_ms < SHORTEST_BUSY_TIMEOUT_MS:
        yield Finding(
            f"{whose} waits {found.busy_timeout_ms} ms for the write lock, then fails with 'database is locked'",
            "create_engine(..., connect_args={'timeout': 5})",
        )


def _postgresql(found: examining.PostgreSQLSettings, whose: str) -> Iterator[Finding]:
    if found.version < OLDEST_POSTGRESQL:
        yield Finding(f"{whose} is PostgreSQL {found.version // 10_000}, too old for the outbox", "upgrade to 13 or newer")
    if found.read_only:
        yield Finding(f"{whose} is read-only: a standby, or a role that may not write", "connect to the primary")
    if not found.fsync:
        yield Finding(f"{whose} runs with fsync=off: a crash of its host can destroy it", "set fsync=on in postgresql.conf")
    if not found.synchronous_commit:
        yield Finding(
            f"{whose} runs with synchronous_commit=off: a crash can forget that a message was sent, and send it again",
            "set synchronous_commit=on for the server, the database or the role",
        )
    if found.autocommit:
        yield Finding(
            f"{whose} is in autocommit mode: a message would be sent for data that is rolled back",
            "take isolation_level='AUTOCOMMIT' out of create_engine",
        )


def _clock(outbox: Outbox) -> Iterator[Finding]:
    before = time.time()
    there_ms = outbox.store.now_ms()
    here_ms = (before + time.time()) * 500
    difference_ms = there_ms - here_ms
    if abs(difference_ms) > LARGEST_CLOCK_DIFFERENCE_MS:
        direction = "ahead of" if difference_ms > 0 else "behind"
        yield Finding(
            f"the database's clock is {abs(difference_ms) / 1000:.1f} s {direction} this host's",
            "synchronise both with NTP: deadlines that adapters are given count on it",
        )
