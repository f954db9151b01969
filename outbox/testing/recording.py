"""Channels that send nothing and remember what they were given."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from outbox.channels.base import Channel
from outbox.message import Attempt, Message, Receipt
from outbox.outbox import Outbox

Answer = Receipt | None | BaseException | Callable[[Message, Attempt], Any]
"""What a send comes to: what it returns, what it raises, or a function that decides."""


@dataclass
class Recording:
    """What was given to channels, in the order of their sends."""

    messages: list[Message] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    _answers: list[Answer] = field(default_factory=list)
    _accepted: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock, repr=False)

    @property
    def payloads(self) -> list[Any]:
        """What the messages say."""
        return [message.payload for message in self.messages]

    @property
    def targets(self) -> list[str]:
        """Where they go."""
        return [message.target for message in self.messages]

    def answer(self, *answers: Answer) -> None:
        """Say what the next sends come to, one after another; those behind them are accepted."""
        with self._lock:
            self._answers.extend(answers)

    def send(self, message: Message, attempt: Attempt) -> Any:
        """Take a message in place of the channel."""
        with self._lock:
            self.messages.append(message)
            self.attempts.append(attempt)
            answer = self._answers.pop(0) if self._answers else None
        if isinstance(answer, BaseException):
            raise answer
        said = answer(message, attempt) if callable(answer) else answer
        self._accepted.add(message.id)
        return said

    def find(self, message: Message) -> bool:
        """Whether it was accepted, for channels that ask before they send again."""
        return message.id in self._accepted


class Recorder(Channel):
    """A channel of its own that records; its policy may be given as for any channel."""

    name = "recorder"
    target_required = False

    def __init__(self, name: str | None = None, **policy: Any) -> None:
        super().__init__(name, **policy)
        self.recording = Recording()

    def send_final(self, message: Message, attempt: Attempt) -> Any:
        return self.recording.send(message, attempt)


@contextmanager
def recording(outbox: Outbox, *channels: str) -> Iterator[Recording]:
    """While it is entered, these channels of the outbox (without names: all) record and send nothing.

    What they declare stays in force: order, attempts, backoff, rates. Raises :class:`~outbox.errors.UnknownChannel`.
    """
    taken = Recording()
    with ExitStack() as stack:
        for channel in [outbox.channels.get(name) for name in channels] or list(outbox.channels):
            stack.enter_context(_diverted(channel, taken))
        yield taken


@contextmanager
def _diverted(channel: Channel, to: Recording) -> Iterator[None]:
    async def send_async(message: Message, attempt: Attempt) -> Any:
        return to.send(message, attempt)

    async def find_async(message: Message) -> bool:
        return to.find(message)

    own = {name: method for name, method in vars(channel).items() if name in ("send_final", "find_delivery")}
    diverted: dict[str, Any] = {"send_final": to.send, "find_delivery": to.find}
    if channel.is_async:
        diverted = {"send_final": send_async, "find_delivery": find_async}
    vars(channel).update(diverted)
    try:
        yield
    finally:
        for name in diverted:
            del vars(channel)[name]
        vars(channel).update(own)
