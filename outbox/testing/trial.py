"""A channel on trial: messages go out through a real outbox in memory, and everything that shows of it is kept."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from outbox.channels.base import Channel
from outbox.message import Attempt, Message
from outbox.outbox import Outbox
from outbox.testing.clock import FakeClock
from outbox.testing.databases import sqlite_in_memory


@dataclass
class Trial:
    """One channel in one outbox, and what was seen of it."""

    channel: Channel
    outbox: Outbox
    clock: FakeClock
    raised: list[BaseException] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """The idempotency keys of the sends."""
    log: list[str] = field(default_factory=list)

    def enqueue(self, **fields: Any) -> str:
        """Commit a message; its id. Raises :class:`~outbox.errors.InvalidMessage` where the channel refuses it."""
        with self.outbox.store.engine.begin() as connection:
            return self.outbox.enqueue(connection, self.channel.name, **fields).id

    def deliver(self, message_id: str) -> Message:
        """Send what is due, and read the message back."""
        self.outbox.drain()
        return self.outbox.get(message_id)

    def close(self) -> None:
        """Let the channel give back what it holds, as at the end of a process."""
        self.outbox.close()

    def shown(self) -> str:
        """Everything that an operator could come to see of the channel."""
        rows = self.outbox.list()
        attempts = [attempt for row in rows for attempt in self.outbox.attempts(row.id)]
        gates = self.outbox.store.gates(closed_only=False)
        return "\n".join([repr(self.channel), *map(_visible, rows), *map(str, attempts), *map(str, gates), *self.log])


@contextmanager
def on_trial(channel: Channel) -> Iterator[Trial]:
    """The channel in an outbox of its own while the block runs; what is logged meanwhile, by anybody, is kept too."""
    clock = FakeClock()
    with sqlite_in_memory(with_schema=True) as url:
        outbox = Outbox(url, clock=clock, log_successes=True)
        trial = Trial(channel, outbox, clock)
        with _overheard(trial), _logged(trial.log):
            outbox.register(channel)
            try:
                yield trial
            finally:
                outbox.close()


def _visible(row: Message) -> str:
    return f"{row.last_error} {row.terminal_reason} {row.receipt_json}"


@contextmanager
def _overheard(trial: Trial) -> Iterator[None]:
    """Listen to the sends: their keys, and what they raise."""
    channel: Any = trial.channel
    send = channel.send_final

    def listen(message: Message, attempt: Attempt) -> Any:
        trial.keys.append(attempt.idempotency_key)
        try:
            return send(message, attempt)
        except BaseException as error:
            trial.raised.append(error)
            raise

    async def listen_async(message: Message, attempt: Attempt) -> Any:
        trial.keys.append(attempt.idempotency_key)
        try:
            return await send(message, attempt)
        except BaseException as error:
            trial.raised.append(error)
            raise

    channel.send_final = listen_async if channel.is_async else listen
    try:
        yield
    finally:
        del channel.send_final


@contextmanager
def _logged(lines: list[str]) -> Iterator[None]:
    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.name} {self.format(record)} {record.__dict__.get('outbox', '')}")

    root, keeper = logging.getLogger(), Keeper(logging.DEBUG)
    level = root.level
    root.addHandler(keeper)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(keeper)
