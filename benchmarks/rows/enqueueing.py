"""E: what a message costs in the transaction of a request, against a task that is published after it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uuid_utils
from celery import Celery
from sqlalchemy import Engine, create_engine, select, text

from benchmarks.applications import bare, ours
from benchmarks.lab import Lab
from benchmarks.measuring import Figures, Target, in_turns, percentile
from outbox import NewMessage, Outbox
from outbox.store.schema import Tables

BATCHES = 5
"""In a round of E.bulk: one takes a third of a second, in which a processor may be at twice its speed, or at half of it."""
BUSINESS = text("insert into orders (note) values ('ordered')")


def in_a_request(lab: Lab) -> Iterator[Figures]:
    """E.p50, E.p99: the call itself; E.request: the whole request, its commit included."""
    requests = lab.sized(1_000, 200)
    outbox, engine = _application(lab)
    app = bare.create(lab.broker())
    costs: dict[str, list[list[Cost]]] = {"ours": [], "theirs": []}

    def measured(name: str, request: Callable[[], Cost]) -> float:
        costs[name].append([request() for _ in range(requests)])
        return 0.0

    contenders = {
        "ours": lambda: measured("ours", lambda: _with_message(engine, outbox)),
        "theirs": lambda: measured("theirs", lambda: _with_task(engine, app)),
    }
    in_turns(lab.rounds, contenders, lab.told)
    outbox.close()

    def percentiles(name: str, percent: int, part: Callable[[Cost], float]) -> list[float]:
        return [percentile([part(cost) * 1000 for cost in costs_of_round], percent) for costs_of_round in costs[name]]

    for percent, most in ((50, 0.25), (99, 0.5)):
        ours, theirs = (percentiles(name, percent, lambda cost: cost.call_s) for name in ("ours", "theirs"))
        what = f"p{percent} of enqueue() in a request's transaction on SQLite, against .delay() after it"
        yield Figures(f"E.p{percent}", what, "ms", ours, theirs, Target(at_most=most))
    ours, theirs = (percentiles(name, 50, lambda cost: cost.request_s) for name in ("ours", "theirs"))
    what = "p50 of the whole request: one business row and one message, against one row and .delay()"
    yield Figures("E.request", what, "ms", ours, theirs, Target(at_most=1))


def in_bulk(lab: Lab) -> Iterator[Figures]:
    """E.bulk: `enqueue_many` against the same rows by the driver's bare `executemany`."""
    count = lab.sized(10_000, 2_000)
    outbox, engine = _application(lab)
    contenders = {
        "ours": lambda: BATCHES * count / sum(_timed(lambda: _many(engine, outbox, count)) for _ in range(BATCHES)),
        "theirs": lambda: BATCHES * count / sum(_bare_many(engine, outbox.store.tables, count) for _ in range(BATCHES)),
    }
    rates = in_turns(lab.rounds, contenders, lab.told)
    outbox.close()
    what = f"enqueue_many of {count:,} on SQLite, against executemany of the same rows"
    yield Figures("E.bulk", what, "/s", rates["ours"], rates["theirs"], Target(at_least=0.5))


def _application(lab: Lab) -> tuple[Outbox, Engine]:
    """An outbox on the application's own engine, as a request has it."""
    engine = create_engine(lab.database("sqlite"))
    _, outbox, _ = ours.create(str(engine.url), lab.broker())
    outbox.upgrade_schema()
    with engine.begin() as connection:
        connection.execute(text("create table orders (id integer primary key, note text)"))
    return outbox, engine


@dataclass(frozen=True, slots=True)
class Cost:
    call_s: float
    request_s: float


def _with_message(engine: Engine, outbox: Outbox) -> Cost:
    began = time.perf_counter()
    with engine.begin() as connection:
        connection.execute(BUSINESS)
        called = time.perf_counter()
        outbox.enqueue(connection, ours.CHANNEL, payload={"text": "On its way"})
        returned = time.perf_counter()
    return Cost(returned - called, time.perf_counter() - began)


def _with_task(engine: Engine, app: Celery) -> Cost:
    began = time.perf_counter()
    with engine.begin() as connection:
        connection.execute(BUSINESS)
    called = time.perf_counter()
    app.tasks["bare.timed"].delay("On its way")
    returned = time.perf_counter()
    return Cost(returned - called, returned - began)


def _many(engine: Engine, outbox: Outbox, count: int) -> None:
    with engine.begin() as connection:
        outbox.enqueue_many(connection, [NewMessage(channel=ours.CHANNEL, payload={"text": "On its way"})] * count)


def _bare_many(engine: Engine, tables: Tables, count: int) -> float:
    """Seconds for rows like the newest that `enqueue_many` wrote, in every column, with values that are ready."""
    messages = tables.messages
    with engine.connect() as connection:
        written = connection.execute(select(messages).order_by(messages.c.seq.desc()).limit(1)).mappings().one()
    columns = {name: value for name, value in written.items() if value is not None and name not in ("seq", "id")}
    names = ["id", *columns]
    statement = f"insert into {messages.name} ({', '.join(names)}) values ({', '.join('?' * len(names))})"
    rows = [(str(uuid_utils.uuid7()), *columns.values()) for _ in range(count)]

    def insert() -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(statement, rows)

    return _timed(insert)


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
