"""Channels that notify services on loopback."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from outbox.channels.apprise import Apprise
from outbox.message import Message
from outbox.outcome import Delivered, Outcome
from outbox.policy.classification import classify
from tests import factories
from tests.receiver import Receiver, receiving

TOKEN = "sw0rdf1sh"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as listening:
        yield listening


def service(receiver: Receiver, kind: str = "json") -> str:
    """The URL of a service that sends to ``receiver``."""
    return f"{kind}://user:{TOKEN}@127.0.0.1:{receiver.port}/{TOKEN}/hook"


def notification(payload: Any = "hello", /, **fields: Any) -> Message:
    """A message of the channel ``apprise``, to the service ``ops`` unless told otherwise."""
    return factories.message(**{"channel": "apprise", "target": "ops", "payload": payload, **fields})


async def outcome(channel: Apprise, message: Message) -> Outcome:
    """What a send comes to in the end, as the delivery loop sees it: on a thread of its own."""

    def send() -> Outcome:
        try:
            return Delivered(channel.send_final(message, factories.attempt(message)))
        except Exception as error:
            return classify(error)

    return await asyncio.to_thread(send)
