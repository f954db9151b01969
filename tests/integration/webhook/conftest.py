"""A receiver that does what it is told, channels that may reach it, and a name service for the names of these tests."""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest

from outbox.channels.webhook import Webhook
from outbox.message import Message
from outbox.outcome import Delivered, Outcome
from outbox.policy.classification import classify
from tests import factories
from tests.receiver import Receiver, receiving

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()

LOOPBACK: dict[str, Any] = {"allow_networks": ["127.0.0.0/8"], "allow_http": True}


class MakeWebhook(Protocol):
    def __call__(self, **options: Any) -> Webhook: ...


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as listening:
        yield listening


@pytest.fixture
async def webhook() -> AsyncIterator[MakeWebhook]:
    """Makes channels that sign and may reach loopback, and closes them."""
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> Webhook:
            channel = Webhook(**{"secret": SECRET, **LOOPBACK, **options})
            stack.push_async_callback(channel.aclose)
            return channel

        yield make


async def outcome(channel: Webhook, message: Message, **attempt: Any) -> Outcome:
    """What a send comes to in the end, as the delivery loop sees it."""
    try:
        return Delivered(await channel.send_final(message, factories.attempt(message, **attempt)))
    except asyncio.CancelledError:
        raise
    except Exception as error:
        return classify(error)


class NameService:
    """Names for these tests; every other name is resolved as ever."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str] | OSError]] = {}
        self.asked: list[str] = []

    def resolve(self, name: str, *answers: list[str] | OSError) -> None:
        """Answer the first question for ``name`` with the first of ``answers`` and so on; the last one stays."""
        self.answers[name] = list(answers)

    def getaddrinfo(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def answer(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            if host not in self.answers:
                return real(host, port, *args, **kwargs)
            self.asked.append(host)
            answers = self.answers[host]
            addresses = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(addresses, OSError):
                raise addresses
            kinds = [(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in addresses]
            return [(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)) for kind, address in kinds]

        return answer


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> NameService:
    service = NameService()
    monkeypatch.setattr(socket, "getaddrinfo", service.getaddrinfo(socket.getaddrinfo))
    return service
