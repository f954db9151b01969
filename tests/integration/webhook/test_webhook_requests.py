"""What a receiver gets."""

import base64
import json
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
import standardwebhooks

from outbox.channels.webhook import Webhook
from outbox.errors import InvalidMessage
from outbox.message import NewMessage, Receipt
from outbox.outcome import Delivered, Rejected
from tests.factories import attempt, message
from tests.integration.webhook.conftest import SECRET, MakeWebhook, outcome
from tests.receiver import Received, Receiver, answer

OTHER_SECRET = "whsec_" + base64.b64encode(b"another destination's secret").decode()


def verified(request: Received, secret: str = SECRET) -> object:
    return standardwebhooks.Webhook(secret).verify(request.body, request.headers)


async def test_the_payload_arrives_as_signed_json(receiver: Receiver, webhook: MakeWebhook) -> None:
    payload = {"type": "order.shipped", "data": {"id": 42, "to": "Zoë 🎉", "rush": None}}
    sent = message(target=receiver.url + "?tenant=7", payload=payload)
    assert isinstance(await outcome(webhook(), sent), Delivered)

    request = receiver.last
    assert (request.method, request.path) == ("POST", "/hook?tenant=7")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert verified(request) == payload
    assert len(request.header_names) == len(set(request.header_names))


async def test_the_id_stays_the_same_over_attempts_and_the_timestamp_is_the_attempts_own(
    receiver: Receiver, webhook: MakeWebhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = message(target=receiver.url)
    channel = webhook()
    now = time.time()
    for number, moment in ((1, now - 60), (2, now)):
        with monkeypatch.context() as clock:
            clock.setattr(time, "time", lambda moment=moment: moment)
            await channel.send_final(sent, attempt(sent, number=number, lease=number))

    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == sent.id
    assert int(first.headers["webhook-timestamp"]) == int(now - 60)
    assert int(second.headers["webhook-timestamp"]) == int(now)
    assert first.body == second.body
    verified(first)
    verified(second)


@pytest.mark.parametrize(
    ("key", "on_the_wire"),
    [("order-42", "order-42"), ("order.42", "order%2E42"), ("Zoë\r\nX: 1", "Zo%C3%AB%0D%0AX:%201")],
)
async def test_an_idempotency_key_of_any_characters_arrives_as_one_header(
    receiver: Receiver, webhook: MakeWebhook, key: str, on_the_wire: str
) -> None:
    assert isinstance(await outcome(webhook(), message(target=receiver.url, idempotency_key=key)), Delivered)
    assert receiver.last.headers["webhook-id"] == on_the_wire
    assert "x" not in receiver.last.headers
    verified(receiver.last)


async def test_during_a_rotation_receivers_with_either_secret_are_served(receiver: Receiver, webhook: MakeWebhook) -> None:
    await outcome(webhook(secret=None, secrets=[OTHER_SECRET, SECRET]), message(target=receiver.url))
    verified(receiver.last, SECRET)
    verified(receiver.last, OTHER_SECRET)


async def test_a_destination_has_its_own_url_secret_and_headers(receiver: Receiver, webhook: MakeWebhook) -> None:
    channel = webhook(
        headers={"X-From": "shop", "X-Tenant": "none"},
        destinations={
            "acme": {"url": receiver.url, "secret": OTHER_SECRET, "headers": {"x-tenant": "acme"}},
            "initech": {"url": receiver.url + "/initech"},
        },
    )
    await outcome(channel, message(target="acme"))
    verified(receiver.last, OTHER_SECRET)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verified(receiver.last, SECRET)
    assert (receiver.last.headers["x-from"], receiver.last.headers["x-tenant"]) == ("shop", "acme")

    await outcome(channel, message(target="initech"))
    verified(receiver.last, SECRET)
    assert (receiver.last.path, receiver.last.headers["x-tenant"]) == ("/hook/initech", "none")


async def test_with_a_url_every_message_goes_there_and_needs_no_target(receiver: Receiver, webhook: MakeWebhook) -> None:
    channel = webhook(url=receiver.url)
    for target in ("", "customer-7", "https://elsewhere.example/"):
        channel.check_message(NewMessage(channel="webhook", target=target))
        assert isinstance(await outcome(channel, message(target=target)), Delivered)
    assert len(receiver.requests) == 3


async def test_an_unknown_destination_is_refused_at_enqueue_and_fails_for_good_later() -> None:
    channel = Webhook(destinations={"acme": {"url": "https://acme.example/hook"}})
    with pytest.raises(InvalidMessage, match="did you mean 'acme'"):
        channel.check_message(NewMessage(channel="webhook", target="acm"))
    refused = await outcome(channel, message(target="acm"))
    assert isinstance(refused, Rejected)
    assert "did you mean 'acme'" in refused.error


@pytest.mark.parametrize("target", ["", "http://receiver.example/", "https://10.0.0.1/", "https://u:p@receiver.example/"])
def test_a_target_that_can_never_be_reached_is_refused_at_enqueue(target: str) -> None:
    with pytest.raises(InvalidMessage):
        Webhook().check_message(NewMessage(channel="webhook", target=target))


def test_names_are_not_resolved_at_enqueue(names) -> None:
    names.resolve("receiver.example", OSError("no network here"))
    Webhook().check_message(NewMessage(channel="webhook", target="https://receiver.example/"))
    assert names.asked == []


async def test_types_that_json_lacks_arrive_as_documented(receiver: Receiver, webhook: MakeWebhook) -> None:
    payload = {
        "at": datetime(2026, 11, 23, 5, 48, 0, 250_000, UTC),
        "day": date(2026, 11, 23),
        "took": timedelta(minutes=1, milliseconds=500),
        "price": Decimal("19.90"),
        "id": UUID("0198c0de-0000-7000-8000-000000000001"),
        "blob": b"\x00\xff",
        "pair": (1, "two"),
        "thread": 42,
        "chat": "42",
    }
    assert isinstance(await outcome(webhook(), message(target=receiver.url, payload=payload)), Delivered)
    assert json.loads(receiver.last.body) == {
        "at": "2026-11-23T05:48:00.250000+00:00",
        "day": "2026-11-23",
        "took": 60.5,
        "price": "19.90",
        "id": "0198c0de-0000-7000-8000-000000000001",
        "blob": "AP8=",
        "pair": [1, "two"],
        "thread": 42,
        "chat": "42",
    }
    verified(receiver.last)


async def test_bytes_are_the_body_itself(receiver: Receiver, webhook: MakeWebhook) -> None:
    await outcome(webhook(headers={"Content-Type": "text/xml"}), message(target=receiver.url, payload=b"<order/>"))
    assert (receiver.last.headers["content-type"], receiver.last.body) == ("text/xml", b"<order/>")
    standardwebhooks.Webhook(SECRET).verify(receiver.last.body, receiver.last.headers, json_parse=False)

    await outcome(webhook(), message(target=receiver.url, payload=b"\x00\xff"))
    assert (receiver.last.headers["content-type"], receiver.last.body) == ("application/octet-stream", b"\x00\xff")


async def test_text_and_nothing_are_json_too(receiver: Receiver, webhook: MakeWebhook) -> None:
    for payload, body in (("hello", b'"hello"'), (None, b"null"), ({}, b"{}")):
        await outcome(webhook(), message(target=receiver.url, payload=payload))
        assert receiver.last.body == body


async def test_a_large_body_arrives_whole(receiver: Receiver, webhook: MakeWebhook) -> None:
    assert isinstance(await outcome(webhook(), message(target=receiver.url, payload="x" * 3_000_000)), Delivered)
    assert len(receiver.last.body) == 3_000_002
    verified(receiver.last)


async def test_the_trace_context_travels_on_and_the_applications_own_headers_do_not(
    receiver: Receiver, webhook: MakeWebhook
) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"traceparent": parent, "tracestate": "vendor=1", "user": "zoë", "authorization": "internal"}
    await outcome(webhook(), message(target=receiver.url, headers=headers))
    assert receiver.last.headers["traceparent"] == parent
    assert receiver.last.headers["tracestate"] == "vendor=1"
    assert not {"user", "authorization"} & receiver.last.headers.keys()


@pytest.mark.parametrize("broken", ["", "a\r\nX-Injected: 1", 7, None, "zoë"])
async def test_a_broken_trace_context_is_left_out(receiver: Receiver, webhook: MakeWebhook, broken: object) -> None:
    assert isinstance(await outcome(webhook(), message(target=receiver.url, headers={"traceparent": broken})), Delivered)
    assert not {"traceparent", "x-injected"} & receiver.last.headers.keys()


@pytest.mark.parametrize(
    ("kind", "body", "provider_id"),
    [
        ("application/json", b'{"id": "evt_1"}', "evt_1"),
        ("application/problem+json", b'{"id": 7}', "7"),
        ("application/json", b'{"id": "' + b"x" * 9_000 + b'"}', "x" * 200),
        ("application/json", b'{"id": true}', None),
        ("application/json", b'["id"]', None),
        ("application/json", b"<p>", None),
        ("application/json", b"[" * 9_000, None),
        ("application/json", b"\xff", None),
        ("application/json", b"", None),
        ("text/plain", b'{"id": "evt_1"}', None),
    ],
)
async def test_the_receipt_has_the_status_and_the_receivers_id_if_it_gave_one(
    receiver: Receiver, webhook: MakeWebhook, kind: str, body: bytes, provider_id: str | None
) -> None:
    receiver.behaviour = answer(202, body, {"Content-Type": kind})
    delivered = await outcome(webhook(), message(target=receiver.url))
    assert delivered == Delivered(Receipt(provider_id, {"status": 202}))
