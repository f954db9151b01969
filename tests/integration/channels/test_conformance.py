"""The conformance kit on the channels of our own."""

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, ClassVar

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from outbox.channels.console import Console
from outbox.channels.discord import Discord
from outbox.channels.email import Email
from outbox.channels.matrix import Matrix
from outbox.channels.slack import Slack
from outbox.channels.telegram import Telegram
from outbox.channels.webhook import Webhook
from outbox.testing.conformance import ChannelConformance, RemoteChannelConformance
from outbox.testing.other_side import Answer, HttpOtherSide, Mood, Request, http_other_side
from tests.servers.kept import free_port

LOOPBACK: dict[str, Any] = {"allow_networks": ["127.0.0.0/8"], "allow_http": True}
PICTURE = {"text": "look", "media": [{"data": b"\x89PNG", "name": "chart.png"}]}


def said(body: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(body).encode(), {"content-type": "application/json", **headers})


class TestConsole(ChannelConformance):
    @pytest.fixture
    def channel(self) -> Console:
        return Console(stream=io.StringIO())


class TestWebhook(RemoteChannelConformance):
    secret = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    secrets = (secret, secret.removeprefix("whsec_"), "s3cr3t-header")

    @pytest.fixture
    def other_side(self) -> Iterator[HttpOtherSide]:
        with http_other_side() as here:
            yield here

    @pytest.fixture
    def channel(self, other_side: HttpOtherSide) -> Webhook:
        authorization = {"x-api-key": "s3cr3t-header"}
        return Webhook(url=f"{other_side.url}/hook", secret=self.secret, headers=authorization, **LOOPBACK)


class TestTelegram(RemoteChannelConformance):
    token = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
    secrets = (token, token.partition(":")[2])
    target = "-1001234567890"
    media = PICTURE
    rich: ClassVar[Any] = {"text": "<b>hello</b>", "extra": {"parse_mode": "HTML"}}

    @pytest.fixture
    def other_side(self) -> Iterator[HttpOtherSide]:
        refused = {"ok": False, "error_code": 400, "description": "Bad Request: chat not found"}
        busy = {"ok": False, "error_code": 429, "description": "Too Many Requests", "parameters": {"retry_after": 3}}
        message = {"message_id": 1001, "date": 1, "chat": {"id": -1001234567890}}
        with http_other_side(
            accepting=lambda _request: said({"ok": True, "result": message}),
            refusing=lambda _request: said(refused, 400),
            busy=lambda _request: said(busy, 429),
        ) as here:
            yield here

    @pytest.fixture
    def channel(self, other_side: HttpOtherSide) -> Telegram:
        return Telegram(token=self.token, base_url=other_side.url, **LOOPBACK)


class TestSlack(RemoteChannelConformance):
    token = "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcBrzbqgy"
    secrets = (token, "pdFZKVeTuE8sk7oOcBrzbqgy")
    target = "C1H9RESGL"
    media = PICTURE
    rich: ClassVar[Any] = {"extra": {"blocks": [{"type": "divider"}]}}

    @pytest.fixture
    def other_side(self) -> Iterator[HttpOtherSide]:
        def accept(request: Request) -> Answer:
            match request.path:
                case "/files.getUploadURLExternal":
                    return said({"ok": True, "upload_url": f"{here.url}/upload/F1", "file_id": "F1"})
                case "/files.completeUploadExternal":
                    return said({"ok": True, "files": [{"id": "F1"}]})
            return said({"ok": True, "channel": "C1H9RESGL", "ts": "1503435956.000247"})

        with http_other_side(
            accepting=accept,
            refusing=lambda _request: said({"ok": False, "error": "channel_not_found"}),
            busy=lambda _request: said({"ok": False, "error": "ratelimited"}, 429, **{"retry-after": "3"}),
        ) as here:
            yield here

    @pytest.fixture
    def channel(self, other_side: HttpOtherSide) -> Slack:
        return Slack(token=self.token, base_url=other_side.url, **LOOPBACK)


class TestDiscord(RemoteChannelConformance):
    token = "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs-abcdefghij"
    secrets = (token, token.rpartition(".")[2])
    target = "290926798999357250"
    media = PICTURE
    rich: ClassVar[Any] = {"extra": {"embeds": [{"title": "hello"}]}}

    @pytest.fixture
    def other_side(self) -> Iterator[HttpOtherSide]:
        with http_other_side(
            accepting=lambda _request: said({"id": "1103999888777666555", "channel_id": "290926798999357250"}),
            refusing=lambda _request: said({"message": "Unknown Channel", "code": 10003}, 404),
            busy=lambda _request: said({"message": "You are being rate limited.", "retry_after": 3.0}, 429),
        ) as here:
            yield here

    @pytest.fixture
    def channel(self, other_side: HttpOtherSide) -> Discord:
        return Discord(token=self.token, base_url=other_side.url, **LOOPBACK)

    def mark_of(self, key: str) -> str:
        """A nonce has 25 characters at the most."""
        return sha256(f"discord|{self.target}|{key}".encode()).hexdigest()[:25]


class TestMatrix(RemoteChannelConformance):
    token = "syt_b3V0Ym94_XUtWcDZlbHBCQ2VsV1RQ_0Jb7aa"
    secrets = (token, "XUtWcDZlbHBCQ2VsV1RQ")
    target = "!kQXJhGvLpRzTnYwMbs:example.org"
    media = PICTURE
    rich: ClassVar[Any] = {"text": "hello", "extra": {"formatted_body": "<b>hello</b>", "format": "org.matrix.custom.html"}}

    @pytest.fixture
    def other_side(self) -> Iterator[HttpOtherSide]:
        def accept(request: Request) -> Answer:
            uploaded = request.path.startswith("/_matrix/media/")
            return said({"content_uri": "mxc://example.org/file1"} if uploaded else {"event_id": "$1:example.org"})

        with http_other_side(
            accepting=accept,
            refusing=lambda _request: said({"errcode": "M_FORBIDDEN", "error": "not in this room"}, 403),
            busy=lambda _request: said({"errcode": "M_LIMIT_EXCEEDED", "error": "wait", "retry_after_ms": 3000}, 429),
        ) as here:
            yield here

    @pytest.fixture
    def channel(self, other_side: HttpOtherSide) -> Matrix:
        return Matrix(token=self.token, base_url=other_side.url, **LOOPBACK)

    def mark_of(self, key: str) -> str:
        """The transaction's id, made of the key."""
        return sha256(key.encode()).hexdigest()[:40]


class MailServer:
    """A mail server as the other side; for aiosmtpd it is the handler."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._mood = Mood.ACCEPTING
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())
        self._controller.start()

    @property
    def port(self) -> int:
        return int(self._controller.port)

    def turn(self, mood: Mood) -> None:
        self._mood = mood
        if mood is Mood.AWAY:
            self._controller.stop()

    def close(self) -> None:
        if self._mood is not Mood.AWAY:
            self._controller.stop()

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:  # fmt: skip
        envelope.rcpt_tos.append(address)
        return {Mood.REFUSING: "550 5.1.1 no such mailbox", Mood.BUSY: "451 4.3.2 come back later"}.get(self._mood, "250 OK")

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.requests.append(envelope.content.decode())
        if self._mood is Mood.SILENT:
            await asyncio.Event().wait()
        return "250 2.0.0 queued as 4Bx1"


class TestEmail(RemoteChannelConformance):
    target = "ann@example.com"
    media = PICTURE
    rich: ClassVar[Any] = {"text": "hello", "subject": "Your order", "html": "<b>hello</b>"}

    @pytest.fixture
    def other_side(self) -> Iterator[MailServer]:
        here = MailServer()
        yield here
        here.close()

    @pytest.fixture
    def channel(self, other_side: MailServer) -> Email:
        return Email(
            host="127.0.0.1", port=other_side.port, security="none", sender="Shop <orders@shop.example>",
            local_hostname="worker.example",
        )  # fmt: skip
