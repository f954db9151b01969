"""All that a channel needs by way of tests, but for what is its own."""

from collections.abc import Iterator
from typing import ClassVar

import pytest
from outbox_ntfy import Ntfy

from outbox.errors import InvalidMessage
from outbox.message import NewMessage
from outbox.testing.conformance import RemoteChannelConformance
from outbox.testing.other_side import Answer, HttpOtherSide, http_other_side


class TestNtfy(RemoteChannelConformance):
    target = "orders"
    rich: ClassVar[object] = {"text": "hello", "title": "Order 7"}
    secrets = ("tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2",)

    @pytest.fixture
    def other_side(self) -> Iterator[HttpOtherSide]:
        with http_other_side(
            accepting=lambda _request: Answer(200, b'{"id": "hwQ2YpKdmg", "topic": "orders"}'),
            refusing=lambda _request: Answer(403, b'{"error": "forbidden"}'),
            busy=lambda _request: Answer(429, headers={"Retry-After": "7"}),
        ) as here:
            yield here

    @pytest.fixture
    def channel(self, other_side: HttpOtherSide) -> Ntfy:
        return Ntfy(url=other_side.url, token=self.secrets[0])


def test_a_payload_without_a_text_is_refused_at_enqueue() -> None:
    with pytest.raises(InvalidMessage, match="must have a text"):
        Ntfy().check_message(NewMessage(channel="ntfy", target="orders", payload={"txt": "hello"}))
