"""The seam for tracers: an enqueue and an attempt, each from its beginning to its end. A tracer can break neither.

Nothing here knows a tracing library; :mod:`outbox.integrations.opentelemetry` does.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from outbox.message import Attempt, Message, NewMessage, Queued
from outbox.outcome import Outcome

_log = logging.getLogger("outbox")


@dataclass(slots=True)
class Enqueuing:
    """An enqueue under way. A tracer replaces ``messages`` by ones that carry the trace context in their headers."""

    messages: Sequence[NewMessage]
    queued: Sequence[Queued] = ()
    """What came of it, once the messages are written."""


class Sending(Protocol):
    """A send under way. A tracer replaces ``attempt`` by one that tells the adapter its trace context."""

    message: Message
    attempt: Attempt
    outcome: Outcome | None
    """How it ended, once it has."""
    error_type: str | None
    """The name of the exception that ended it, if one did."""


class Tracer(Protocol):
    """Follows messages; what its context managers do before and after is done in the thread and context of the work itself."""

    def enqueuing(self, enqueuing: Enqueuing) -> AbstractContextManager[object]:
        """Around an enqueue, in the application's own thread."""

    def sending(self, sending: Sending) -> AbstractContextManager[object]:
        """Around one attempt to send; in another process than the enqueue, most often."""


class Tracing:
    """What the engine calls: does nothing until there is a tracer."""

    def __init__(self) -> None:
        self._tracer: Tracer | None = None

    def follow_with(self, tracer: Tracer) -> None:
        """Let ``tracer`` follow every enqueue and attempt from now on, in place of any other."""
        self._tracer = tracer

    def enqueuing(self, enqueuing: Enqueuing) -> AbstractContextManager[object]:
        """To be entered around an enqueue."""
        tracer = self._tracer
        return nullcontext() if tracer is None else _harmless(lambda: tracer.enqueuing(enqueuing))

    def sending(self, sending: Sending) -> AbstractContextManager[object]:
        """To be entered around an attempt."""
        tracer = self._tracer
        return nullcontext() if tracer is None else _harmless(lambda: tracer.sending(sending))


@contextmanager
def _harmless(follow: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
    """The tracer's context; what fails in it is logged, and what is followed goes on as if nobody followed."""
    try:
        context = follow()
        context.__enter__()
    except Exception:
        _log.exception("the tracer failed")
        yield
        return
    try:
        yield
    except BaseException as error:
        _leave(context, error)
        raise
    _leave(context, None)


def _leave(context: AbstractContextManager[object], error: BaseException | None) -> None:
    try:
        context.__exit__(type(error) if error is not None else None, error, error.__traceback__ if error is not None else None)
    except Exception as failure:
        if failure is not error:
            _log.exception("the tracer failed")
