"""After a proven send nothing turns it into a resend: an outcome that cannot be recorded is kept, and recorded later."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError

from outbox import Attempt, Message, NewMessage, Outbox, PermanentFailure, Receipt, RetryLater, unwritten
from outbox.errors import DatabaseBusy, DatabaseUnavailable
from outbox.lifecycle import Status
from outbox.message import Claim
from outbox.recording import Recorder
from outbox.store import sqlite
from outbox.telemetry import AttemptFinished, Event, LeaseLost, SettleDelayed
from outbox.testing import FakeClock
from tests.integration.conftest import OpenOutbox
from tests.integration.loops.scene import (
    WAIT_S,
    AsyncChat,
    Behaviour,
    Chat,
    Events,
    Held,
    InThread,
    Row,
    await_condition,
    claim,
    deliver,
    enqueue_many,
    put,
    raising,
    returning,
    statuses,
)
from tests.servers.postgresql import OwnPostgresServer
from tests.servers.proxy import COMMIT, line_to

SETTLING = "outbox-settle"
BOTH = pytest.mark.parametrize("kind", [Chat, AsyncChat], ids=["plain", "async"])


def impatient(outbox: Outbox, *, pauses_s: tuple[float, ...] = (0.0,), pause: Any = lambda _s: None) -> Outbox:
    """The outbox with a recorder that gives up soon, and keeps what it could not record."""
    outbox.delivery.recorder = Recorder(outbox.store, outbox.telemetry, pauses_s=pauses_s, pause=pause)
    return outbox


class WriteLock:
    """Another program's write transaction on a SQLite file."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def hold(self) -> None:
        self._connection.execute("begin immediate")

    def release(self, *_: Any) -> None:
        if self._connection.in_transaction:
            self._connection.execute("rollback")

    def close(self) -> None:
        self.release()
        self._connection.close()


@pytest.fixture
def locked(sqlite_outbox_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Outbox, WriteLock]]:
    """An outbox on SQLite that waits 20 ms for a lock, and a lock."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    monkeypatch.setattr("outbox.keeping.RETRY_S", 3600.0)
    outbox = Outbox(sqlite_outbox_url)
    lock = WriteLock(Path(str(make_url(sqlite_outbox_url).database)))
    yield impatient(outbox), lock
    lock.close()
    outbox.close()


@pytest.fixture
def background(locked: tuple[Outbox, WriteLock], monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """What records in the background does so often, and hangs when it is about to write."""
    monkeypatch.setattr("outbox.keeping.RETRY_S", 0.01)
    outbox, _lock = locked
    settle_and_take, held = outbox.store.settle_and_take, Held()

    def hang(*arguments: Any) -> Any:
        if threading.current_thread().name == SETTLING:
            held(None, None)  # type: ignore[arg-type]
        return settle_and_take(*arguments)

    monkeypatch.setattr(outbox.store, "settle_and_take", hang)
    yield held
    held.let_go.set()


class Interrupted(BaseException):
    """What a soft time limit, or Ctrl-C, raises in the midst of anything."""


def send_past_the_end_of_its_task(outbox: Outbox, chat: Chat) -> list[str]:
    """A message whose task is interrupted in the midst of its send."""

    def interrupt() -> bool:
        if chat.sent:
            raise Interrupted
        return False

    outbox.register(chat)
    ids = enqueue_many(outbox, 1)
    with pytest.raises(Interrupted):
        deliver(outbox, should_stop=interrupt)
    return ids


def is_settling() -> bool:
    return any(thread.name == SETTLING for thread in threading.enumerate())


class NoThreads:
    """A time in which no thread can be started."""

    def __init__(self) -> None:
        self._patch = pytest.MonkeyPatch()

    def begin(self) -> None:
        def refuse(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        self._patch.setattr(threading.Thread, "start", refuse)

    def end(self) -> None:
        self._patch.undo()


def locking(lock: WriteLock, no_threads: NoThreads) -> Behaviour:
    """Both begin in the send, when its own thread runs."""

    def lock_all(_message: Message, _attempt: Attempt) -> None:
        lock.hold()
        no_threads.begin()

    return lock_all


@pytest.fixture
def no_threads() -> Iterator[NoThreads]:
    no_threads = NoThreads()
    yield no_threads
    no_threads.end()


@pytest.mark.proves("T1", "T2")
@BOTH
def test_t1_t2_a_settle_that_finds_the_database_locked_is_tried_again_as_a_settle(
    locked: tuple[Outbox, WriteLock], kind: type[Chat]
) -> None:
    outbox, lock = locked
    impatient(outbox, pauses_s=(0.0, 0.0), pause=lock.release)
    chat, events = kind(behaviour={"0": lambda _m, _a: lock.hold()}), Events(outbox)
    outbox.register(chat)
    ids = enqueue_many(outbox, 2)
    deliver(outbox)
    assert chat.sent == ["0", "1"]
    assert statuses(outbox, ids) == ["delivered", "delivered"]
    assert events.of(SettleDelayed) == []


@pytest.mark.proves("T1", "T2", "R4")
@BOTH
def test_t1_t2_an_outcome_that_the_locked_database_refuses_for_long_is_kept_and_recorded_by_the_next_task(
    locked: tuple[Outbox, WriteLock], kind: type[Chat]
) -> None:
    outbox, lock = locked
    chat, events = kind(behaviour={"0": lambda _m, _a: lock.hold()}), Events(outbox)
    outbox.register(chat)
    ids = enqueue_many(outbox, 2)
    with pytest.raises(DatabaseBusy):
        deliver(outbox)
    assert chat.sent == ["0"]
    assert [(delayed.channel, delayed.count) for delayed in events.of(SettleDelayed)][:1] == [("chat", 1)]
    assert events.of(AttemptFinished) == []
    lock.release()
    assert statuses(outbox, ids) == ["sending", "dispatched"]
    (third,) = enqueue_many(outbox, 1, target="third")
    deliver(outbox)
    assert chat.sent == ["0", "third"]
    assert statuses(outbox, [ids[0], third]) == ["delivered", "delivered"]
    assert [finished.message_id for finished in events.of(AttemptFinished)] == [ids[0], third]
    assert events.of(LeaseLost) == []


def test_a_process_that_holds_an_outcome_begins_nothing_new(
    locked: tuple[Outbox, WriteLock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.keeping.RETRY_S", 3600.0)  # nobody else shall record it
    outbox, lock = locked
    seen: list[str] = []
    chat = Chat(behaviour={"0": lambda _m, _a: lock.hold(), "next": lambda _m, _a: seen.extend(statuses(outbox, kept))})
    outbox.register(chat)
    kept = enqueue_many(outbox, 1)
    with pytest.raises(DatabaseBusy):
        deliver(outbox)
    lock.release()
    enqueue_many(outbox, 1, target="next")
    claims = claim(outbox)
    lock.hold()
    with pytest.raises(DatabaseBusy):
        deliver(outbox, claims)
    assert chat.sent == ["0"]
    lock.release()
    deliver(outbox, claims)
    assert (chat.sent, seen) == (["0", "next"], ["delivered"])


def test_what_was_kept_is_recorded_in_the_background_where_no_task_comes(
    locked: tuple[Outbox, WriteLock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.keeping.RETRY_S", 0.01)
    outbox, lock = locked
    outbox.register(Chat(behaviour={"0": lambda _m, _a: lock.hold()}))
    (message_id,) = enqueue_many(outbox, 1)
    with pytest.raises(DatabaseBusy):
        deliver(outbox)
    lock.release()
    await_condition(lambda: outbox.get(message_id).status is Status.DELIVERED, "the kept outcome")


def test_what_was_kept_is_recorded_at_the_close(locked: tuple[Outbox, WriteLock]) -> None:
    outbox, lock = locked
    outbox.register(Chat(behaviour=lambda _m, _a: lock.hold()))
    (message_id,) = enqueue_many(outbox, 1)
    with pytest.raises(DatabaseBusy):
        deliver(outbox)
    with pytest.raises(DatabaseBusy):
        outbox.delivery.recorder.close(timeout_s=0.3)
    lock.release()
    outbox.close()
    assert statuses(outbox, [message_id]) == ["delivered"]


def test_what_was_kept_is_recorded_when_the_process_ends_in_good_order(
    locked: tuple[Outbox, WriteLock], caplog: pytest.LogCaptureFixture
) -> None:
    outbox, lock = locked
    outbox.register(Chat(behaviour=lambda _m, _a: lock.hold()))
    (message_id,) = enqueue_many(outbox, 1)
    with pytest.raises(DatabaseBusy):
        deliver(outbox)
    end = InThread(outbox.delivery.finish)
    time.sleep(0.2)
    assert end.running
    lock.release()
    end.result()
    assert statuses(outbox, [message_id]) == ["delivered"]
    assert "not on record" not in caplog.text


def test_a_process_that_ends_without_its_database_waits_no_longer_than_it_may_and_says_so(
    locked: tuple[Outbox, WriteLock], caplog: pytest.LogCaptureFixture
) -> None:
    outbox, lock = locked
    outbox.register(Chat(behaviour=lambda _m, _a: lock.hold()))
    enqueue_many(outbox, 1)
    with pytest.raises(DatabaseBusy):
        deliver(outbox)
    outbox.delivery.finish(timeout_s=0.3)
    assert "this process ends with outcomes that are not on record: the database stayed locked" in caplog.text


def test_what_is_being_recorded_in_the_background_is_on_record_before_anything_new_begins(
    locked: tuple[Outbox, WriteLock], background: Held
) -> None:
    outbox, lock = locked
    seen: list[str] = []
    chat = Chat(behaviour={"0": lambda _m, _a: lock.hold(), "next": lambda _m, _a: seen.extend(statuses(outbox, kept))})
    outbox.register(chat)
    events = Events(outbox)
    kept = enqueue_many(outbox, 1)
    with pytest.raises(DatabaseBusy):
        deliver(outbox)
    lock.release()
    assert background.entered.wait(WAIT_S)

    following = enqueue_many(outbox, 1, target="next")
    deliver(outbox)
    background.let_go.set()

    assert (chat.sent, seen) == (["0", "next"], ["delivered"])
    await_condition(lambda: not is_settling(), "the background to end")
    assert [finished.message_id for finished in events.of(AttemptFinished)] == [*kept, *following]
    assert events.of(LeaseLost) == []


def test_the_close_tells_of_what_hangs_in_the_background(locked: tuple[Outbox, WriteLock], background: Held) -> None:
    outbox, lock = locked
    outbox.register(Chat(behaviour=lambda _m, _a: lock.hold()))
    (message_id,) = enqueue_many(outbox, 1)
    with pytest.raises(DatabaseBusy):
        deliver(outbox)
    lock.release()
    assert background.entered.wait(WAIT_S)

    with pytest.raises(DatabaseBusy):
        outbox.delivery.recorder.close(timeout_s=0.1)
    background.let_go.set()
    outbox.close()

    assert statuses(outbox, [message_id]) == ["delivered"]


def test_the_close_tells_of_a_late_outcome_that_hangs(locked: tuple[Outbox, WriteLock], background: Held) -> None:
    outbox, _lock = locked
    held = Held()
    (message_id,) = send_past_the_end_of_its_task(outbox, Chat(behaviour=held))
    held.let_go.set()
    assert background.entered.wait(WAIT_S)

    with pytest.raises(DatabaseUnavailable):
        outbox.delivery.recorder.close(timeout_s=0.1)
    background.let_go.set()
    outbox.close()

    assert statuses(outbox, [message_id]) == ["delivered"]


def test_a_late_outcome_that_the_database_refuses_is_told_of_once(
    locked: tuple[Outbox, WriteLock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.keeping.RETRY_S", 0.01)
    outbox, lock = locked
    held, events = Held(), Events(outbox)
    (message_id,) = send_past_the_end_of_its_task(outbox, Chat(behaviour=held))
    lock.hold()
    held.let_go.set()
    await_condition(lambda: events.of(SettleDelayed), "the refusal")
    with pytest.raises(DatabaseBusy):
        outbox.delivery.recorder.close(timeout_s=0.3)
    lock.release()
    outbox.close()

    assert [delayed.count for delayed in events.of(SettleDelayed)] == [1]
    assert [finished.message_id for finished in events.of(AttemptFinished)] == [message_id]


def test_where_there_is_no_room_for_a_thread_the_next_task_records_what_was_kept_once(
    locked: tuple[Outbox, WriteLock], no_threads: NoThreads
) -> None:
    outbox, lock = locked
    events = Events(outbox)
    outbox.register(Chat(behaviour={"0": locking(lock, no_threads)}))
    kept = enqueue_many(outbox, 1)
    with pytest.raises(DatabaseBusy):
        deliver(outbox)
    lock.release()
    no_threads.end()
    following = enqueue_many(outbox, 1, target="next")
    deliver(outbox)

    assert statuses(outbox, [*kept, *following]) == ["delivered"] * 2
    assert [finished.message_id for finished in events.of(AttemptFinished)] == [*kept, *following]


def test_once_there_is_room_for_a_thread_it_records_what_was_kept(
    locked: tuple[Outbox, WriteLock], no_threads: NoThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.keeping.RETRY_S", 0.01)
    outbox, lock = locked
    outbox.register(Chat(behaviour={"0": locking(lock, no_threads)}))
    ids = enqueue_many(outbox, 2)
    claims = claim(outbox)
    with pytest.raises(DatabaseBusy):
        deliver(outbox, claims[:1])
    no_threads.end()
    with pytest.raises(DatabaseBusy):
        deliver(outbox, claims[1:])
    lock.release()

    await_condition(lambda: outbox.get(ids[0]).status is Status.DELIVERED, "the kept outcome")


def test_where_there_is_no_room_for_a_thread_the_close_records_what_was_kept(
    locked: tuple[Outbox, WriteLock], no_threads: NoThreads
) -> None:
    outbox, lock = locked
    outbox.register(Chat(behaviour=locking(lock, no_threads)))
    (message_id,) = enqueue_many(outbox, 1)
    with pytest.raises(DatabaseBusy):
        deliver(outbox)
    lock.release()
    outbox.delivery.recorder.close()

    assert statuses(outbox, [message_id]) == ["delivered"]


def test_where_there_is_no_room_for_a_thread_the_next_task_records_what_ended_late(
    outbox: Outbox, no_threads: NoThreads
) -> None:
    held = Held()
    (message_id,) = send_past_the_end_of_its_task(outbox, Chat(behaviour={"0": held}))
    no_threads.begin()
    held.let_go.set()
    await_condition(lambda: outbox.delivery.senders._crew._idle == 1, "the late outcome")  # its thread is free again
    no_threads.end()
    (following,) = enqueue_many(outbox, 1, target="next")
    deliver(outbox)

    assert statuses(outbox, [message_id, following]) == ["delivered"] * 2


def test_a_failure_is_kept_like_a_success(locked: tuple[Outbox, WriteLock]) -> None:
    outbox, lock = locked

    def fail(_message: Message, _attempt: Attempt) -> None:
        lock.hold()
        raise PermanentFailure("HTTP 404")

    outbox.register(Chat(behaviour=fail))
    (message_id,) = enqueue_many(outbox, 1)
    with pytest.raises(DatabaseBusy):
        deliver(outbox)
    lock.release()
    outbox.close()
    row = Row(outbox, message_id)
    assert (row.status, row.last_error) == ("failed_terminal", "HTTP 404")


@pytest.mark.proves("T13")
def test_t13_a_success_that_was_kept_past_its_rescue_still_counts_and_is_not_sent_again(
    locked: tuple[Outbox, WriteLock],
) -> None:
    outbox, lock = locked
    chat = Chat(behaviour={"0": lambda _m, _a: lock.hold()})
    outbox.register(chat)
    (message_id,) = enqueue_many(outbox, 1)
    with pytest.raises(DatabaseBusy):
        deliver(outbox)
    lock.release()
    put(outbox, message_id, lease_until=0)
    outbox.maintain_once()
    assert Row(outbox, message_id).status == "failed_retryable"
    outbox.close()
    outbox.drain()
    assert statuses(outbox, [message_id]) == ["delivered"]
    assert chat.sent == ["0"]


def test_a_database_that_goes_away_in_a_send_and_comes_back_gets_the_outcome_once(
    own_postgres: OwnPostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.keeping.RETRY_S", 3600.0)
    outbox = impatient(Outbox(own_postgres.create_database()))
    outbox.upgrade_schema()
    chat, events = Chat(behaviour={"0": lambda _m, _a: own_postgres.process.stop()}), Events(outbox)
    outbox.register(chat)
    ids = enqueue_many(outbox, 2)
    with pytest.raises(DatabaseUnavailable):
        deliver(outbox)
    own_postgres.process.start()
    assert statuses(outbox, ids) == ["sending", "dispatched"]
    outbox.delivery.recorder.close()
    assert statuses(outbox, ids) == ["delivered", "dispatched"]
    assert chat.sent == ["0"]
    assert events.of(LeaseLost) == []
    outbox.close()


# An ambiguous commit.


@pytest.fixture
def behind_a_proxy(postgres_outbox_url: str) -> Iterator[tuple[Outbox, Any]]:
    """An outbox whose connections go through a proxy that can lose an answer."""
    with line_to(postgres_outbox_url) as (line, through):
        outbox = Outbox(through)
        yield outbox, line
        outbox.close()


@pytest.mark.parametrize("error", [None, RetryLater("busy", after=60), PermanentFailure("HTTP 404")], ids=repr)
def test_invariant_7_a_commit_that_took_effect_and_lost_its_answer_is_no_lost_lease(
    behind_a_proxy: tuple[Outbox, Any], error: Exception | None
) -> None:
    outbox, line = behind_a_proxy
    events = Events(outbox)

    def lose_the_next_commit(_message: Message, _attempt: Attempt) -> None:
        line.lose_the_answer_to(COMMIT)
        if error is not None:
            raise error

    chat = Chat(behaviour=lose_the_next_commit)
    outbox.register(chat)
    (message_id,) = enqueue_many(outbox, 1)
    report = deliver(outbox)
    assert line.lost.is_set()
    assert chat.sent == ["0"]
    expected = {None: "delivered", RetryLater: "failed_retryable", PermanentFailure: "failed_terminal"}
    assert statuses(outbox, [message_id]) == [expected[type(error) if error else None]]
    assert sum(report.statuses.values()) == 1
    assert events.of(LeaseLost) == []
    assert len(events.of(AttemptFinished)) == 1


def test_rows_that_an_ambiguous_commit_took_are_sent_once_all_the_same(behind_a_proxy: tuple[Outbox, Any]) -> None:
    outbox, line = behind_a_proxy
    chat = Chat(behaviour={"0": lambda _m, _a: line.lose_the_answer_to(COMMIT)})
    outbox.register(chat)
    ids = enqueue_many(outbox, 3)
    deliver(outbox)
    assert line.lost.is_set()
    for message_id in ids:
        put(outbox, message_id, lease_until=0)
    outbox.maintain_once()
    for message_id in ids:
        put(outbox, message_id, next_attempt_at=0)
    outbox.drain()
    assert statuses(outbox, ids) == ["delivered"] * 3
    assert sorted(chat.sent) == ["0", "1", "2"]


# A poisonous outcome.


POISON = {
    "sqlite": """
        create trigger poison before update on message_outbox when {condition} begin select raise(abort, 'poisoned'); end
    """,
    "postgresql": """
        create function poison() returns trigger language plpgsql as
        $$ begin if {condition} then raise exception 'poisoned'; end if; return new; end $$;
        create trigger poison before update on message_outbox for each row execute function poison()
    """,
}


@pytest.fixture
def poison(outbox: Outbox) -> Iterator[Any]:
    """Makes the database refuse every write of a row that meets a condition."""
    name = outbox.store.engine.dialect.name

    def set_condition(condition: str) -> None:
        with outbox.store.transaction() as tx:
            tx.connection.exec_driver_sql(POISON[name].format(condition=condition))

    def remove() -> None:
        on = "" if name == "sqlite" else " on message_outbox"
        with outbox.store.transaction() as tx:
            tx.connection.execute(text(f"drop trigger if exists poison{on}"))
            if name == "postgresql":
                tx.connection.execute(text("drop function if exists poison"))

    set_condition.remove = remove  # type: ignore[attr-defined]
    yield set_condition
    remove()


def all_at_once(count: int, answers: dict[str, Any]) -> Chat:
    """A channel whose sends end together, so that their outcomes are settled in one group."""
    meeting = threading.Barrier(count, timeout=20)

    def meet(message: Message, attempt: Attempt) -> Any:
        meeting.wait()
        return answers.get(message.target, returning(None))(message, attempt)

    return Chat(behaviour=meet, concurrency=count)


def test_an_error_text_that_the_database_refuses_spoils_no_neighbour(outbox: Outbox, poison: Any) -> None:
    poison("new.last_error like '%%poison%%'")
    outbox.register(all_at_once(4, {"1": raising(RetryLater("poison", after=60))}))
    ids = enqueue_many(outbox, 4)
    report = deliver(outbox)
    assert statuses(outbox, ids) == ["delivered", "failed_retryable", "delivered", "delivered"]
    assert outbox.get(ids[1]).last_error == "the error's text could not be stored"
    assert sum(report.statuses.values()) == 4


def test_a_receipt_that_the_database_refuses_does_not_undo_the_delivery(outbox: Outbox, poison: Any) -> None:
    poison("new.receipt like '%%poison%%'")
    outbox.register(all_at_once(3, {"1": returning(Receipt("poison"))}))
    ids = enqueue_many(outbox, 3)
    deliver(outbox)
    assert statuses(outbox, ids) == ["delivered"] * 3
    assert outbox.get(ids[1]).receipt is None


def test_an_outcome_that_the_database_refuses_in_any_form_is_kept_and_stops_nobody(outbox: Outbox, poison: Any) -> None:
    events = Events(outbox)
    chat = all_at_once(3, {})
    outbox.register(chat)
    outbox.register(other := Chat("other"))
    ids = enqueue_many(outbox, 3)
    claims = claim(outbox)
    poison("new.target = '1' and new.status = 'delivered'")
    deliver(outbox, claims)
    assert statuses(outbox, ids) == ["delivered", "sending", "delivered"]
    assert [delayed.count for delayed in events.of(SettleDelayed)] == [1]
    (later,) = enqueue_many(outbox, 1, channel="other", target="later")
    deliver(outbox, channel="other")
    assert statuses(outbox, [later]) == ["delivered"]
    poison.remove()
    outbox.close()
    assert statuses(outbox, ids) == ["delivered"] * 3
    assert (sorted(chat.sent), other.sent) == (["0", "1", "2"], ["later"])


def test_a_claim_that_the_database_cannot_read_stops_the_task_and_loses_no_outcome(postgres_outbox_url: str) -> None:
    outbox, chat = Outbox(postgres_outbox_url), Chat()
    outbox.register(chat)
    ids = enqueue_many(outbox, 3)
    claims = claim(outbox)
    with pytest.raises(DataError):
        deliver(outbox, [claims[0], Claim(ids[1], 10**40), *claims[1:]])
    assert chat.sent == ["0"]
    assert statuses(outbox, ids) == ["delivered", "queued", "queued"]
    outbox.close()


# Somebody else's row by now.


def test_invariant_3_an_outcome_of_a_row_that_somebody_else_holds_is_counted_and_changes_nothing(
    open_outbox: OpenOutbox, clock: FakeClock
) -> None:
    slow, quick = open_outbox(clock=clock), open_outbox(clock=clock)
    held, events = Held(), Events(slow)
    slow.register(Chat(behaviour=held))
    quick.register(Chat(behaviour=returning(Receipt("second"))))
    (message_id,) = enqueue_many(slow, 1)
    task = InThread(lambda: deliver(slow))
    assert held.entered.wait(20)
    clock.advance(60_000)
    quick.maintain_once()
    clock.advance(60_000)
    deliver(quick)
    held.let_go.set()
    report = task.result()
    assert [(lost.message_id, lost.lease, lost.outcome) for lost in events.of(LeaseLost)] == [(message_id, 1, "delivered")]
    assert dict(report.statuses) == {}
    message = quick.get(message_id)
    assert (message.lease, message.receipt) == (2, {"provider_id": "second"})


# Listeners and interruptions.


@pytest.mark.proves("T3")
@BOTH
def test_t3_a_listener_that_raises_changes_nothing(outbox: Outbox, kind: type[Chat]) -> None:
    def listen(_event: Event) -> None:
        raise RuntimeError("metrics are down")

    outbox.telemetry.subscribe(listen)
    chat = kind(concurrency=2)
    outbox.register(chat)
    ids = enqueue_many(outbox, 5)
    report = deliver(outbox)
    assert statuses(outbox, ids) == ["delivered"] * 5
    assert (len(chat.sent), report.statuses[Status.DELIVERED]) == (5, 5)


@BOTH
def test_an_interrupted_task_loses_no_outcome(outbox: Outbox, kind: type[Chat]) -> None:
    held = Held()

    async def slow(_message: Message, _attempt: Attempt) -> None:
        while not held.let_go.is_set():
            await asyncio.sleep(0.005)

    chat = kind(behaviour={"1": slow if kind is AsyncChat else held}, concurrency=2)
    outbox.register(chat)
    ids = enqueue_many(outbox, 4)

    def interrupt() -> bool:
        if len(chat.sent) >= 2:
            raise Interrupted
        return False

    with pytest.raises(Interrupted):
        deliver(outbox, should_stop=interrupt)
    held.let_go.set()
    for message_id in ids[:2]:
        await_condition(lambda wanted=message_id: outbox.get(wanted).status is Status.DELIVERED, "an outcome")  # type: ignore[misc]
    assert len(chat.sent) == len([status for status in statuses(outbox, ids) if status == "delivered"])


def interrupt_after_the_first_send(outbox: Outbox, chat: Chat) -> None:
    """In the midst of the settle."""

    def interrupt(*_arguments: Any) -> None:
        if chat.sent:
            event.remove(outbox.store.engine, "before_cursor_execute", interrupt)
            raise Interrupted

    event.listen(outbox.store.engine, "before_cursor_execute", interrupt)


@BOTH
def test_an_interrupted_task_records_the_group_that_it_has_gathered(
    outbox: Outbox, kind: type[Chat], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One send has ended and waits for others to be recorded with it; the other is under way."""
    monkeypatch.setattr(unwritten, "GROUP_AGE_S", 3600.0)
    held, gathered = Held(), []

    async def slow(_message: Message, _attempt: Attempt) -> None:
        while not held.let_go.is_set():
            await asyncio.sleep(0.005)

    outbox.register(kind(behaviour={"1": slow if kind is AsyncChat else held}, concurrency=2))
    ids = enqueue_many(outbox, 2)
    add = unwritten.Unwritten.add
    monkeypatch.setattr(unwritten.Unwritten, "add", lambda self, ended: (gathered.append(ended), add(self, ended)))

    def interrupt() -> bool:
        if gathered:
            raise Interrupted
        return False

    with pytest.raises(Interrupted):
        deliver(outbox, should_stop=interrupt)
    assert statuses(outbox, ids) == ["delivered", "sending"]
    held.let_go.set()
    await_condition(lambda: statuses(outbox, ids) == ["delivered"] * 2, "the other outcome")


def test_an_interruption_in_the_midst_of_a_settle_loses_no_outcome(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outbox.keeping.RETRY_S", 3600.0)
    chat = Chat()
    outbox.register(chat)
    (message_id,) = enqueue_many(outbox, 1)
    claims = claim(outbox)
    interrupt_after_the_first_send(outbox, chat)
    with pytest.raises(Interrupted):
        deliver(outbox, claims)
    assert statuses(outbox, [message_id]) == ["sending"]
    outbox.close()
    assert statuses(outbox, [message_id]) == ["delivered"]
    assert chat.sent == ["0"]


def test_an_interruption_gives_back_those_behind_a_failure(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outbox.keeping.RETRY_S", 3600.0)
    chat = Chat(behaviour=raising(RetryLater("busy")), key_window=1)
    outbox.register(chat)
    ids = enqueue_many(outbox, 3, ordering_key="k")
    claims = claim(outbox)
    interrupt_after_the_first_send(outbox, chat)
    with pytest.raises(Interrupted):
        deliver(outbox, claims)
    assert statuses(outbox, ids) == ["sending", "queued", "queued"]


def test_an_enqueue_of_the_handlers_own_is_committed_by_itself(outbox: Outbox) -> None:
    """A handler may enqueue the next message, in a transaction of its own, while its own row is being sent."""

    def chain(message: Message, _attempt: Attempt) -> None:
        if message.target == "0":
            with outbox.store.transaction() as tx:
                outbox.enqueue_many(tx.connection, [NewMessage(channel="chat", target="next")])

    chat = Chat(behaviour=chain)
    outbox.register(chat)
    enqueue_many(outbox, 1)
    outbox.drain()
    assert chat.sent == ["0", "next"]
