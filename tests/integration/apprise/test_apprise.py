"""Notifications through apprise: what arrives, and what a yes or no comes to."""

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apprise
import pytest
import trustme
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from outbox import Outbox
from outbox.channels.apprise import Apprise
from outbox.errors import ConfigurationError, InvalidMessage
from outbox.lifecycle import Status
from outbox.outcome import Delivered, Outcome, Rejected, Retry, Unknown
from tests.integration.apprise.conftest import TOKEN, notification, outcome, service
from tests.receiver import Receiver, answer, hang, raw, receiving, then_close, then_reset


@pytest.mark.proves("R13")
@pytest.mark.parametrize("kind", ["json", "xml", "form"])
async def test_text_media_and_rich_payloads_reach_every_kind_of_service(receiver: Receiver, kind: str) -> None:
    channel = Apprise(services={"ops": service(receiver, kind)})
    media = {"media": [{"data": b"%PDF", "name": "report.pdf"}, {"url": "https://example.com/chart.png", "caption": "Chart"}]}
    rich = {"title": "Disk", "text": "**full**", "type": "failure", "format": "markdown"}
    for payload in ("hello", media, rich):
        came_to = await outcome(channel, notification(payload))
        assert isinstance(came_to, Delivered), came_to
        assert came_to.receipt.details == {"service": {"json": "JSON", "xml": "XML", "form": "Form"}[kind]}
    text, file, marked = (request.body for request in receiver.requests)
    assert b"hello" in text
    assert b"report.pdf" in file
    assert b"Chart https://example.com/chart.png" in file
    assert b"failure" in marked
    assert b"Disk" in marked


async def test_each_message_is_one_request_at_once(receiver: Receiver) -> None:
    channel = Apprise(services={"ops": service(receiver)})
    await asyncio.gather(*(outcome(channel, notification(f"number {place}")) for place in range(4)))
    assert sorted(json.loads(request.body)["message"] for request in receiver.requests) == [
        f"number {place}" for place in range(4)
    ]


async def test_an_account_has_services_of_its_own(receiver: Receiver) -> None:
    channel = Apprise(accounts={"acme": {"ops": service(receiver)}})
    assert isinstance(await outcome(channel, notification(account_id="acme")), Delivered)
    assert isinstance(await outcome(channel, notification()), Rejected)


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (answer(400, b"what?"), Rejected),
        (answer(401), Rejected),
        (answer(404), Rejected),
        (answer(410), Rejected),
        (answer(302, b"", {"Location": "http://127.0.0.1:1/"}), Rejected),
        (answer(429), Retry),
        (answer(500), Retry),
        (answer(503), Retry),
        (answer(502), Unknown),
        (answer(504), Unknown),
        (then_reset(), Unknown),
        (then_close(b"HTTP/1.1 20"), Unknown),
        (raw(b"nonsense\r\n\r\n"), Unknown),
        (hang, Unknown),
    ],
)
@pytest.mark.proves("R5")
async def test_the_reason_for_a_no_is_overheard_and_decides(receiver: Receiver, behaviour: Any, kind: type[Outcome]) -> None:
    receiver.behaviour = behaviour
    channel = Apprise(services={"ops": service(receiver)}, read_timeout=0.5 if behaviour is hang else 20)
    came_to = await outcome(channel, notification())
    assert isinstance(came_to, kind), came_to
    assert came_to.error.startswith(("Failed to send JSON", "A Connection error occurred"))  # type: ignore[union-attr]
    assert TOKEN not in came_to.error  # type: ignore[union-attr]
    assert len(receiver.requests) == 1


async def test_a_service_that_is_not_there_has_got_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert isinstance(await outcome(Apprise(services={"ops": f"json://127.0.0.1:{port}/{TOKEN}"}), notification()), Retry)

    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert isinstance(await outcome(Apprise(services={"ops": "json://nowhere.example"}), notification()), Retry)


async def test_a_certificate_of_somebody_else_leaves_nothing_sent() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with receiving(context) as listening:
        came_to = await outcome(Apprise(services={"ops": f"jsons://127.0.0.1:{listening.port}"}), notification())
    assert isinstance(came_to, Retry)
    assert listening.requests == []


@pytest.mark.proves("R15", "T32")
async def test_a_part_that_was_taken_is_never_sent_again(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that sends text and file in two requests, as many do."""
    requests = 0

    def notify(self: Any, **kwargs: Any) -> bool:
        nonlocal requests
        requests += 1
        self.logger.info("Sent JSON notification.")
        self.logger.warning("Failed to send JSON attachment: Service Unavailable, error=503.")
        return False

    monkeypatch.setattr("apprise.plugins.custom_json.NotifyJSON.notify", notify)
    came_to = await outcome(Apprise(services={"ops": service(receiver)}), notification())
    assert isinstance(came_to, Rejected)
    assert "may have taken a part" in came_to.error
    assert requests == 1


async def test_the_plugin_is_given_the_channels_time_limits(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, float]] = []

    def notify(self: Any, **kwargs: Any) -> bool:
        limits.append(self.request_timeout)
        return True

    monkeypatch.setattr("apprise.plugins.custom_json.NotifyJSON.notify", notify)
    channel = Apprise(services={"ops": f"{service(receiver)}?rto=60"}, connect_timeout=2.5, read_timeout=7.5)
    assert isinstance(await outcome(channel, notification()), Delivered)
    assert limits == [(2.5, 7.5)]


async def test_a_plugin_that_breaks_leaves_an_unknown_outcome_and_its_text_untold(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def notify(self: Any, **kwargs: Any) -> bool:
        raise RuntimeError(f"cannot read {TOKEN}")

    monkeypatch.setattr("apprise.plugins.custom_json.NotifyJSON.notify", notify)
    came_to = await outcome(Apprise(services={"ops": service(receiver)}), notification())
    assert isinstance(came_to, Unknown)
    assert TOKEN not in came_to.error


class TestItsLog:
    @pytest.fixture
    def loud(self, caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
        with caplog.at_level(logging.DEBUG):
            yield caplog

    async def test_says_nothing_of_our_sends_because_it_holds_urls_and_payloads(
        self, receiver: Receiver, loud: pytest.LogCaptureFixture
    ) -> None:
        channel = Apprise(services={"ops": service(receiver)})
        receiver.behaviour = answer(503)
        await outcome(channel, notification("a secret"))
        told = [record for record in loud.records if record.name == "apprise"]
        assert told == []
        assert TOKEN not in loud.text
        assert "a secret" not in loud.text
        assert TOKEN not in repr(channel) + repr(vars(channel))

    async def test_says_nothing_of_a_url_that_is_refused(self, loud: pytest.LogCaptureFixture) -> None:
        with pytest.raises(ConfigurationError):
            Apprise(services={"ops": f"tgram://{TOKEN}"})
        assert TOKEN not in loud.text

    async def test_goes_on_for_the_applications_own_notifications(self, receiver: Receiver) -> None:
        heard: list[logging.LogRecord] = []
        handler = logging.Handler()
        handler.emit = heard.append  # type: ignore[method-assign]
        await outcome(Apprise(services={"ops": service(receiver)}), notification())
        own = apprise.Apprise()
        own.add(f"json://127.0.0.1:{receiver.port}")
        logging.getLogger("apprise").addHandler(handler)
        logging.getLogger("apprise").setLevel(logging.INFO)
        try:
            await outcome(Apprise(services={"ops": service(receiver)}), notification())
            assert heard == []
            assert await asyncio.to_thread(own.notify, "hello")
        finally:
            logging.getLogger("apprise").removeHandler(handler)
        assert {record.levelname for record in heard} == {"INFO"}


class TestThroughTheOutbox:
    @pytest.fixture
    def database(self, tmp_path: Path) -> Path:
        return tmp_path / "outbox.db"

    def opened(self, database: Path, *channels: Apprise) -> Outbox:
        outbox = Outbox(f"sqlite:///{database}", channels=list(channels))
        outbox.upgrade_schema()
        return outbox

    def enqueue(self, database: Path, outbox: Outbox, payload: Any, **fields: Any) -> str:
        engine = create_engine(f"sqlite:///{database}")
        with Session(engine) as session, session.begin():
            queued = outbox.enqueue(session, "apprise", payload=payload, **{"target": "ops", **fields})
        engine.dispose()
        return queued.id

    @pytest.mark.proves("R13")
    async def test_it_is_delivered_once_and_no_url_is_kept(self, database: Path, receiver: Receiver) -> None:
        outbox = self.opened(database, Apprise(services={"ops": service(receiver)}, backoff=[0.01]))
        receiver.first = [answer(503)]
        identity = self.enqueue(database, outbox, {"title": "Disk", "text": "full"})
        while outbox.get(identity).status is not Status.DELIVERED:
            await asyncio.to_thread(outbox.drain)
        row = outbox.get(identity)
        outbox.close()
        assert row.attempt_count == 2
        assert len(receiver.requests) == 2
        assert TOKEN.encode() not in b"".join(file.read_bytes() for file in database.parent.iterdir())

    @pytest.mark.proves("R21", "T37")
    @pytest.mark.parametrize(
        ("target", "payload", "complaint"),
        [
            ("opps", "hello", "did you mean 'ops'"),
            ("json://127.0.0.1/x", "hello", "not the name of a service"),
            ("ops", {"txt": "hello"}, "did you mean 'text'"),
            ("ops", {"text": "hello", "thread_id": "42"}, "unknown field 'thread_id'"),
            ("ops", {"title": "x"}, "neither text nor media"),
            ("ops", {"text": "x", "type": "fatal"}, "type must be one of 'info', 'success'"),
            ("ops", {"text": "x", "format": "rtf"}, "format must be one of"),
            ("ops", {"text": "x", "title": 7}, "title must be a text"),
            ("ops", {"media": ["file:///etc/passwd"]}, "not an absolute http or https URL"),
            ("log", {"media": [{"data": b"x"}]}, "the service takes no files"),
        ],
    )
    async def test_what_cannot_be_said_is_refused_in_the_callers_transaction(
        self, database: Path, receiver: Receiver, target: str, payload: Any, complaint: str
    ) -> None:
        outbox = self.opened(database, Apprise(services={"ops": service(receiver), "log": "syslog://"}))
        with pytest.raises(InvalidMessage, match=complaint):
            self.enqueue(database, outbox, payload, target=target)
        assert await asyncio.to_thread(outbox.drain) == 0
        outbox.close()
