"""A process that is forked from one that has used its outbox: it begins anew, and leaves its parent's affairs alone."""

import os
from collections.abc import Callable

import pytest

from outbox import Outbox
from outbox.errors import DatabaseBusy
from outbox.recording import Recorder
from tests.integration.loops.scene import Chat, deliver, enqueue_many, statuses

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def in_child(holds: Callable[[], bool]) -> bool:
    """Whether it holds in a child of this process."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(int(not holds()))
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def pooled(outbox: Outbox) -> object:
    """The driver's connection that the outbox takes when it needs one."""
    with outbox.store.engine.connect() as connection:  # type: ignore[attr-defined]
        return connection.connection.driver_connection


def test_a_child_uses_no_connection_of_its_parent(outbox: Outbox) -> None:
    theirs = pooled(outbox)
    assert pooled(outbox) is theirs
    assert in_child(lambda: pooled(outbox) is not theirs)
    assert pooled(outbox) is theirs


def test_a_child_has_no_outcome_of_its_parent_to_record(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outbox.keeping.RETRY_S", 3600.0)  # nobody else shall record it

    def refuse(*_: object) -> None:
        raise DatabaseBusy("for long")

    outbox.delivery.recorder = Recorder(outbox.store, outbox.telemetry, pauses_s=())
    with monkeypatch.context() as patch:
        outbox.register(Chat(behaviour=lambda _message, _attempt: patch.setattr(outbox.store, "settle_and_take", refuse)))
        ids = enqueue_many(outbox, 1)
        with pytest.raises(DatabaseBusy):
            deliver(outbox)

    def closes_and_records_nothing() -> bool:
        outbox.close()
        return statuses(outbox, ids) == ["sending"]

    assert in_child(closes_and_records_nothing)
    outbox.close()
    assert statuses(outbox, ids) == ["delivered"]
