"""A tracer that fails costs a trace, and neither an enqueue nor a second send."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from outbox import NewMessage, Outbox
from outbox.tracing import Enqueuing, Sending
from tests.integration.loops.scene import AsyncChat, Chat, enqueue


class Failing:
    """Fails before or after whatever it follows."""

    def __init__(self, moment: str) -> None:
        self._moment = moment

    def enqueuing(self, enqueuing: Enqueuing) -> AbstractContextManager[object]:
        return self._around()

    def sending(self, sending: Sending) -> AbstractContextManager[object]:
        return self._around()

    @contextmanager
    def _around(self) -> Iterator[None]:
        if self._moment == "before":
            raise RuntimeError("the collector is away")
        yield
        raise RuntimeError("the collector is away")


@pytest.mark.proves("T3")
@pytest.mark.parametrize("adapter", [Chat, AsyncChat])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_t3_a_message_is_sent_once_whatever_fails_in_a_tracer(
    outbox: Outbox, adapter: type[Chat], moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    chat = adapter()
    outbox.register(chat)
    outbox.telemetry.tracing.follow_with(Failing(moment))

    (message_id,) = enqueue(outbox, NewMessage(channel="chat", target="somebody"))
    outbox.drain()

    assert chat.sent == ["somebody"]
    message = outbox.get(message_id)
    assert (message.status, message.attempt_count) == ("delivered", 1)
    assert caplog.text.count("the tracer failed") == 2
