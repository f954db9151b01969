"""Mail servers on loopback and channels that send to them."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
import trustme

from outbox.channels.email import Email
from outbox.message import Message
from outbox.outcome import Delivered, Outcome
from outbox.policy.classification import classify
from tests import factories
from tests.integration.email.post_office import PostOffice, open_post_office

SENDER = "Shop <orders@shop.example>"
ANN = "ann@example.com"


class MakeEmail(Protocol):
    def __call__(self, **options: Any) -> Email: ...


@pytest.fixture
async def post_office() -> AsyncIterator[PostOffice]:
    """A server that speaks in the clear and takes everything."""
    async with open_post_office() as office:
        yield office


@pytest.fixture
async def make_email() -> AsyncIterator[MakeEmail]:
    """Makes channels, and closes them."""
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> Email:
            channel = Email(**{"host": "127.0.0.1", "sender": SENDER, "local_hostname": "worker.example", **options})
            stack.push_async_callback(channel.aclose)
            return channel

        yield make


@pytest.fixture
def email(make_email: MakeEmail, post_office: PostOffice) -> Email:
    """A channel that sends to ``post_office``."""
    return make_email(port=post_office.port, security="none")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """Of a server that is called ``localhost``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def letter(payload: Any = "hello", /, **fields: Any) -> Message:
    """A message of the channel ``email``, to Ann unless told otherwise."""
    return factories.message(**{"channel": "email", "target": ANN, "payload": payload, **fields})


async def outcome(channel: Email, message: Message, **attempt: Any) -> Outcome:
    """What a send comes to in the end, as the delivery loop sees it."""
    try:
        return Delivered(await channel.send_final(message, factories.attempt(message, **attempt)))
    except asyncio.CancelledError:
        raise
    except Exception as error:
        return classify(error)
