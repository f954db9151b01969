"""What the answers of receivers, good and bad, come to."""

import asyncio
import gzip
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from outbox.errors import DeliverySignal
from outbox.outcome import Delivered, Outcome, Rejected, Retry, Unknown
from tests.factories import attempt, message
from tests.integration.webhook.conftest import MakeWebhook, NameService, outcome
from tests.receiver import Behaviour, Receiver, answer, drip, hang, raw, then_close, then_reset

OK = b"HTTP/1.1 200 OK\r\n"


async def outcome_of(behaviour: Behaviour, receiver: Receiver, webhook: MakeWebhook, timeout_s: float = 10.0) -> Outcome:
    receiver.behaviour = behaviour
    return await outcome(webhook(), message(target=receiver.url), timeout_s=timeout_s)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
async def test_any_2xx_is_success(status: int, receiver: Receiver, webhook: MakeWebhook) -> None:
    assert isinstance(await outcome_of(answer(status), receiver, webhook), Delivered)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 451])
async def test_a_refusal_is_permanent(status: int, receiver: Receiver, webhook: MakeWebhook) -> None:
    refused = await outcome_of(answer(status, b"no such thing"), receiver, webhook)
    assert refused == Rejected(f"HTTP {status}: no such thing", destination_gone=status == 410)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 503])
async def test_trouble_in_passing_is_tried_again(status: int, receiver: Receiver, webhook: MakeWebhook) -> None:
    assert await outcome_of(answer(status), receiver, webhook) == Retry(f"HTTP {status}")


@pytest.mark.parametrize("status", [502, 504, 520, 599])
async def test_an_answer_from_a_gateway_leaves_the_outcome_unknown(
    status: int, receiver: Receiver, webhook: MakeWebhook
) -> None:
    assert await outcome_of(answer(status), receiver, webhook) == Unknown(f"HTTP {status}")


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_honoured_in_seconds_and_as_a_date(status: int, receiver: Receiver, webhook: MakeWebhook) -> None:
    assert await outcome_of(answer(status, headers={"Retry-After": "120"}), receiver, webhook) == Retry(
        f"HTTP {status}", after_ms=120_000
    )
    moment = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    wanted = await outcome_of(answer(status, headers={"retry-after": moment}), receiver, webhook)
    assert isinstance(wanted, Retry)
    assert wanted.after_ms is not None
    assert 7_000_000 < wanted.after_ms <= 7_200_000


@pytest.mark.parametrize("wish", ["31556952000", "9" * 500, "Fri, 01 Jan 3027 00:00:00 GMT"])
async def test_a_wish_for_a_thousand_years_is_handed_to_the_policy_which_caps_it(
    wish: str, receiver: Receiver, webhook: MakeWebhook
) -> None:
    wanted = await outcome_of(answer(429, headers={"Retry-After": wish}), receiver, webhook)
    assert isinstance(wanted, Retry)
    assert wanted.after_ms is not None
    assert wanted.after_ms > 3_600_000


@pytest.mark.parametrize("wish", ["", "soon", "-5", "1.5", "Fri, 99 Foo 2026 25:61:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"])
async def test_a_wish_that_means_nothing_is_ignored(wish: str, receiver: Receiver, webhook: MakeWebhook) -> None:
    wanted = await outcome_of(answer(429, headers={"Retry-After": wish}), receiver, webhook)
    assert isinstance(wanted, Retry)
    assert not wanted.after_ms


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_named_and_not_followed(status: int, receiver: Receiver, webhook: MakeWebhook) -> None:
    location = f"http://someone:swordfish@127.0.0.1:{receiver.port}/elsewhere?token=swordfish#swordfish"
    refused = await outcome_of(answer(status, headers={"Location": location}), receiver, webhook)
    assert refused == Rejected(
        f"HTTP {status}, a redirect to http://127.0.0.1:{receiver.port}/elsewhere, which is not followed"
    )
    assert [request.path for request in receiver.requests] == ["/hook"]


async def test_a_redirect_to_nowhere_is_no_more_than_a_refusal(receiver: Receiver, webhook: MakeWebhook) -> None:
    refused = await outcome_of(answer(302, headers={"Location": "http://[::1"}), receiver, webhook)
    assert refused == Rejected("HTTP 302, a redirect to what is no URL, which is not followed")


async def test_no_answer_in_time_leaves_the_outcome_unknown(receiver: Receiver, webhook: MakeWebhook) -> None:
    assert await outcome_of(hang, receiver, webhook, timeout_s=0.2) == Unknown("no answer within 0.2 s")
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "behaviour",
    [then_reset(), then_close(), then_reset(b"HTTP/1.1 20"), then_close(b"HTTP/1.1 200 OK\r\nContent-Le")],
)
async def test_half_an_answer_or_none_leaves_the_outcome_unknown(
    behaviour: Behaviour, receiver: Receiver, webhook: MakeWebhook
) -> None:
    result = await outcome_of(behaviour, receiver, webhook)
    assert isinstance(result, Unknown)
    assert result.error.startswith("the connection was lost before an answer")
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        raw(b"HTTP/1.1 two hundred\r\n\r\n"),
        raw(OK + b"Content-Length: minus one\r\n\r\n"),
        raw(OK + b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n"),  # the client reads head and body at once
        raw(OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n"),
        then_close(b"\x15\x03\x01\x00\x02\x02\x16"),  # a TLS alert
    ],
)
async def test_an_answer_that_is_not_http_leaves_the_outcome_unknown_whatever_status_the_parser_gives_it(
    behaviour: Behaviour, receiver: Receiver, webhook: MakeWebhook
) -> None:
    result = await outcome_of(behaviour, receiver, webhook)
    assert isinstance(result, Unknown)
    assert result.error.startswith("the answer is not HTTP: ")
    assert "\n" not in result.error
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("head", [OK, OK + b"X: ", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_head_that_drips_for_ever_is_cut_by_the_total_time(
    head: bytes, receiver: Receiver, webhook: MakeWebhook
) -> None:
    drop = b"HTTP/1.1 100 Continue\r\n\r\n" if b"100" in head else b"x"
    assert await outcome_of(drip(head, drop), receiver, webhook, timeout_s=0.3) == Unknown("no answer within 0.3 s")


@pytest.mark.parametrize(
    "behaviour",
    [
        then_reset(OK + b"Content-Length: 1000\r\n\r\nhalf"),
        then_close(OK + b"Content-Length: 1000\r\n\r\nhalf"),
        then_close(OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
        drip(OK + b"\r\n"),
        drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n.\r\n"),
        raw(OK + b"Content-Length: 5\r\n\r\n"),
    ],
)
async def test_once_a_2xx_has_come_no_trouble_with_the_body_makes_it_anything_else(
    behaviour: Behaviour, receiver: Receiver, webhook: MakeWebhook
) -> None:
    assert isinstance(await outcome_of(behaviour, receiver, webhook, timeout_s=0.5), Delivered)


@pytest.mark.parametrize(("status", "kind"), [(200, Delivered), (422, Rejected)])
async def test_a_status_that_came_counts_although_the_send_is_stopped_while_the_body_drips(
    status: int, kind: type[Outcome], receiver: Receiver, webhook: MakeWebhook
) -> None:
    head_is_out = asyncio.Event()

    async def drip_and_tell(request, writer) -> None:
        writer.write(f"HTTP/1.1 {status} Said\r\n\r\nsome".encode())
        await writer.drain()
        head_is_out.set()
        await hang(request, writer)

    receiver.behaviour = drip_and_tell
    sending = asyncio.create_task(outcome(webhook(), message(target=receiver.url)))
    await head_is_out.wait()
    for _ in range(20):  # turns of the loop, in which the client reads the head
        await asyncio.sleep(0)
    sending.cancel()
    assert isinstance(await sending, kind)


@pytest.mark.parametrize("status", [200, 400])
async def test_of_a_body_of_50_megabytes_only_the_beginning_is_read(
    status: int, receiver: Receiver, webhook: MakeWebhook
) -> None:
    size, taken, ended = 50_000_000, 0, asyncio.Event()

    async def pour(request, writer) -> None:
        nonlocal taken
        writer.write(f"HTTP/1.1 {status} Said\r\nContent-Length: {size}\r\n\r\n".encode())
        try:
            while taken < size:
                writer.write(b"x" * 65_536)
                await writer.drain()
                taken += 65_536
        finally:
            ended.set()

    result = await outcome_of(pour, receiver, webhook)
    assert isinstance(result, Delivered if status == 200 else Rejected)
    await ended.wait()
    assert taken < size / 2


async def test_an_error_page_is_cut_to_a_storable_excerpt(receiver: Receiver, webhook: MakeWebhook) -> None:
    page = b"<html>\r\n\t<h1>Bad\0 \xff request</h1>" + b"<p>sorry</p>" * 1_000
    refused = await outcome_of(answer(400, page, {"Content-Type": "text/html"}), receiver, webhook)
    assert isinstance(refused, Rejected)
    assert refused.error.startswith("HTTP 400: <html> <h1>Bad � request</h1><p>sorry</p>")
    assert refused.error.endswith("…")
    assert len(refused.error) == 500


async def test_a_compressed_error_is_neither_unpacked_nor_shown(receiver: Receiver, webhook: MakeWebhook) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    assert await outcome_of(answer(400, bomb, {"Content-Encoding": "gzip"}), receiver, webhook) == Rejected("HTTP 400")
    assert receiver.last.headers["accept-encoding"] == "identity"


async def test_a_refusal_whose_body_drips_is_a_refusal_all_the_same(receiver: Receiver, webhook: MakeWebhook) -> None:
    refused = await outcome_of(drip(b"HTTP/1.1 422 No\r\n\r\nno"), receiver, webhook, timeout_s=0.3)
    assert isinstance(refused, Rejected)


async def test_what_a_receiver_echoes_of_the_configured_headers_is_not_kept(receiver: Receiver, webhook: MakeWebhook) -> None:
    async def echo(request, writer) -> None:
        said = repr(request.headers).encode()
        await answer(400, said)(request, writer)

    receiver.behaviour = echo
    channel = webhook(headers={"Authorization": "Bearer swordfish"})
    refused = await outcome(channel, message(target=receiver.url))
    assert receiver.last.headers["authorization"] == "Bearer swordfish"
    assert isinstance(refused, Rejected)
    assert "authorization" in refused.error
    assert "swordfish" not in refused.error


async def test_cookies_are_neither_kept_nor_sent(receiver: Receiver, webhook: MakeWebhook, names: NameService) -> None:
    names.resolve("receiver.example", ["127.0.0.1"])
    receiver.behaviour = answer(200, headers={"Set-Cookie": "tenant=7; Path=/"})
    channel = webhook()
    for _ in range(2):
        await outcome(channel, message(target=f"http://receiver.example:{receiver.port}/hook"))
    assert len(receiver.requests) == 2
    assert "cookie" not in receiver.last.headers


@pytest.mark.parametrize("behaviour", [hang, then_reset(), then_close(), raw(b"nonsense\r\n\r\n"), answer(500)])
async def test_neither_an_error_nor_its_traceback_holds_the_url(
    behaviour: Behaviour, receiver: Receiver, webhook: MakeWebhook
) -> None:
    receiver.behaviour = behaviour
    sent = message(target=receiver.url + "?token=swordfish")
    with pytest.raises(DeliverySignal) as failed:
        await webhook().send_final(sent, attempt(sent, timeout_s=0.2))
    assert "swordfish" not in "".join(traceback.format_exception(failed.value))


async def test_a_send_that_is_cancelled_lets_go_of_its_connection(receiver: Receiver, webhook: MakeWebhook) -> None:
    arrived, let_go = asyncio.Event(), asyncio.Event()

    async def wait_for_the_client_to_go(request, writer) -> None:
        arrived.set()
        try:
            while not writer.is_closing():
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        finally:
            let_go.set()

    receiver.behaviour = wait_for_the_client_to_go
    sent = message(target=receiver.url)
    sending = asyncio.create_task(webhook().send_final(sent, attempt(sent)))
    await arrived.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await let_go.wait()
