"""Senders that are closed while somebody begins to send: each message is heard of at once, and nothing is left behind."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import pytest

from outbox.channels.base import Channel, FunctionChannel
from outbox.message import Attempt, Claim, Message
from outbox.outcome import Outcome, Unknown
from outbox.senders import Senders
from outbox.sending import NOT_BEGUN, Job
from outbox.trains import couple
from tests import factories

PATIENCE_S = 10.0
LOOP_THREAD = "outbox-send-loop"

ended: SimpleQueue[Outcome | None] = SimpleQueue()
hanging = threading.Event()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    hanging.clear()
    before = set(threading.enumerate())
    yield
    assert ended.empty()
    for thread in set(threading.enumerate()) - before:
        if thread.name == LOOP_THREAD:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "an event loop that nobody uses"


async def hang(_message: Message, _attempt: Attempt) -> None:
    hanging.set()
    await asyncio.sleep(PATIENCE_S)


def quick(_message: Message, _attempt: Attempt) -> None:
    pass


def trains(channel: Channel) -> list[list[Job]]:
    job = Job(channel, factories.message(id="0", channel="chat"), float("inf"), lambda _job, outcome: ended.put(outcome))
    return couple([Claim("0", 0)], [job])


class Overtaken(asyncio.SelectorEventLoop):
    """An event loop that is closed, if that can be, when somebody is just about to hand something to it."""

    overtake: Callable[[], None] | None = None

    def call_soon_threadsafe(self, *arguments, **options):  # type: ignore[no-untyped-def]
        if self.overtake is not None and threading.current_thread() is threading.main_thread():
            overtaking, self.overtake = threading.Thread(target=self.overtake), None
            overtaking.start()
            overtaking.join(0.5)
        return super().call_soon_threadsafe(*arguments, **options)


@pytest.fixture
def senders(monkeypatch: pytest.MonkeyPatch) -> Senders:
    """Senders that have an event loop already."""
    monkeypatch.setattr(asyncio, "new_event_loop", Overtaken)
    senders = Senders()
    senders.start(chat := FunctionChannel("chat", hang), trains(chat))
    assert hanging.wait(PATIENCE_S)
    return senders


def is_about_to_be_closed(senders: Senders) -> Overtaken:
    loop = senders._loop
    assert isinstance(loop, Overtaken)

    def close() -> None:
        senders.close([])
        while not loop.is_closed():
            time.sleep(0.001)

    loop.overtake = close
    return loop


@pytest.mark.parametrize("send", [quick, hang], ids=["plain", "async"])
def test_what_is_started_after_the_close_comes_back_as_not_begun(senders: Senders, send: Callable[..., object]) -> None:
    senders.close([])
    assert isinstance(ended.get(timeout=PATIENCE_S), Unknown)

    late = trains(channel := FunctionChannel("chat", send))
    senders.start(channel, late)

    assert ended.get(timeout=PATIENCE_S) is NOT_BEGUN
    assert not late[0][0].begin()


def test_what_is_started_while_they_are_closed_is_heard_of_at_once(senders: Senders) -> None:
    is_about_to_be_closed(senders)

    senders.start(chat := FunctionChannel("chat", hang), trains(chat))

    assert isinstance(ended.get(timeout=PATIENCE_S), Unknown)
    assert isinstance(ended.get(timeout=PATIENCE_S), Unknown)


def test_a_blocked_loop_that_is_being_closed_is_left_without_an_error(senders: Senders) -> None:
    is_about_to_be_closed(senders)

    senders.leave_blocked_loop()

    assert isinstance(ended.get(timeout=PATIENCE_S), Unknown)


def test_a_thread_that_was_sending_ends_with_its_send() -> None:
    senders, go = Senders(), threading.Event()
    sending: list[threading.Thread] = []

    def send(_message: Message, _attempt: Attempt) -> None:
        sending.append(threading.current_thread())
        assert go.wait(PATIENCE_S)

    senders.start(channel := FunctionChannel("chat", send), trains(channel))
    senders.close([])
    go.set()

    assert ended.get(timeout=PATIENCE_S) is not None
    sending[0].join(PATIENCE_S)
    assert not sending[0].is_alive()
