"""What arrives: the message as a mail program reads it."""

import asyncio
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest

from outbox.channels.email import Email
from outbox.outcome import Delivered, Outcome, Rejected, Retry
from tests import factories
from tests.integration.email.conftest import ANN, MakeEmail, letter, outcome
from tests.integration.email.post_office import PostOffice
from tests.receiver import answer, receiving, then_close

PIXEL = b"\x89PNG\r\n\x1a\n pretend"
LOOPBACK: dict[str, Any] = {"allow_networks": ["127.0.0.0/8"], "allow_http": True}


async def sent(channel: Email, post_office: PostOffice, payload: Any, /, **fields: Any) -> EmailMessage:
    came_to = await outcome(channel, letter(payload, **fields))
    assert isinstance(came_to, Delivered), came_to
    return post_office.last.message


@pytest.mark.proves("R13")
async def test_a_text_alone_is_a_whole_mail(email: Email, post_office: PostOffice) -> None:
    mail = await sent(email, post_office, "Grüße aus Kōbe\n.\n..two dots")
    assert (mail["From"], mail["To"]) == ("Shop <orders@shop.example>", ANN)
    assert mail.get_content().splitlines() == ["Grüße aus Kōbe", ".", "..two dots"]
    assert mail["Subject"] is None
    assert (post_office.last.sender, post_office.last.recipients) == ("orders@shop.example", [ANN])


async def test_it_is_dated_when_it_was_enqueued_and_not_when_an_attempt_succeeded(
    email: Email, post_office: PostOffice
) -> None:
    mail = await sent(email, post_office, "late", queued_at=1_700_000_000_000)
    assert mail["Date"].datetime == datetime.fromtimestamp(1_700_000_000, UTC)


@pytest.mark.proves("R12", "T28")
async def test_the_message_id_is_the_same_at_every_attempt_and_tells_nothing_of_the_applications_key(
    email: Email, post_office: PostOffice
) -> None:
    message = letter("hello", idempotency_key="order:42 of ann@example.com\N{SNOWMAN}" + "x" * 400)
    receipts = [await email.send_final(message, factories.attempt(message, number=number)) for number in (1, 2)]
    first, second = (mail.message["Message-ID"] for mail in post_office.mails)
    assert first == second == receipts[0].provider_id
    assert first.endswith("@shop.example>")
    assert "42" not in first or "order" not in first
    assert len(first) < 78
    other = await sent(email, post_office, "hello", idempotency_key="order:43")
    assert other["Message-ID"] != first


async def test_the_same_key_in_another_channel_is_another_message(email: Email, post_office: PostOffice) -> None:
    ids = {(await sent(email, post_office, "x", channel=name, idempotency_key="k"))["Message-ID"] for name in ("a", "b")}
    assert len(ids) == 2


async def test_without_a_key_the_message_id_names_the_row(email: Email, post_office: PostOffice) -> None:
    mail = await sent(email, post_office, "hello", id="0198c0de-0000-7000-8000-00000000002a")
    assert mail["Message-ID"] == "<0198c0de-0000-7000-8000-00000000002a@shop.example>"


@pytest.mark.proves("R13")
async def test_html_stands_beside_the_text_with_pictures_in_it_and_files_attached(
    email: Email, post_office: PostOffice
) -> None:
    mail = await sent(
        email,
        post_office,
        {
            "subject": "Rechnung für Jürgen – " + "sehr " * 30 + "lang",
            "text": "Your order",
            "html": '<p>Your order <img src="cid:logo.png"> acid:test</p>',
            "media": [
                {"data": PIXEL, "name": "logo.png"},
                {"data": b"%PDF", "name": "Rechnung für 42.pdf", "type": "application/pdf", "caption": "Ihre Rechnung: März"},
                {"data": b"From: x\r\n\r\nold", "name": "old.eml", "type": "message/rfc822"},
            ],
        },
    )
    assert mail["Subject"] == "Rechnung für Jürgen – " + "sehr " * 30 + "lang"
    plain, rich = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert rich is not None
    assert plain.get_content().strip() == "Your order"
    assert rich.get_content().strip() == '<p>Your order <img src="cid:logo.png@shop.example"> acid:test</p>'
    shown = next(part for part in mail.walk() if part.get_content_type() == "image/png")
    assert (shown["Content-ID"], shown.get_content_disposition(), shown.get_content()) == (
        "<logo.png@shop.example>",
        "inline",
        PIXEL,
    )
    attached = list(mail.iter_attachments())
    assert [(part.get_filename(), part.get_content_type(), part.get_payload(decode=True)) for part in attached] == [
        ("Rechnung für 42.pdf", "application/pdf", b"%PDF"),
        ("old.eml", "application/octet-stream", b"From: x\r\n\r\nold"),
    ]
    assert attached[0]["Content-Description"] == "Ihre Rechnung: März"


async def test_html_alone_and_media_alone_are_mails_too(email: Email, post_office: PostOffice) -> None:
    mail = await sent(email, post_office, {"html": '<img src="cid:a.png">', "media": [{"data": PIXEL, "name": "a.png"}]})
    assert [part.get_content_type() for part in mail.walk()] == ["multipart/related", "text/html", "image/png"]
    mail = await sent(email, post_office, {"media": [{"data": PIXEL, "name": "a.png"}]})
    assert [part.get_content_type() for part in mail.walk()] == ["multipart/mixed", "text/plain", "image/png"]


async def test_everything_that_is_not_ascii_is_encoded_so_that_any_server_can_carry_it(
    email: Email, post_office: PostOffice
) -> None:
    await sent(email, post_office, {"subject": "ü" * 200, "text": "ü" * 2000, "html": "ü", "from_name": "Käte, “Kö” GmbH"})
    assert post_office.last.content.isascii()
    assert max(map(len, post_office.last.content.splitlines())) <= 78
    assert post_office.last.message["From"].addresses[0].display_name == "Käte, “Kö” GmbH"


async def test_copies_go_to_everybody_once_and_blind_ones_are_not_told_of(email: Email, post_office: PostOffice) -> None:
    copies = {"cc": "Bob <bob@example.com>, eve@example.com", "bcc": ["spy@example.com", ANN]}
    payload = {"text": "x", "reply_address": "h@x.example", **copies}
    mail = await sent(email, post_office, payload, target=f"Ann <{ANN}>, carl@example.com")
    assert post_office.last.recipients == [ANN, "carl@example.com", "bob@example.com", "eve@example.com", "spy@example.com"]
    assert (mail["To"], mail["Cc"], mail["Reply-To"]) == (
        f"Ann <{ANN}>, carl@example.com",
        "Bob <bob@example.com>, eve@example.com",
        "h@x.example",
    )
    assert b"spy" not in post_office.last.content


@pytest.mark.proves("T38")
async def test_a_reply_belongs_to_its_thread_however_long_the_ids_are(email: Email, post_office: PostOffice) -> None:
    root, parent = f"{'r' * 150}@mail.example.com", f"{'p' * 120}@mail.example.com"
    mail = await sent(email, post_office, {"text": "x", "reply_to": f"<{parent}>", "thread_id": root})
    assert mail["In-Reply-To"].split() == [f"<{parent}>"]
    assert mail["References"].split() == [f"<{root}>", f"<{parent}>"]
    assert b"=?" not in post_office.last.content
    mail = await sent(email, post_office, {"text": "x", "thread_id": root})
    assert (mail["In-Reply-To"], mail["References"].split()) == (None, [f"<{root}>"])


async def test_headers_of_the_applications_own_arrive_as_they_were_written(email: Email, post_office: PostOffice) -> None:
    unsubscribe = f"<https://shop.example/u/{'q' * 150}>, <mailto:leave@shop.example>"
    mail = await sent(email, post_office, {"text": "x", "headers": {"List-Unsubscribe": unsubscribe, "X-Name": "Jürgen"}})
    assert mail["List-Unsubscribe"] == unsubscribe
    assert mail["X-Name"] == "Jürgen"
    assert b"=?utf-8?q?=3Chttps" not in post_office.last.content


async def test_an_account_has_a_sender_subject_and_ids_of_its_own(make_email: MakeEmail, post_office: PostOffice) -> None:
    support = {"sender": "Help <help@help.example>", "subject": "Your request", "reply_address": "desk@help.example",
               "bounce_address": "bounces@help.example", "domain": "id.help.example"}  # fmt: skip
    email = make_email(port=post_office.port, security="none", accounts={"support": support})
    mail = await sent(email, post_office, "hello", account_id="support")
    assert (mail["From"], mail["Subject"], mail["Reply-To"]) == (
        "Help <help@help.example>",
        "Your request",
        "desk@help.example",
    )
    assert mail["Message-ID"].endswith("@id.help.example>")
    assert post_office.last.sender == "bounces@help.example"
    mail = await sent(email, post_office, {"text": "hello", "subject": "Other", "from_name": "Ann from the shop"})
    assert (mail["From"], mail["Subject"]) == ("Ann from the shop <orders@shop.example>", "Other")


async def test_an_address_in_other_letters_is_sent_as_it_is_written(email: Email, post_office: PostOffice) -> None:
    await sent(email, post_office, {"text": "ü", "cc": "Bob <bob@example.com>"}, target="Jürgen <jürgen@straße.example>")
    assert post_office.last.recipients == ["jürgen@straße.example", "bob@example.com"]
    assert "\r\nTo: Jürgen <jürgen@straße.example>\r\n".encode() in post_office.last.content
    assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(post_office.last.parameters)


class TestMediaByUrl:
    async def test_they_are_fetched_and_sent_along(self, make_email: MakeEmail, post_office: PostOffice) -> None:
        async with receiving() as server:
            server.behaviour = answer(200, PIXEL, {"Content-Type": "image/png; charset=x"})
            email = make_email(port=post_office.port, security="none", **LOOPBACK)
            mail = await sent(email, post_office, {"text": "look", "media": [f"http://127.0.0.1:{server.port}/chart.png?v=2"]})
        [attached] = mail.iter_attachments()
        assert (attached.get_filename(), attached.get_content_type(), attached.get_content()) == (
            "chart.png",
            "image/png",
            PIXEL,
        )

    async def test_what_their_server_calls_them_is_taken_only_where_it_is_a_type(
        self, make_email: MakeEmail, post_office: PostOffice
    ) -> None:
        async with receiving() as server:
            server.behaviour = answer(200, PIXEL, {"Content-Type": "picture"})
            email = make_email(port=post_office.port, security="none", **LOOPBACK)
            mail = await sent(email, post_office, {"media": [f"http://127.0.0.1:{server.port}/chart.png"]})
        [attached] = mail.iter_attachments()
        assert attached.get_content_type() == "image/png"

    async def test_together_they_are_no_larger_than_a_message(self, make_email: MakeEmail, post_office: PostOffice) -> None:
        email = make_email(port=post_office.port, security="none", max_bytes=1500, **LOOPBACK)
        async with receiving() as server:
            server.behaviour = answer(200, b"x" * 900)
            url = f"http://127.0.0.1:{server.port}/chart.png"
            came_to = await outcome(email, letter({"text": "look", "media": [url, url, url]}))
            assert len(server.requests) == 2
        assert isinstance(came_to, Rejected)
        assert "longer than 600 bytes" in came_to.error

    async def test_they_come_from_public_addresses_alone(self, email: Email, post_office: PostOffice) -> None:
        async with receiving() as server:
            came_to = await self._fetched(email, f"http://127.0.0.1:{server.port}/chart.png")
            assert server.requests == []
        assert isinstance(came_to, Rejected)
        assert "plain http is refused" in came_to.error
        came_to = await self._fetched(email, "https://169.254.169.254/latest/meta-data")
        assert isinstance(came_to, Rejected)
        assert "not public" in came_to.error
        assert post_office.mails == []

    @pytest.mark.parametrize(
        ("behaviour", "kind", "told"),
        [
            (answer(404, b"no such chart"), Rejected, "HTTP 404: no such chart"),
            (answer(502), Retry, "HTTP 502"),
            (answer(503, b"", {"Retry-After": "70"}), Retry, "HTTP 503"),
            (then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), Retry, "lost"),
            (then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf\r\n"), Retry, "lost"),
            (then_close(), Retry, "lost"),
            (answer(200, b"x" * 2000), Rejected, "longer than 1500 bytes"),
        ],
    )
    async def test_what_cannot_be_fetched_whole_is_not_sent_in_part(
        self, make_email: MakeEmail, post_office: PostOffice, behaviour: Any, kind: type[Outcome], told: str
    ) -> None:
        email = make_email(port=post_office.port, security="none", max_bytes=1500, **LOOPBACK)
        async with receiving() as server:
            server.behaviour = behaviour
            came_to = await self._fetched(email, f"http://127.0.0.1:{server.port}/chart.png?token=swordfish")
        assert isinstance(came_to, kind), came_to
        assert told in came_to.error  # type: ignore[union-attr]
        assert "swordfish" not in came_to.error  # type: ignore[union-attr]
        if "503" in told:
            assert came_to == Retry(came_to.error, 70_000)  # type: ignore[union-attr]
        assert post_office.connections == 0

    async def test_a_server_that_drips_takes_no_more_than_its_share_of_the_time(
        self, make_email: MakeEmail, post_office: PostOffice
    ) -> None:
        async def endless(request: Any, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n.")
            await asyncio.Event().wait()

        email = make_email(port=post_office.port, security="none", **LOOPBACK)
        async with receiving() as server:
            server.behaviour = endless
            came_to = await self._fetched(email, f"http://127.0.0.1:{server.port}/x", timeout_s=1.0)
        assert isinstance(came_to, Retry)

    async def test_several_slow_ones_share_that_time(self, make_email: MakeEmail, post_office: PostOffice) -> None:
        async def slow(request: Any, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.4)
            await answer(200, PIXEL)(request, writer)

        email = make_email(port=post_office.port, security="none", **LOOPBACK)
        async with receiving() as server:
            server.behaviour = slow
            url = f"http://127.0.0.1:{server.port}/chart.png"
            came_to = await outcome(email, letter({"text": "look", "media": [url, url]}), timeout_s=2.0)
        assert isinstance(came_to, Retry)

    async def _fetched(self, email: Email, url: str, **attempt: Any) -> Outcome:
        return await outcome(email, letter({"text": "look", "media": [url]}), **attempt)
