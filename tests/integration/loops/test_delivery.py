"""The delivery loop: windows, order, budgets, and what every kind of answer comes to."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event

from outbox import (
    Attempt,
    Backoff,
    Message,
    NewMessage,
    NotReady,
    Outbox,
    PermanentFailure,
    Receipt,
    RetryLater,
    Suppressed,
)
from outbox.lifecycle import Status
from outbox.store.records import GateKind
from outbox.telemetry import AttemptFinished, TakeRefused
from tests.integration.loops.scene import (
    WAIT_S,
    AsyncChat,
    Chat,
    Events,
    Held,
    Row,
    await_condition,
    claim,
    deliver,
    enqueue,
    enqueue_many,
    one_after_another,
    put,
    raising,
    returning,
    rows,
    statuses,
)

BOTH = pytest.mark.parametrize("kind", [Chat, AsyncChat], ids=["plain", "async"])


@BOTH
def test_the_adapter_gets_the_message_as_it_was_enqueued(outbox: Outbox, kind: type[Chat]) -> None:
    chat = kind(timeout=7.0)
    outbox.register(chat)
    (message_id,) = enqueue(
        outbox,
        NewMessage(
            channel="chat", target="room", payload={"n": (1, 2.0)}, headers={"trace": "x"}, account_id="acme", turn_id="t",
            idempotency_key="order-1",
        ),
    )  # fmt: skip
    report = deliver(outbox)
    (message,), (attempt,) = chat.messages, chat.attempts
    assert (message.id, message.payload, message.headers) == (message_id, {"n": (1, 2.0)}, {"trace": "x"})
    assert (message.account_id, message.turn_id, message.target) == ("acme", "t", "room")
    assert (attempt.number, attempt.lease, attempt.idempotency_key) == (1, 1, "order-1")
    assert (attempt.is_recovery, attempt.timeout_s) == (False, 7.0)
    assert attempt.deadline_ms >= Row(outbox, message_id).last_attempt_at + 7_000
    assert dict(report.statuses) == {Status.DELIVERED: 1}


@pytest.mark.proves("R4")
@BOTH
def test_r4_a_delivery_records_when_and_with_what_receipt_and_keeps_the_row(outbox: Outbox, kind: type[Chat]) -> None:
    outbox.register(kind(behaviour=returning(Receipt("id-7", {"queue": 3}))))
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    message = outbox.get(message_id)
    assert message.status is Status.DELIVERED
    assert message.last_attempt_at is not None
    assert message.delivered_at is not None
    assert message.completed_at is not None
    assert message.queued_at <= message.last_attempt_at <= message.delivered_at <= message.completed_at
    assert message.receipt == {"provider_id": "id-7", "details": {"queue": 3}}


@BOTH
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_kill_leaves_at_most_the_channels_concurrency_of_unknown_outcomes(
    outbox: Outbox, kind: type[Chat], concurrency: int
) -> None:
    sending: list[int] = []

    def look(_message: Message, _attempt: Attempt) -> None:
        (stats,) = outbox.stats()
        sending.append(stats.by_status.get(Status.SENDING, 0))

    outbox.register(kind(behaviour=look, concurrency=concurrency))
    ids = enqueue_many(outbox, 20)
    deliver(outbox)
    assert statuses(outbox, ids) == ["delivered"] * 20
    assert max(sending) <= concurrency


def test_as_many_sends_as_the_channel_allows_are_under_way_at_once(outbox: Outbox) -> None:
    meeting = threading.Barrier(3, timeout=WAIT_S)
    outbox.register(Chat(behaviour=lambda _m, _a: meeting.wait(), concurrency=3))
    ids = enqueue_many(outbox, 6)
    deliver(outbox)
    assert statuses(outbox, ids) == ["delivered"] * 6


def test_as_many_async_sends_as_the_channel_allows_are_under_way_at_once(outbox: Outbox) -> None:
    together, most = 0, 0

    async def meet(_message: Message, _attempt: Attempt) -> None:
        nonlocal together, most
        together += 1
        most = max(most, together)
        async with asyncio.timeout(WAIT_S):
            while most < 3:
                await asyncio.sleep(0)
        together -= 1

    outbox.register(AsyncChat(behaviour=meet, concurrency=3))
    ids = enqueue_many(outbox, 6)
    deliver(outbox)
    assert statuses(outbox, ids) == ["delivered"] * 6
    assert most == 3


@pytest.fixture
def commits(outbox: Outbox) -> Iterator[list[int]]:
    """One entry for each transaction that the outbox committed and that wrote something."""
    seen: list[int] = []
    wrote = False

    def statement(_c: Any, _cursor: Any, text: str, *_rest: Any) -> None:
        nonlocal wrote
        wrote = wrote or text.lstrip().upper().startswith(("UPDATE", "INSERT", "DELETE"))

    def commit(_connection: Any) -> None:
        nonlocal wrote
        seen.extend([1] if wrote else [])
        wrote = False

    event.listen(outbox.store.engine, "before_cursor_execute", statement)
    event.listen(outbox.store.engine, "commit", commit)
    yield seen
    event.remove(outbox.store.engine, "commit", commit)


def test_each_settle_travels_with_the_next_take(outbox: Outbox, commits: list[int]) -> None:
    outbox.register(Chat(concurrency=1))
    enqueue_many(outbox, 10)
    claims = claim(outbox)
    commits.clear()
    deliver(outbox, claims)
    assert len(commits) == 11


def test_a_window_is_taken_and_settled_in_one_transaction_each(outbox: Outbox, commits: list[int]) -> None:
    meeting = threading.Barrier(10, timeout=WAIT_S)
    outbox.register(Chat(behaviour=lambda _m, _a: meeting.wait(), concurrency=10))
    enqueue_many(outbox, 10)
    claims = claim(outbox)
    commits.clear()
    deliver(outbox, claims)
    assert len(commits) <= 4  # the take, and settles of whatever ended together


@BOTH
def test_invariant_2_no_transaction_is_open_while_a_message_is_sent(outbox: Outbox, kind: type[Chat]) -> None:
    open_ones: list[int] = []
    chat = kind(behaviour=lambda _m, _a: open_ones.append(outbox.store.engine.pool.checkedout()), concurrency=1)  # type: ignore[attr-defined]
    outbox.register(chat)
    enqueue_many(outbox, 5)
    deliver(outbox)
    assert open_ones == [0] * 5


# Order within a key.


@pytest.mark.proves("T40")
@BOTH
def test_t40_rows_of_one_key_are_sent_in_order_and_never_two_at_once(outbox: Outbox, kind: type[Chat]) -> None:
    under_way: list[str] = []
    most: list[int] = []

    def send(message: Message, _attempt: Attempt) -> None:
        under_way.append(message.target)
        most.append(len(under_way))
        time.sleep(0.001)
        under_way.remove(message.target)

    chat = kind(behaviour=send, concurrency=8, key_window=8)
    outbox.register(chat)
    ids = enqueue_many(outbox, 20, ordering_key="k")
    deliver(outbox)
    assert chat.sent == [str(number) for number in range(20)]
    assert set(most) == {1}
    assert set(statuses(outbox, ids)) == {"delivered"}


@BOTH
def test_no_more_rows_of_a_key_are_taken_than_may_be_under_way(outbox: Outbox, kind: type[Chat]) -> None:
    taken: list[int] = []
    chat = kind(behaviour=lambda _m, _a: taken.append(statuses(outbox, ids).count("sending")), concurrency=8, key_window=3)
    outbox.register(chat)
    ids = enqueue_many(outbox, 9, ordering_key="k")
    deliver(outbox)
    assert len(taken) == 9
    assert max(taken) == 3


@BOTH
def test_a_row_that_waited_behind_another_of_its_key_has_the_whole_timeout(outbox: Outbox, kind: type[Chat]) -> None:
    chat = kind(behaviour={"0": lambda _m, _a: time.sleep(0.5)}, concurrency=2, key_window=2, timeout=5)
    outbox.register(chat)
    events = Events(outbox)
    enqueue_many(outbox, 2, ordering_key="k")
    deliver(outbox)
    first, second = chat.attempts
    assert second.deadline_ms - first.deadline_ms >= 500
    waited, at_once = events.of(AttemptFinished)
    assert waited.duration_ms >= 500 > at_once.duration_ms


@BOTH
def test_unless_its_channel_says_otherwise_each_row_of_a_key_begins_after_the_record_of_the_last(
    outbox: Outbox, kind: type[Chat]
) -> None:
    earlier: list[list[str]] = []
    chat = kind(behaviour=lambda m, _a: earlier.append(statuses(outbox, ids[: int(m.target)])), concurrency=8)
    outbox.register(chat)
    ids = enqueue_many(outbox, 10, ordering_key="k")
    deliver(outbox)
    assert chat.sent == [str(number) for number in range(10)]
    assert earlier == [["delivered"] * number for number in range(10)]


def test_keys_do_not_wait_for_each_other(outbox: Outbox) -> None:
    meeting = threading.Barrier(2, timeout=WAIT_S)
    chat = Chat(behaviour=lambda _m, _a: meeting.wait(), concurrency=2)
    outbox.register(chat)
    enqueue(outbox, *(NewMessage(channel="chat", target=f"{key}{n}", ordering_key=key) for key in "ab" for n in range(3)))
    deliver(outbox)
    assert [target for target in chat.sent if target[0] == "a"] == ["a0", "a1", "a2"]
    assert [target for target in chat.sent if target[0] == "b"] == ["b0", "b1", "b2"]


FAILURES = {
    "retry": RetryLater("HTTP 503"),
    "unknown": TimeoutError("no answer"),
    "not ready": NotReady("not connected"),
    "permanent": PermanentFailure("HTTP 404"),
    "withheld": Suppressed("nothing to say"),
}


@BOTH
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("window", [1, 4])
def test_followers_of_a_head_that_is_not_delivered_are_released_uncharged(
    outbox: Outbox, kind: type[Chat], failure: str, window: int
) -> None:
    chat = kind(behaviour={"1": raising(FAILURES[failure])}, concurrency=4, key_window=window)
    outbox.register(chat)
    ids = enqueue_many(outbox, 5, ordering_key="k")
    report = deliver(outbox)
    assert chat.sent == ["0", "1"]
    assert report.released == 3
    followers = rows(outbox, ids[2:])
    assert [(row.status, row.attempt_count, row.lease_until) for row in followers] == [("queued", 0, None)] * 3


@BOTH
def test_a_task_that_is_told_to_stop_gives_back_the_rest_of_a_key_uncharged(outbox: Outbox, kind: type[Chat]) -> None:
    chat = kind(concurrency=4, key_window=4)
    outbox.register(chat)
    ids = enqueue_many(outbox, 8, ordering_key="k")
    deliver(outbox, should_stop=lambda: len(chat.sent) >= 2)
    found = rows(outbox, ids)
    sent = len(chat.sent)
    assert 2 <= sent < 8
    assert chat.sent == [str(number) for number in range(sent)]
    assert [(row.status, row.attempt_count) for row in found] == [("delivered", 1)] * sent + [("queued", 0)] * (8 - sent)


def test_those_behind_a_send_that_hangs_are_given_back_uncharged(outbox: Outbox) -> None:
    wedged = Held()
    chat = Chat(behaviour={"1": wedged}, timeout=0.2, concurrency=4, key_window=4)
    outbox.register(chat)
    ids = enqueue_many(outbox, 4, ordering_key="k")
    deliver(outbox)
    assert chat.sent == ["0", "1"]
    found = [(row.status, row.attempt_count) for row in rows(outbox, ids)]
    assert found == [("delivered", 1), ("failed_retryable", 1), ("queued", 0), ("queued", 0)]
    wedged.let_go.set()
    await_condition(lambda: outbox.get(ids[1]).status is Status.DELIVERED, "the late success")


def test_rows_whose_turn_comes_too_late_for_their_lease_are_given_back_uncharged(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.leases.LEASE_MARGIN_S", 1.5)
    chat = Chat(behaviour=lambda _m, _a: time.sleep(0.8), timeout=5.0, concurrency=4, key_window=4)
    outbox.register(chat)
    ids = enqueue_many(outbox, 4, ordering_key="k")
    report = deliver(outbox)
    sent = len(chat.sent)
    assert 1 <= sent < 4
    assert report.statuses == {"delivered": sent}
    assert [row.attempt_count for row in rows(outbox, ids)] == [1] * sent + [0] * (4 - sent)
    outbox.drain()
    assert chat.sent == ["0", "1", "2", "3"]


def test_a_row_that_waits_for_its_turn_in_vain_does_not_end_the_task(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a send that does not return may have lost its thread."""
    monkeypatch.setattr("outbox.leases.LEASE_MARGIN_S", 3.0)
    chat = Chat(behaviour=lambda m, _a: time.sleep(4.0 if m.target == "a0" else 0.12), timeout=9.0, concurrency=3, key_window=3)
    outbox.register(chat)
    slow = enqueue(outbox, *(NewMessage(channel="chat", target=f"a{n}", ordering_key="a") for n in range(2)))
    quick = enqueue(outbox, *(NewMessage(channel="chat", target=f"b{n}", ordering_key="b") for n in range(36)))
    deliver(outbox)
    assert statuses(outbox, slow) == ["delivered", "queued"]
    assert set(statuses(outbox, quick)) == {"delivered"}


def test_a_heartbeat_that_misses_forbids_the_send(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first of a key is being sent, the next, which was taken with it, becomes somebody else's."""
    monkeypatch.setattr("outbox.leases.LONGEST_UNEXTENDED_LEASE_S", 0.3)
    beats, extend = [0], outbox.store.extend

    def count(*held: Any, **lease: Any) -> set[str]:
        beats[0] += 1
        return extend(*held, **lease)

    def lose_the_next(_message: Message, _attempt: Attempt) -> None:
        put(outbox, ids[1], lease=99)
        heard = beats[0]
        await_condition(lambda: beats[0] > heard + 1, "a heartbeat that has missed")

    monkeypatch.setattr(outbox.store, "extend", count)
    chat = Chat(behaviour={"0": lose_the_next}, timeout=15, concurrency=2, key_window=2)
    outbox.register(chat)
    ids = enqueue_many(outbox, 2, ordering_key="k")
    deliver(outbox)
    assert chat.sent == ["0"]
    assert [(row.status, row.lease) for row in rows(outbox, ids)] == [("delivered", 1), ("sending", 99)]


def test_after_a_head_that_is_tried_again_the_order_is_kept(outbox: Outbox) -> None:
    failed: list[int] = []

    def fail_once(message: Message, attempt: Attempt) -> None:
        if message.target == "1" and attempt.number == 1:
            failed.append(1)
            raise RetryLater("busy", after=0)

    chat = Chat(behaviour=fail_once)
    outbox.register(chat)
    enqueue_many(outbox, 4, ordering_key="k")
    outbox.drain()
    assert chat.sent == ["0", "1", "1", "2", "3"]


# The way back: duplicates, budgets, stopping.


def test_a_broker_duplicate_is_turned_away_before_anything_is_sent(outbox: Outbox) -> None:
    chat, events = Chat(concurrency=4), Events(outbox)
    outbox.register(chat)
    enqueue_many(outbox, 3)
    claims = claim(outbox)
    deliver(outbox, claims)
    report = deliver(outbox, claims)
    assert chat.sent == ["0", "1", "2"]
    assert (report.refused, dict(report.statuses)) == (3, {})
    assert sum(refused.count for refused in events.of(TakeRefused)) == 3


def test_the_same_claim_twice_in_one_task_is_sent_once(outbox: Outbox) -> None:
    chat = Chat(concurrency=4)
    outbox.register(chat)
    enqueue_many(outbox, 2)
    claims = claim(outbox)
    deliver(outbox, [*claims, *claims, *claims])
    assert sorted(chat.sent) == ["0", "1"]


def test_a_head_that_is_turned_away_gives_its_followers_back(outbox: Outbox) -> None:
    chat = Chat(concurrency=1)
    outbox.register(chat)
    ids = enqueue_many(outbox, 3, ordering_key="k")
    claims = claim(outbox)
    deliver(outbox, claims[:1])
    report = deliver(outbox, claims)
    assert (report.refused, report.released) == (1, 2)
    assert statuses(outbox, ids) == ["delivered", "queued", "queued"]


@pytest.mark.proves("R18")
def test_r18_what_has_not_begun_when_the_budget_is_spent_is_released_uncharged(outbox: Outbox) -> None:
    chat = Chat()
    outbox.register(chat)
    ids = enqueue_many(outbox, 5)
    report = deliver(outbox, budget_s=0.0)
    assert chat.sent == []
    assert report.released == 5
    assert [(row.status, row.attempt_count, row.lease) for row in rows(outbox, ids)] == [("queued", 0, 0)] * 5


@BOTH
def test_a_task_that_is_told_to_stop_ends_what_is_under_way_and_releases_the_rest(outbox: Outbox, kind: type[Chat]) -> None:
    chat = kind(concurrency=2)
    outbox.register(chat)
    ids = enqueue_many(outbox, 10)
    report = deliver(outbox, should_stop=lambda: len(chat.sent) >= 2)
    delivered = statuses(outbox, ids).count("delivered")
    assert delivered == len(chat.sent) == report.statuses[Status.DELIVERED]
    assert (report.released, delivered) == (10 - delivered, len(chat.sent))
    assert all(row.attempt_count == 0 for row in rows(outbox, ids) if row.status == "queued")


@BOTH
@pytest.mark.parametrize("ends", ["told to stop", "its budget spent"])
def test_what_was_taken_while_the_task_came_to_its_end_is_not_begun(
    outbox: Outbox, kind: type[Chat], ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A take may wait for a locked database until it is too late to send: the time between is that of others."""
    chat = kind()
    outbox.register(chat)
    ids = enqueue_many(outbox, 5)
    take, taken, budget_s = outbox.store.settle_and_take, threading.Event(), 1.0

    def take_slowly(*arguments: Any) -> Any:
        answer = take(*arguments)
        if not taken.is_set() and ends == "its budget spent":
            time.sleep(budget_s)
        taken.set()
        return answer

    monkeypatch.setattr(outbox.store, "settle_and_take", take_slowly)
    report = deliver(outbox, budget_s=budget_s, should_stop=lambda: ends == "told to stop" and taken.is_set())

    assert taken.is_set()
    assert chat.sent == []
    assert report.released == 5
    assert [(row.status, row.attempt_count) for row in rows(outbox, ids)] == [("queued", 0)] * 5


def test_a_released_row_that_failed_before_keeps_its_history(outbox: Outbox) -> None:
    outbox.register(Chat(behaviour=raising(RetryLater("busy", after=0))))
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    deliver(outbox, budget_s=0.0)
    row = Row(outbox, message_id)
    assert (row.status, row.attempt_count, row.last_error) == ("failed_retryable", 1, "busy")


# What answers come to.


@pytest.mark.proves("T14")
@BOTH
def test_a_channel_that_is_not_ready_charges_nothing_and_is_closed(outbox: Outbox, kind: type[Chat]) -> None:
    chat = kind(behaviour=raising(NotReady("no token")), concurrency=1)
    outbox.register(chat)
    ids = enqueue_many(outbox, 3)
    report = deliver(outbox)
    assert chat.sent == ["0"]
    assert report.released == 2
    first, *others = rows(outbox, ids)
    assert (first.status, first.attempt_count, first.last_error) == ("queued", 0, None)
    assert first.next_attempt_at >= first.last_attempt_at + 5_000
    assert [(row.status, row.attempt_count) for row in others] == [("queued", 0)] * 2
    (gate,) = outbox.store.gates()
    assert (gate.channel, gate.target, gate.kind, gate.reason) == ("chat", "", GateKind.NOT_READY, "no token")
    assert claim(outbox) == []


@pytest.mark.proves("T4")
@BOTH
def test_t4_a_suppressed_message_is_cancelled_with_its_reason(outbox: Outbox, kind: type[Chat]) -> None:
    outbox.register(kind(behaviour=raising(Suppressed("the user has left"))))
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    message = outbox.get(message_id)
    assert (message.status, message.terminal_reason) == (Status.CANCELLED, "the user has left")
    assert message.delivered_at is None


@BOTH
def test_a_destination_that_is_gone_is_closed_until_it_is_resumed(outbox: Outbox, kind: type[Chat]) -> None:
    outbox.register(kind(behaviour={"0": raising(PermanentFailure("HTTP 410", destination_gone=True))}))
    ids = enqueue_many(outbox, 2)
    deliver(outbox)
    assert statuses(outbox, ids) == ["failed_terminal", "delivered"]
    (gate,) = outbox.store.gates()
    assert (gate.target, gate.kind, gate.closed_until) == ("0", GateKind.GONE, None)


@pytest.mark.proves("R19", "T8")
@BOTH
@pytest.mark.parametrize("column", ["payload", "headers"])
@pytest.mark.parametrize("text", ["{", '{"$outbox":["UUID",5]}', '{"$outbox":["timedelta",[1000000000000,0,0]]}'])
def test_r19_a_corrupt_row_is_set_aside_unsent_and_its_neighbours_go_on(
    outbox: Outbox, kind: type[Chat], column: str, text: str
) -> None:
    chat = kind(concurrency=3)
    outbox.register(chat)
    ids = enqueue_many(outbox, 3, payload={"a": 1}, headers={"b": 2})
    put(outbox, ids[1], **{column: text})
    deliver(outbox)
    assert sorted(chat.sent) == ["0", "2"]
    assert statuses(outbox, ids) == ["delivered", "failed_terminal", "delivered"]
    assert outbox.get(ids[1]).last_error.startswith("invalid payload: ")  # type: ignore[union-attr]


@pytest.mark.proves("R12", "T28")
def test_the_idempotency_key_is_the_same_over_all_attempts(outbox: Outbox) -> None:
    chat = Chat(behaviour=raising(RetryLater("busy", after=0)))
    outbox.register(chat)
    keyed, plain = enqueue(
        outbox, NewMessage(channel="chat", target="a", idempotency_key="order-1"), NewMessage(channel="chat", target="b")
    )
    outbox.drain()
    keys = {target: {a.idempotency_key for m, a in _sends(chat) if m.target == target} for target in "ab"}
    assert keys == {"a": {"order-1"}, "b": {plain}}
    assert [a.number for m, a in _sends(chat) if m.target == "a"] == [1, 2, 3, 4, 5]
    assert [a.is_recovery for m, a in _sends(chat) if m.target == "a"] == [False, True, True, True, True]
    assert statuses(outbox, [keyed, plain]) == ["failed_terminal"] * 2


def _sends(chat: Chat) -> list[tuple[Message, Attempt]]:
    return list(zip(chat.messages, chat.attempts, strict=True))


@pytest.mark.proves("R11", "T25")
@pytest.mark.parametrize("kind", ["tool", "block"])
def test_r11_a_non_final_message_is_sent_once_and_ends(outbox: Outbox, kind: str) -> None:
    chat = Chat(behaviour=raising(RetryLater("busy", after=0)))
    outbox.register(chat)
    (message_id,) = enqueue_many(outbox, 1, dispatch_kind=kind)
    outbox.drain()
    row = Row(outbox, message_id)
    assert len(chat.sent) == 1
    assert (row.status, row.terminal_reason, row.last_error) == ("failed_terminal", "non_final_recovery_skip", "busy")


def test_r11_a_deferral_is_no_attempt_of_a_non_final_message(outbox: Outbox) -> None:
    outbox.register(Chat(behaviour=one_after_another(raising(NotReady("soon")), returning(None))))
    (message_id,) = enqueue_many(outbox, 1, dispatch_kind="tool")
    deliver(outbox)
    put(outbox, message_id, next_attempt_at=0)
    outbox.resume("chat")
    deliver(outbox)
    assert statuses(outbox, [message_id]) == ["delivered"]


# The attempt log and the events.


def test_each_failed_attempt_leaves_its_line_in_the_log(outbox: Outbox) -> None:
    errors = (RetryLater("first", after=0), TimeoutError("second"), PermanentFailure("third"))
    outbox.register(Chat(behaviour=one_after_another(*map(raising, errors)), backoff=Backoff((0,))))
    (message_id,) = enqueue_many(outbox, 1)
    outbox.drain()
    log = outbox.attempts(message_id)
    assert [(line.number, line.lease, line.outcome) for line in log] == [(1, 1, "retry"), (2, 2, "unknown"), (3, 3, "rejected")]
    assert [line.error_class for line in log] == ["transient", "unknown", "permanent"]
    assert {line.owner for line in log} == {outbox.owner()}


def test_each_attempt_is_told_once_and_without_payload_or_target(outbox: Outbox) -> None:
    events = Events(outbox)
    outbox.register(Chat(behaviour={"secret-room": raising(RetryLater("busy", after=30))}))
    enqueue(outbox, NewMessage(channel="chat", target="secret-room", payload="secret text"), NewMessage(channel="chat"))
    deliver(outbox)
    told = events.of(AttemptFinished)
    assert sorted((event.outcome, event.status, event.attempt) for event in told) == [
        ("delivered", "delivered", 1),
        ("retry", "failed_retryable", 1),
    ]
    assert {event.next_due_ms for event in told} == {None, 30_000}
    assert "secret" not in repr(events.all)
