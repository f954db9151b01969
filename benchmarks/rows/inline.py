"""What the database decides, measured without Celery: large tables beside the queue, and one ordering key."""

import time
from collections.abc import Iterator

from sqlalchemy import text

from benchmarks.lab import Lab
from benchmarks.measuring import Figures, Target, in_turns
from outbox import NewMessage, Outbox
from outbox.channels.base import FunctionChannel

CHANNEL = "noop"
SLOTS = 50
FILL = {
    "sqlite": "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < :rows)",
    "postgresql": "with numbers as (select generate_series(1, :rows) as n)",
}
_HOUR_MS = 3_600_000


def beside_a_million_rows(lab: Lab) -> Iterator[Figures]:
    """B: rate and claim beside delivered rows and as many future rows as due ones, against a table with nothing else."""
    beside, count = lab.sized(1_000_000, 50_000), lab.sized(4_000, 1_000)
    for kind in ("sqlite", "postgresql"):
        empty, full = opened(lab, kind), opened(lab, kind)
        _fill(full, kind, beside)
        rates = in_turns(
            lab.rounds,
            {"ours": lambda full=full: rate(full, count, future=count), "theirs": lambda empty=empty: rate(empty, count)},  # type: ignore[misc]
            lab.told,
        )
        what = f"messages a second on {kind} beside {beside:,} delivered and as many future rows, against an empty table"
        yield Figures(f"B.{kind}", what, "/s", rates["ours"], rates["theirs"], Target(at_least=0.9))
        empty.close()
        full.close()


def one_key(lab: Lab) -> Iterator[Figures]:
    """key: messages of one ordering key, sent strictly one after another, against messages without one."""
    count = lab.sized(5_000, 1_000)
    for kind in ("sqlite", "postgresql"):
        outbox = opened(lab, kind)
        contenders = {
            "ours": lambda outbox=outbox: rate(outbox, count, ordering_key="conversation"),
            "theirs": lambda outbox=outbox: rate(outbox, count),
        }
        rates = in_turns(lab.rounds, contenders, lab.told)
        what = f"{count:,} messages of one ordering key on {kind}, against unordered ones"
        note = f"concurrency={SLOTS}, key_window={SLOTS}: after a death, so many of a key may be sent again, in order"
        name = "key" if kind == "sqlite" else f"key.{kind}"
        yield Figures(name, what, "/s", rates["ours"], rates["theirs"], Target(0.5), note)
        outbox.close()


def opened(lab: Lab, kind: str) -> Outbox:
    """An outbox whose channel does nothing."""
    policy = {"max_in_flight": 100_000, "concurrency": SLOTS, "key_window": SLOTS}
    channel = FunctionChannel(CHANNEL, lambda _message, _attempt: None, **policy)
    outbox = Outbox(lab.database(kind), channels=[channel])
    outbox.upgrade_schema()
    return outbox


def rate(outbox: Outbox, count: int, *, future: int = 0, ordering_key: str | None = None) -> float:
    """Messages a second that one process relays, sends and settles."""
    with outbox.store.transaction() as tx:
        later = [NewMessage(channel=CHANNEL, delay=_HOUR_MS / 1000)] * future
        outbox.enqueue_many(tx.connection, later + [NewMessage(channel=CHANNEL, ordering_key=ordering_key)] * count)
    started = time.perf_counter()
    assert outbox.drain(timeout_s=600) == count
    return count / (time.perf_counter() - started)


def _fill(outbox: Outbox, kind: str, rows: int) -> None:
    """Delivered rows, as they would stand after some days."""
    m = outbox.store.tables.messages
    insert = f"insert into {m.name} (id, channel, account_id, target, payload, status, priority, queued_at, next_attempt_at,"
    insert += " attempt_count, lease, delivered_at, completed_at) "
    select = "select 'old-' || n, 'noop', '', '', '{}', 'delivered', 0, :then, :then, 1, 1, :then + n, :then + n from numbers"
    with outbox.store.transaction() as tx:
        statement = f"{FILL[kind]} {insert}{select}" if kind == "postgresql" else f"{insert}{FILL[kind]} {select}"
        tx.connection.execute(text(statement), {"rows": rows, "then": round(time.time() * 1000) - 3 * _HOUR_MS})
    if kind == "postgresql":
        with outbox.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"vacuum analyze {m.name}"))
