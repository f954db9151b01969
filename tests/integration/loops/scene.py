"""The loops' stage: adapters that do as they are told, claims without a broker, and rows as they stand."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select

from outbox import Attempt, Channel, Message, NewMessage, Outbox
from outbox.batching import Batch
from outbox.delivery_report import DeliveryReport
from outbox.message import Claim
from outbox.relay import Relay
from outbox.telemetry import Event

WAIT_S = 20.0
"""No test waits this long unless it fails."""


def enqueue(outbox: Outbox, *messages: NewMessage) -> list[str]:
    """Commit messages as an application would; their ids."""
    with outbox.store.transaction() as tx:
        return [queued.id for queued in outbox.enqueue_many(tx.connection, messages)]


def enqueue_many(outbox: Outbox, count: int, channel: str = "chat", **fields: Any) -> list[str]:
    """Commit ``count`` messages whose targets are their numbers, from "0"."""
    return enqueue(outbox, *(NewMessage(channel=channel, **{"target": str(number), **fields}) for number in range(count)))


class Capture:
    """A dispatcher that keeps what a broker would carry."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def dispatch(self, batches: Sequence[Batch]) -> None:
        self.batches += batches

    @property
    def claims(self) -> list[Claim]:
        return [claim for batch in self.batches for claim in batch.claims]


def claim(outbox: Outbox) -> list[Claim]:
    """Whatever is due, dispatched but not delivered."""
    capture = Capture()
    Relay(outbox.store, outbox.channels, capture, outbox.telemetry, outbox.owner).run_once(budget_s=WAIT_S)
    return capture.claims


def deliver(
    outbox: Outbox, claims: Sequence[Claim] | None = None, channel: str = "chat", *, capped: bool = False,
    watched: bool = False, **options: Any,
) -> DeliveryReport:  # fmt: skip
    """One delivery task: of ``claims``, or of whatever is due."""
    batch = Batch(channel, claim(outbox) if claims is None else claims, capped, watched)
    return outbox.delivery.run(outbox.channels.get(channel), batch, **options)


class Row:
    """A row as it stands in the table, column by column."""

    def __init__(self, outbox: Outbox, message_id: str) -> None:
        m = outbox.store.tables.messages
        with outbox.store.transaction(read_only=True) as tx:
            self._columns = tx.connection.execute(select(m).where(m.c.id == message_id)).mappings().one()

    def __getattr__(self, column: str) -> Any:
        return self._columns[column]


def rows(outbox: Outbox, ids: Sequence[str]) -> list[Row]:
    return [Row(outbox, message_id) for message_id in ids]


def statuses(outbox: Outbox, ids: Sequence[str]) -> list[str]:
    return [row.status for row in rows(outbox, ids)]


def put(outbox: Outbox, message_id: str, **columns: Any) -> None:
    """Write columns behind the store's back: what a defect, another release or a broken disk would leave there."""
    m = outbox.store.tables.messages
    with outbox.store.transaction() as tx:
        tx.connection.execute(m.update().where(m.c.id == message_id).values(**columns))


def await_condition(condition: Callable[[], object], what: str) -> None:
    """Wait until ``condition`` holds; fail with ``what`` was awaited."""
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.005)


class Events:
    """A telemetry listener that remembers."""

    def __init__(self, outbox: Outbox) -> None:
        self.all: list[Event] = []
        outbox.telemetry.subscribe(self.all.append)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.all if isinstance(event, kind)]


Behaviour = Callable[[Message, Attempt], Any]


class Chat(Channel):
    """Notes whom it sent to, and does for each target what ``behaviour`` says; without one, it accepts."""

    name = "chat"
    target_required = False

    def __init__(self, name: str = "chat", *, behaviour: dict[str, Behaviour] | Behaviour | None = None, **policy: Any) -> None:
        super().__init__(name, **policy)
        self._behaviour = behaviour
        self.sent: list[str] = []
        self.attempts: list[Attempt] = []
        self.messages: list[Message] = []

    def send_final(self, message: Message, attempt: Attempt) -> Any:
        return self._note(message, attempt)(message, attempt)

    def _note(self, message: Message, attempt: Attempt) -> Behaviour:
        self.sent.append(message.target)
        self.messages.append(message)
        self.attempts.append(attempt)
        found = self._behaviour.get(message.target) if isinstance(self._behaviour, dict) else self._behaviour
        return found or (lambda _message, _attempt: None)


class AsyncChat(Chat):
    """The same on the event loop; a behaviour may be a coroutine function."""

    async def send_final(self, message: Message, attempt: Attempt) -> Any:
        answer = self._note(message, attempt)(message, attempt)
        return await answer if hasattr(answer, "__await__") else answer


def raising(error: BaseException) -> Behaviour:
    def behave(_message: Message, _attempt: Attempt) -> None:
        raise error

    return behave


def returning(answer: Any) -> Behaviour:
    return lambda _message, _attempt: answer


def one_after_another(*behaviours: Behaviour) -> Behaviour:
    """The first send does the first, the second the second; the last is repeated."""
    left = list(behaviours)

    def behave(message: Message, attempt: Attempt) -> Any:
        return (left.pop(0) if len(left) > 1 else left[0])(message, attempt)

    return behave


class Held:
    """A behaviour that waits until the test lets it go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, _message: Message, _attempt: Attempt) -> None:
        self.entered.set()
        assert self.let_go.wait(WAIT_S)


class InThread:
    """A call that runs beside the test; ``result`` waits for it and raises what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._answer: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = self._call()
        except BaseException as error:
            self._error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(WAIT_S)
        assert not self.running, "the call did not end"
        if self._error is not None:
            raise self._error
        return self._answer
