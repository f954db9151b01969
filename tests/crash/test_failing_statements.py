"""The database fails at any one of the statements and commits of a life, in each of the ways in which databases do."""

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from tests.crash.lives import Life, Stage
from tests.servers.proxy import COMMIT

SAMPLE = 3
QUICK = {"locked", "closed", "hung up"}
"""The faults, and the number of places, that every run of the tests looks at."""

Fault = Callable[[Any], None]
"""Done to the driver's connection, just before it runs a statement."""


def fail_with(error: Exception) -> Fault:
    def fail(_connection: Any) -> None:
        raise error

    return fail


def hang_up(connection: psycopg.Connection) -> None:
    """As if the network had."""
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


FAULTS: dict[str, dict[str, Fault]] = {
    "sqlite": {
        "locked": fail_with(sqlite3.OperationalError("database is locked")),
        "disk full": fail_with(sqlite3.OperationalError("database or disk is full")),
        "input or output": fail_with(sqlite3.OperationalError("disk I/O error")),
        "closed": sqlite3.Connection.close,
    },
    "postgresql": {
        "locked": fail_with(psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")),
        "deadlock": fail_with(psycopg.errors.DeadlockDetected("deadlock detected")),
        "disk full": fail_with(psycopg.errors.DiskFull("could not extend file")),
        "terminated": fail_with(psycopg.errors.AdminShutdown("terminating connection due to administrator command")),
        "hung up": hang_up,
    },
}


@contextmanager
def failing(stage: Stage, k: int, kind: str, fault: Fault | None = None) -> Iterator[list[int]]:
    """The k-th statement or commit fails; the list gets the number of each that was come to. A commit loses its answer."""
    met: list[int] = []

    def meet(place: Any, *_: Any) -> None:
        met.append(len(met) + 1)
        if len(met) == k and fault is not None:
            fault(place.connection)
        elif len(met) == k and stage.line is not None:
            stage.line.lose_the_answer_to(COMMIT)

    kinds = ("commit",) if kind == "commit" else ("do_execute", "do_executemany", "do_execute_no_params")
    for name in kinds:
        event.listen(stage.outbox.store.engine, name, meet)
    yield met
    for name in kinds:
        event.remove(stage.outbox.store.engine, name, meet)


def live_with(stage: Stage, kind: str, fault: Fault | None, start: int, step: int) -> None:
    """A life for every ``step``-th place at which the failure can be, from ``start``; 0 for a few places spread over all."""
    count = live(stage, 0, kind, None)
    for k in range(start, count + 1, step or count // SAMPLE):
        try:
            live(stage, k, kind, fault)
        except AssertionError as error:
            error.add_note(f"{kind} {k} of {count}")
            raise


def live(stage: Stage, k: int, kind: str, fault: Fault | None) -> int:
    """One life; how many places it had."""
    life = Life(stage)
    with failing(stage, k, kind, fault) as met:
        life.enqueue_stubbornly()
        life.pass_by()
    life.judge()
    return len(met)


def _cases() -> Iterator[Any]:
    """Each fault at a few places; and at so many that each statement meets one of its database's faults."""
    for database, faults in FAULTS.items():
        for number, fault in enumerate(faults, 1):
            marks = [pytest.mark.crash, pytest.mark.slow]
            yield pytest.param(database, fault, number, len(faults), id=f"{database}-{fault}-everywhere", marks=marks)
            if fault in QUICK:
                yield pytest.param(database, fault, number, 0, id=f"{database}-{fault}")


@pytest.mark.parametrize(("stage", "fault", "start", "step"), list(_cases()), indirect=["stage"])
@pytest.mark.timeout(1200)
@pytest.mark.proves("T1", "T2")
def test_whichever_statement_fails_costs_time_and_never_a_message_or_a_second_send(
    stage: Stage, fault: str, start: int, step: int
) -> None:
    live_with(stage, "statement", FAULTS[stage.outbox.store.engine.dialect.name][fault], start, step)


@pytest.mark.parametrize("stage", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    "step",
    [pytest.param(0, id="here and there"), pytest.param(1, id="everywhere", marks=[pytest.mark.crash, pytest.mark.slow])],
)
@pytest.mark.timeout(1200)
@pytest.mark.proves("T1", "T2")
def test_whichever_commit_loses_its_answer_costs_time_and_never_a_message_or_a_second_send(stage: Stage, step: int) -> None:
    live_with(stage, "commit", None, 1, step)
