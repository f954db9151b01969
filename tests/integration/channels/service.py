"""A chat service on loopback: it takes calls apart as the real one would, keeps them, and says what a test tells it to say."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, web

from outbox.channels.base import Channel
from outbox.message import Message
from outbox.outcome import Delivered, Outcome
from outbox.policy.classification import classify
from tests import factories

LOOPBACK: dict[str, Any] = {"allow_networks": ["127.0.0.0/8"], "allow_http": True}


@dataclass(frozen=True)
class Upload:
    """A file of a form."""

    name: str | None
    type: str | None
    data: bytes


@dataclass(frozen=True)
class Call:
    """One request, taken apart: JSON, a form, or bytes."""

    method: str
    path: str
    headers: dict[str, str]
    fields: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Upload] = field(default_factory=dict)
    body: bytes = b""


Answer = Callable[[Call], web.Response]


def say(status: int, body: Any, headers: dict[str, str] | None = None) -> Answer:
    """The same answer to every call: JSON, or a page where ``body`` is text."""
    if isinstance(body, str):
        return lambda call: web.Response(status=status, text=body, content_type="text/html", headers=headers)
    return lambda call: web.json_response(body, status=status, headers=headers)


@dataclass
class Service:
    """``answers`` come first, one for each call; then ``answer``, the service at its best."""

    answer: Answer
    answers: list[Answer] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Call:
        return self.calls[-1]

    async def handle(self, request: web.Request) -> web.Response:
        call = await _taken_apart(request)
        self.calls.append(call)
        return (self.answers.pop(0) if self.answers else self.answer)(call)


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Service]:
    """A service that listens while the block runs."""
    service = Service(answer)
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", service.handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        service.port = runner.addresses[0][1]
        yield service
    finally:
        await runner.cleanup()


async def outcome(channel: Channel, message: Message, **attempt: Any) -> Outcome:
    """What a send comes to in the end, as the delivery loop sees it."""
    try:
        return Delivered(await channel.send_final(message, factories.attempt(message, **attempt)))
    except asyncio.CancelledError:
        raise
    except Exception as error:
        return classify(error)


async def _taken_apart(request: web.Request) -> Call:
    fields: dict[str, Any] = {}
    files: dict[str, Upload] = {}
    body = b""
    match request.content_type:
        case "multipart/form-data":
            async for part in await request.multipart():
                assert isinstance(part, BodyPartReader)
                data = bytes(await part.read())
                if part.filename is None:
                    fields[part.name or ""] = data.decode()
                else:
                    files[part.name or ""] = Upload(part.filename, part.headers.get("Content-Type"), data)
        case "application/json":
            fields = json.loads(await request.read())
        case "application/x-www-form-urlencoded":
            fields = {name: str(value) for name, value in (await request.post()).items()}
        case _:
            body = await request.read()
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Call(request.method, request.path, headers, fields, files, body)
