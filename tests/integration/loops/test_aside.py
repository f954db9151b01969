"""A task whose slot others wait for: it ends, its sends go on in its process, and later tasks of its channel join them."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from outbox import Backoff, Channel, NotReady, Outbox, RetryLater
from outbox.delivery_loop import DeliveryLoop
from outbox.delivery_report import DeliveryReport
from outbox.message import Attempt, Claim, Message
from outbox.slots import Slot
from tests.integration.conftest import OpenOutbox
from tests.integration.loops.scene import (
    WAIT_S,
    Chat,
    Held,
    InThread,
    await_condition,
    claim,
    deliver,
    enqueue_many,
    put,
    raising,
    rows,
    statuses,
)

PATIENCE_S = 0.01


def wanted() -> bool:
    return True


def unwanted() -> bool:
    return False


def slot(is_wanted: Callable[[], bool] = wanted, wake: Callable[[], None] = lambda: None) -> Slot:
    """One that is given up for a slow send, however long the task has it."""
    return Slot(is_wanted, wake, send_s=PATIENCE_S, patience_s=WAIT_S)


class Gated:
    """A behaviour that waits at a gate of its own for each target, and counts who waits."""

    def __init__(self) -> None:
        self._gates: dict[str, threading.Event] = {}
        self._lock = threading.Lock()
        self.inside: set[str] = set()
        self.most_inside = 0

    def open(self, target: str) -> None:
        self._gate(target).set()

    def await_inside(self, *targets: str) -> None:
        await_condition(lambda: self.inside == set(targets), f"{targets} to be sent, and nobody else")

    def _gate(self, target: str) -> threading.Event:
        with self._lock:
            return self._gates.setdefault(target, threading.Event())

    def __call__(self, message: Message, _attempt: Attempt) -> None:
        with self._lock:
            self.inside.add(message.target)
            self.most_inside = max(self.most_inside, len(self.inside))
        assert self._gate(message.target).wait(WAIT_S)
        with self._lock:
            self.inside.remove(message.target)


@pytest.fixture
def gated() -> Gated:
    return Gated()


@pytest.fixture
def chat(gated: Gated) -> Channel:
    return Chat(behaviour=gated, timeout=60)


@pytest.fixture
def outbox(open_outbox: OpenOutbox, chat: Channel) -> Outbox:
    outbox = open_outbox()
    outbox.register(chat)
    return outbox


def delivered(outbox: Outbox, ids: list[str]) -> None:
    await_condition(lambda: statuses(outbox, ids) == ["delivered"] * len(ids), "all to be delivered")


def test_a_task_whose_slot_is_wanted_ends_and_its_sends_go_on(outbox: Outbox, gated: Gated) -> None:
    ids = enqueue_many(outbox, 3)

    report = deliver(outbox, slot=slot())

    assert (report.aside, report.statuses, report.refused, report.released) == (3, {}, 0, 0)
    gated.await_inside("0")
    assert statuses(outbox, ids) == ["sending", "dispatched", "dispatched"]
    for target in ("0", "1", "2"):
        gated.open(target)
    delivered(outbox, ids)
    assert [row.attempt_count for row in rows(outbox, ids)] == [1, 1, 1]
    outbox.delivery.finish_aside()
    assert outbox.store.violations(10) == []


def test_what_came_of_it_before_is_reported(outbox: Outbox, gated: Gated) -> None:
    ids = enqueue_many(outbox, 3)
    gated.open("0")
    gated.open("1")
    go = threading.Event()

    def is_wanted() -> bool:
        return statuses(outbox, ids)[:2] == ["delivered", "delivered"] or go.is_set()

    report = deliver(outbox, slot=slot(is_wanted))

    assert (report.aside, report.statuses) == (1, {"delivered": 2})
    gated.open("2")
    delivered(outbox, ids)


@pytest.mark.parametrize("kept", [None, slot(unwanted)], ids=["no slot", "a slot nobody waits for"])
def test_a_task_that_nobody_waits_for_stays_to_the_end(outbox: Outbox, gated: Gated, kept: Slot | None) -> None:
    ids = enqueue_many(outbox, 1)
    task = InThread(lambda: deliver(outbox, slot=kept))
    gated.await_inside("0")
    time.sleep(20 * PATIENCE_S)
    assert task.running

    gated.open("0")

    report = task.result()
    assert (report.aside, report.statuses) == (0, {"delivered": 1})
    assert statuses(outbox, ids) == ["delivered"]


@pytest.mark.parametrize(("patience_s", "steps_aside"), [(0.2, True), (600.0, False)])
def test_many_quick_sends_keep_the_slot_for_a_while(open_outbox: OpenOutbox, patience_s: float, steps_aside: bool) -> None:
    outbox = open_outbox()
    outbox.register(Chat(behaviour=lambda _m, _a: time.sleep(0.02), timeout=60))
    ids = enqueue_many(outbox, 30)

    report = deliver(outbox, slot=Slot(wanted, lambda: None, send_s=5.0, patience_s=patience_s))

    assert bool(report.aside) is steps_aside
    delivered(outbox, ids)


def test_later_tasks_of_the_channel_join_it_and_send_no_more_at_once(outbox: Outbox, gated: Gated) -> None:
    first = enqueue_many(outbox, 2)
    deliver(outbox, slot=slot())
    gated.await_inside("0")
    second = enqueue_many(outbox, 2)

    report = deliver(outbox, slot=slot(unwanted))

    assert (report.aside, report.statuses) == (2, {})
    for target in ("0", "1"):
        gated.open(target)
    delivered(outbox, first + second)
    assert gated.most_inside == 1


def test_a_task_without_a_slot_joins_nobody(outbox: Outbox, gated: Gated) -> None:
    enqueue_many(outbox, 1)
    deliver(outbox, slot=slot())
    gated.await_inside("0")
    late = enqueue_many(outbox, 1, target="1")
    gated.open("1")
    gated.open("0")

    assert deliver(outbox).aside == 0
    assert statuses(outbox, late) == ["delivered"]


def test_another_channels_task_joins_nobody(outbox: Outbox, gated: Gated) -> None:
    outbox.register(Chat("mail"))
    enqueue_many(outbox, 1)
    deliver(outbox, slot=slot())
    gated.await_inside("0")
    ids = enqueue_many(outbox, 2, "mail")

    assert deliver(outbox, channel="mail", slot=slot(unwanted)).statuses == {"delivered": 2}
    assert statuses(outbox, ids) == ["delivered"] * 2
    gated.open("0")


def test_a_second_copy_of_what_goes_on_is_not_sent_again(outbox: Outbox, chat: Chat, gated: Gated) -> None:
    ids = enqueue_many(outbox, 3, ordering_key="a")
    claims = claim(outbox)
    deliver(outbox, claims, slot=slot())
    gated.await_inside("0")

    deliver(outbox, claims, slot=slot())

    for target in ("0", "1", "2"):
        gated.open(target)
    delivered(outbox, ids)
    outbox.delivery.finish_aside()
    assert chat.sent == ["0", "1", "2"]
    assert [row.attempt_count for row in rows(outbox, ids)] == [1, 1, 1]


class JoinsFirst:
    """A loop's lock that another task gets before the loop does, when it is about to say that it is over."""

    def __init__(self, loop: DeliveryLoop, join: Callable[[], object]) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._join: Callable[[], object] | None = join
        loop._inbox._lock = self  # type: ignore[assignment]

    def __enter__(self) -> None:
        if threading.current_thread().name == "outbox-aside" and not self._loop._under_way and self._join is not None:
            join, self._join = self._join, None
            join()
        self._lock.acquire()

    def __exit__(self, *_error: object) -> None:
        self._lock.release()


def test_who_joins_at_the_last_moment_is_not_left_behind(outbox: Outbox, gated: Gated) -> None:
    ids = enqueue_many(outbox, 1)
    deliver(outbox, slot=slot())
    gated.await_inside("0")
    ids += enqueue_many(outbox, 1, target="1")
    claims, joined = claim(outbox), []
    [loop] = outbox.delivery._loops
    JoinsFirst(loop, lambda: joined.append(deliver(outbox, claims, slot=slot(unwanted))))
    gated.open("1")
    gated.open("0")

    delivered(outbox, ids)
    assert [report.aside for report in joined] == [1]


def test_the_keys_of_two_tasks_are_not_taken_for_one(open_outbox: OpenOutbox, gated: Gated) -> None:
    """Through a broker, each task numbers its keys from 1."""
    outbox = open_outbox()
    outbox.register(Chat(behaviour=gated, concurrency=2, timeout=60))
    numbered = [Claim(found.id, found.lease, "1") for found in claim_of(outbox, "a", "0", "1")]
    deliver(outbox, numbered, slot=slot())
    gated.await_inside("0")

    deliver(outbox, [Claim(found.id, found.lease, "1") for found in claim_of(outbox, "b", "2")], slot=slot())

    gated.await_inside("0", "2")  # and "1" waits for "0" alone
    gated.open("2")
    gated.await_inside("0")
    gated.open("0")
    gated.await_inside("1")
    gated.open("1")
    outbox.delivery.finish_aside()


def test_a_key_that_looks_like_a_number_of_another_task_is_not_taken_for_it(open_outbox: OpenOutbox, gated: Gated) -> None:
    """A task that claims by itself has the keys themselves."""
    outbox = open_outbox()
    outbox.register(Chat(behaviour=gated, concurrency=2, timeout=60))
    gated.open("0")
    deliver(outbox, [*claim_of(outbox, "1.1", "0"), *claim_of(outbox, "z", "slow")], slot=slot())
    gated.await_inside("slow")

    deliver(outbox, [Claim(found.id, found.lease, "1") for found in claim_of(outbox, "b", "2")], slot=slot())

    gated.await_inside("slow", "2")
    gated.open("2")
    gated.open("slow")
    outbox.delivery.finish_aside()


def claim_of(outbox: Outbox, key: str, *targets: str) -> list[Claim]:
    for target in targets:
        enqueue_many(outbox, 1, ordering_key=key, target=target)
    return claim(outbox)


def test_told_to_finish_it_begins_nothing_new_and_is_waited_for(outbox: Outbox, gated: Gated) -> None:
    ids = enqueue_many(outbox, 2)
    deliver(outbox, slot=slot())
    gated.await_inside("0")

    finishing = InThread(outbox.delivery.finish_aside)
    await_condition(lambda: statuses(outbox, ids) == ["sending", "queued"], "the rest to be given back")
    assert finishing.running
    gated.open("0")
    finishing.result()

    assert statuses(outbox, ids) == ["delivered", "queued"]
    assert [row.attempt_count for row in rows(outbox, ids)] == [1, 0]


def test_past_its_budget_it_gives_back_what_has_not_begun(outbox: Outbox, gated: Gated) -> None:
    ids = enqueue_many(outbox, 2)
    woken = threading.Event()
    deliver(outbox, slot=slot(wake=woken.set), budget_s=0.1)

    await_condition(lambda: statuses(outbox, ids) == ["sending", "queued"], "the rest to be given back")
    assert not woken.is_set()
    gated.open("0")

    assert woken.wait(WAIT_S), "nobody is told that rows are due again"


def test_the_relay_is_woken_when_rows_behind_it_become_due(open_outbox: OpenOutbox, gated: Gated) -> None:
    outbox = open_outbox()
    outbox.register(Chat(behaviour=gated, concurrency=2, batch_size=1, timeout=60))
    enqueue_many(outbox, 2, ordering_key="a")
    enqueue_many(outbox, 1, target="slow")
    claims = claim(outbox)
    woken = threading.Event()
    deliver(outbox, claims, slot=slot(wake=woken.set))
    gated.await_inside("0", "slow")
    assert not woken.is_set()

    gated.open("0")

    assert woken.wait(WAIT_S), "nobody is told that the next of the key is due"
    gated.open("slow")
    gated.open("1")


def test_the_relay_is_woken_when_the_allowance_is_free_again(outbox: Outbox, gated: Gated) -> None:
    enqueue_many(outbox, 1)
    woken = threading.Event()
    deliver(outbox, slot=slot(wake=woken.set), capped=True)
    gated.await_inside("0")
    assert not woken.is_set()

    gated.open("0")

    assert woken.wait(WAIT_S)


def test_a_channel_that_was_slow_makes_way_before_anybody_waits(outbox: Outbox, gated: Gated) -> None:
    enqueue_many(outbox, 1)
    deliver(outbox, slot=slot())
    gated.await_inside("0")
    gated.open("0")
    outbox.delivery.finish_aside()
    ids = enqueue_many(outbox, 1, target="1")

    report = deliver(outbox, slot=slot(unwanted))

    assert report.aside == 1
    gated.open("1")
    delivered(outbox, ids)

    slow_until = outbox.delivery.slow_channels.until("chat")
    enqueue_many(outbox, 1, target="2")
    assert deliver(outbox, slot=slot(unwanted)).aside == 1
    assert outbox.delivery.slow_channels.until("chat") == slow_until  # that nobody waited for it proves nothing
    gated.open("2")


def test_a_task_that_begins_nothing_more_makes_way_as_well(open_outbox: OpenOutbox, gated: Gated) -> None:
    outbox = open_outbox()
    outbox.register(Chat(behaviour={"0": raising(NotReady("not yet")), "1": gated}, concurrency=2, timeout=60))
    ids = enqueue_many(outbox, 2)
    waits = threading.Event()
    task = InThread(lambda: deliver(outbox, slot=slot(waits.is_set)))
    gated.await_inside("1")
    await_condition(lambda: statuses(outbox, ids)[0] != "sending", "the refusal to be on record")
    time.sleep(20 * PATIENCE_S)
    assert task.running

    waits.set()

    assert task.result().aside == 1
    gated.open("1")


def test_past_its_budget_it_is_joined_again(outbox: Outbox, gated: Gated) -> None:
    ids = enqueue_many(outbox, 2)
    deliver(outbox, slot=slot(), budget_s=0.1)
    await_condition(lambda: statuses(outbox, ids) == ["sending", "queued"], "the rest to be given back")

    assert deliver(outbox, slot=slot(unwanted)).aside == 1

    gated.open("1")
    gated.open("0")
    delivered(outbox, ids)
    assert gated.most_inside == 1


def test_beside_one_that_begins_nothing_more_only_as_much_is_sent_as_there_is_room(
    open_outbox: OpenOutbox, gated: Gated
) -> None:
    outbox = open_outbox()
    outbox.register(
        Chat(behaviour={"0": raising(NotReady("not yet")), **dict.fromkeys("123", gated)}, concurrency=2, timeout=60)
    )
    enqueue_many(outbox, 4)
    claims = claim(outbox)
    deliver(outbox, claims[:2], slot=slot())
    gated.await_inside("1")
    await_condition(lambda: all(loop._stopping for loop in outbox.delivery._loops), "the loop to begin nothing more")

    report = deliver(outbox, claims[2:], slot=slot())

    gated.await_inside("1", "2")
    assert report.aside == 2
    gated.open("1")
    gated.await_inside("2", "3")
    gated.open("2")
    gated.open("3")
    outbox.delivery.finish_aside()
    assert gated.most_inside == 2


def test_in_a_process_of_several_slots_so_many_loops_share_the_work(outbox: Outbox, gated: Gated) -> None:
    enqueue_many(outbox, 6)
    claims = claim(outbox)
    threads = replace(slot(), beside=2)
    deliver(outbox, claims[:2], slot=threads)
    deliver(outbox, claims[2:3], slot=threads)
    gated.await_inside("0", "2")

    deliver(outbox, claims[3:], slot=threads)

    joined = [sum(map(len, loop._inbox._claims)) + len(loop._line) for loop in outbox.delivery._loops]
    assert sorted(joined) in ([1, 3], [0, 4])
    for target in "012345":
        gated.open(target)
    outbox.delivery.finish_aside()
    assert gated.most_inside == 2


def test_a_claim_with_a_newer_lease_is_no_second_copy(outbox: Outbox, chat: Chat, gated: Gated) -> None:
    ids = enqueue_many(outbox, 2)
    deliver(outbox, slot=slot())
    gated.await_inside("0")
    outbox.cancel(ids[1])
    outbox.retry(ids[1])
    claims = claim(outbox)

    deliver(outbox, claims, slot=slot())

    gated.open("1")
    gated.open("0")
    delivered(outbox, ids)
    assert chat.sent == ["0", "1"]


def test_where_no_thread_can_be_had_the_task_stays(outbox: Outbox, gated: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = enqueue_many(outbox, 1)
    started = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "outbox-aside":
            raise RuntimeError("can't start new thread")
        started(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    task = InThread(lambda: deliver(outbox, slot=slot()))
    gated.await_inside("0")
    gated.open("0")
    task.result()

    assert statuses(outbox, ids) == ["delivered"]


def test_nothing_is_given_to_a_loop_that_hangs_on_its_database(
    outbox: Outbox, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.delivery_loop._DEAF_S", 0.3)
    enqueue_many(outbox, 1)
    deliver(outbox, slot=slot())
    gated.await_inside("0")
    hanging, frozen = Held(), outbox.delivery.recorder
    record_and_take = frozen.record_and_take

    def hang(*arguments: object) -> object:
        if threading.current_thread().name == "outbox-aside":
            hanging(None, None)  # type: ignore[arg-type]
        return record_and_take(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(frozen, "record_and_take", hang)
    gated.open("0")
    assert hanging.entered.wait(WAIT_S)
    time.sleep(0.4)
    ids = enqueue_many(outbox, 1, target="1")
    gated.open("1")

    assert deliver(outbox, slot=slot(unwanted)).statuses == {"delivered": 1}
    assert statuses(outbox, ids) == ["delivered"]
    hanging.let_go.set()
    outbox.delivery.finish_aside()


def test_what_fails_aside_is_settled_as_ever(open_outbox: OpenOutbox) -> None:
    outbox = open_outbox()
    held = Held()

    def fail_later(message: Message, attempt: Attempt) -> None:
        held(message, attempt)
        raising(RetryLater("busy"))(message, attempt)

    outbox.register(Chat(behaviour=fail_later, backoff=Backoff((600,), jitter=0), timeout=60))
    ids = enqueue_many(outbox, 1)
    deliver(outbox, slot=slot())
    assert held.entered.wait(WAIT_S)
    held.let_go.set()

    await_condition(lambda: statuses(outbox, ids) == ["failed_retryable"], "the failure to be on record")
    assert rows(outbox, ids)[0].last_error == "busy"


def test_a_claim_that_joined_with_a_lease_that_is_over_is_refused(outbox: Outbox, chat: Chat, gated: Gated) -> None:
    enqueue_many(outbox, 1)
    deliver(outbox, slot=slot())
    gated.await_inside("0")
    ids = enqueue_many(outbox, 1, target="1")
    claims = claim(outbox)
    put(outbox, ids[0], lease=claims[0].lease + 5)

    report: DeliveryReport = deliver(outbox, claims, slot=slot())
    gated.open("0")
    outbox.delivery.finish_aside()

    assert report.aside == 1
    assert chat.sent == ["0"]
