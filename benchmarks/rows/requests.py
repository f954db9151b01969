"""E, the broker's part in a request: none, neither while it is well nor while it is frozen or gone."""

import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from sqlalchemy import event

from benchmarks.applications import bare, ours
from benchmarks.lab import Lab
from benchmarks.measuring import Figures, Target, percentile
from outbox import Outbox
from tests.servers import valkey

BOUND_CALLS = 20
"""Requests whose calls are looked at one by one."""
NOISE = 3.0
"""By so much a p99 of microseconds may differ between two stretches of one run."""


def without_the_broker(lab: Lab) -> Iterator[Figures]:
    """E.statements, E.broker, E.frozen, E.gone: what an enqueue sends to the database, and to the broker."""
    requests = lab.sized(1_000, 200)
    with valkey.running() as broker:
        app = bare.create(broker.url)
        _, outbox, _ = ours.create(lab.database("sqlite"), broker.url)
        outbox.upgrade_schema()
        _request(outbox)
        app.tasks["bare.timed"].delay("to connect")

        statements = float(_statements(outbox))
        what = "statements that an enqueue adds to the caller's transaction, against what is allowed"
        yield Figures("E.statements", what, "", [statements], [1.0], Target(at_most=1))

        on_thread = _socket_calls(lambda: _request(outbox)), _socket_calls(lambda: app.tasks["bare.timed"].delay("once"))
        what = "calls of a socket on the request's thread, a request, against .delay()"
        yield Figures("E.broker", what, "", [on_thread[0]], [on_thread[1]], Target(at_most=0))

        well = [_p99_ms(outbox, requests) for _ in range(lab.rounds)]
        lab.told()
        broker.process.freeze()
        frozen = [_p99_ms(outbox, requests) for _ in range(lab.rounds)]
        broker.process.thaw()
        lab.told()
        what = "p99 of a request with one message while the broker stands still, against while it is well"
        yield Figures("E.frozen", what, "ms", frozen, well, Target(at_most=NOISE))
        broker.process.kill()
        gone = [_p99_ms(outbox, requests) for _ in range(lab.rounds)]
        lab.told()
        yield Figures("E.gone", what.replace("stands still", "is gone"), "ms", gone, well, Target(at_most=NOISE))
        outbox.close()


def _request(outbox: Outbox) -> None:
    with outbox.store.transaction() as tx:
        outbox.enqueue(tx.connection, ours.CHANNEL, payload={"text": "On its way"})


def _p99_ms(outbox: Outbox, requests: int) -> float:
    took: list[float] = []
    for _ in range(requests):
        began = time.perf_counter()
        _request(outbox)
        took.append((time.perf_counter() - began) * 1000)
    return percentile(took, 99)


def _statements(outbox: Outbox) -> int:
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, sql: str, *_rest: Any) -> None:
        sent.append(sql)

    with outbox.store.transaction() as tx:
        event.listen(outbox.store.engine, "before_cursor_execute", note)
        outbox.enqueue(tx.connection, ours.CHANNEL, payload={"text": "On its way"})
        event.remove(outbox.store.engine, "before_cursor_execute", note)
    return len(sent)


def _socket_calls(request: Callable[[], object]) -> float:
    """How many calls of sockets a request makes on its own thread; other threads are not seen."""
    calls = 0

    def note(_frame: FrameType, happening: str, function: Any) -> None:
        nonlocal calls
        if happening == "c_call" and isinstance(getattr(function, "__self__", None), socket.socket):
            calls += 1

    for _ in range(BOUND_CALLS):
        sys.setprofile(note)
        try:
            request()
        finally:
            sys.setprofile(None)
    return calls / BOUND_CALLS
