"""Django's mail through the outbox, to a real SMTP server. Run by test_suite.py with Django's test runner."""

import email
import email.policy
from collections.abc import Callable
from email.message import EmailMessage as Parsed
from email.message import MIMEPart
from email.mime.base import MIMEBase
from email.mime.image import MIMEImage
from typing import Any

import django
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives, mail_admins, send_mail
from django.db import transaction
from django.test import TransactionTestCase, override_settings
from django.utils.translation import gettext_lazy, override

from outbox.errors import InvalidMessage, PayloadTooLarge
from outbox.integrations.django import outbox
from outbox.integrations.django.mail_messages import dump, load
from outbox.message import Message
from tests.servers.kept import free_port

OURS = "outbox.integrations.django.mail.EmailBackend"
SMTP_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


class Answers:
    """An SMTP server's side: keeps what it accepts, and answers as it is told."""

    def __init__(self) -> None:
        self.accepted: list[Envelope] = []
        self.to_rcpt: Callable[[str], str] = lambda address: "250 OK"
        self.to_data = "250 OK"
        self.hangs_up = False

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        answer = self.to_rcpt(address)
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.accepted.append(envelope)
        if self.hangs_up:
            server.transport.abort()
        return self.to_data


def mail_settings(*, port: int, outbox: dict[str, object] | None = None, **server: object) -> override_settings:
    """Django's mail through the outbox, and the outbox's through a server: by mailers, or as it was before Django 6.1."""
    told = {"host": "127.0.0.1", "port": port, **server}
    if django.VERSION >= (6, 1):
        mailers = {"default": {"BACKEND": OURS}, "server": {"BACKEND": SMTP_BACKEND, "OPTIONS": told}}
        return override_settings(MAILERS=mailers, OUTBOX={"EMAIL_BACKEND": "server", **(outbox or {})})
    names = {"username": "HOST_USER", "password": "HOST_PASSWORD"}
    flat = {f"EMAIL_{names.get(name, name.upper())}": value for name, value in told.items()}
    return override_settings(EMAIL_BACKEND=OURS, OUTBOX=outbox or {}, **flat)


def picture() -> MIMEBase | MIMEPart:
    """A part of the application's own making."""
    if django.VERSION < (6, 0):
        return MIMEImage(PNG, "png")
    part = MIMEPart()
    part.set_content(PNG, "image", "png")
    return part


class MailTestCase(TransactionTestCase):
    def setUp(self) -> None:
        self.server = Answers()
        controller = Controller(self.server, hostname="127.0.0.1", port=free_port())
        controller.start()
        self.addCleanup(controller.stop)
        self.port = controller.port
        self.enterContext(mail_settings(port=self.port))

    def deliver(self) -> Message:
        """Let the worker try once; the message as it then stands."""
        outbox().drain()
        (message,) = outbox().list()
        return message

    def received(self) -> Parsed:
        (envelope,) = self.server.accepted
        parsed = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(parsed, Parsed)
        return parsed


class Sending(MailTestCase):
    def test_a_mail_is_sent_after_the_commit_and_not_before(self) -> None:
        with transaction.atomic():
            assert send_mail("Your order", "It is on its way.", "shop@example.org", ["ada@example.org"]) == 1
            assert self.server.accepted == []
        assert self.deliver().status == "delivered"
        assert self.received()["Subject"] == "Your order"
        assert self.received().get_content().strip() == "It is on its way."
        assert self.server.accepted[0].rcpt_tos == ["ada@example.org"]
        assert not hasattr(mail, "outbox") or mail.outbox == []

    def test_a_mail_is_forgotten_with_the_transaction(self) -> None:
        with transaction.atomic():
            send_mail("Your order", "It is on its way.", "shop@example.org", ["ada@example.org"])
            transaction.set_rollback(True)
        assert outbox().list() == []

    def test_outside_of_a_transaction_a_mail_is_durable_at_once(self) -> None:
        send_mail("Password reset", "Follow the link.", None, ["ada@example.org"])
        assert self.deliver().status == "delivered"

    def test_nobody_to_send_to_is_no_message(self) -> None:
        assert EmailMessage("Hello", "body", to=[]).send() == 0
        backend = mail.mailers.default if django.VERSION >= (6, 1) else mail.get_connection()
        assert backend.send_messages([EmailMessage("Hello", "body", to=[])]) == 0
        assert outbox().list() == []

    @override_settings(ADMINS=["ada@example.org"] if django.VERSION >= (6, 0) else [("Ada", "ada@example.org")])
    def test_djangos_own_mails_go_the_same_way(self) -> None:
        mail_admins("Out of stock", "Look.", html_message="<p>Look.</p>")
        assert self.deliver().status == "delivered"
        assert [part.get_content_type() for part in self.received().walk()] == [
            "multipart/alternative", "text/plain", "text/html",
        ]  # fmt: skip

    def test_everything_that_a_mail_has_arrives(self) -> None:
        written = EmailMultiAlternatives(
            "Grüße aus Köln",
            "Ihre Bestellung",
            "Der Laden <laden@example.org>",
            ["Ada <ada@example.org>"],
            bcc=["secret@example.org"],
            cc=["copy@example.org"],
            reply_to=["answers@example.org"],
            headers={"X-Order": "42", "List-Unsubscribe": "<https://example.org/out>"},
        )
        written.attach_alternative("<p>Ihre Bestellung</p>", "text/html")
        written.attach("Rechnung.pdf", b"%PDF-1.4\x00\xff", "application/pdf")
        written.attach("größe.txt", "groß", "text/plain")
        written.attach(picture())
        written.attach(None, EmailMessage("Inner", "forwarded", "a@example.org", ["b@example.org"]), "message/rfc822")
        written.send()

        assert self.deliver().status == "delivered"
        assert sorted(self.server.accepted[0].rcpt_tos) == ["ada@example.org", "copy@example.org", "secret@example.org"]
        parsed = self.received()
        assert (parsed["Subject"], parsed["From"], parsed["Cc"]) == (
            "Grüße aus Köln", "Der Laden <laden@example.org>", "copy@example.org",
        )  # fmt: skip
        assert (parsed["Reply-To"], parsed["X-Order"], parsed["Bcc"]) == ("answers@example.org", "42", None)
        assert parsed["List-Unsubscribe"] == "<https://example.org/out>"
        pdf, text, image, inner = list(parsed.iter_attachments())[-4:]
        assert (pdf.get_filename(), pdf.get_content()) == ("Rechnung.pdf", b"%PDF-1.4\x00\xff")
        assert (text.get_filename(), text.get_content().strip()) == ("größe.txt", "groß")
        assert (image.get_content_type(), image.get_content()) == ("image/png", PNG)
        assert inner.get_content()["Subject"] == "Inner"

    def test_the_mail_is_the_same_one_at_every_attempt(self) -> None:
        self.server.to_data = "451 try again later"
        send_mail("Your order", "It is on its way.", None, ["ada@example.org"])
        assert self.deliver().status == "failed_retryable"
        self.server.to_data = "250 OK"
        outbox().cancel([self.deliver().id])
        outbox().retry([self.deliver().id])
        assert self.deliver().status == "delivered"
        first, second = [
            email.message_from_bytes(envelope.content, policy=email.policy.default) for envelope in self.server.accepted
        ]
        assert (first["Message-ID"], first["Date"]) == (second["Message-ID"], second["Date"])


class Refusing(MailTestCase):
    def test_what_cannot_be_composed_is_the_callers_to_know(self) -> None:
        with pytest.raises(ValueError, match="Header values"):
            send_mail("Hello\nBcc: everybody@example.org", "body", None, ["ada@example.org"])
        assert outbox().list() == []

    def test_a_mail_that_composes_itself_is_refused(self) -> None:
        class Signed(EmailMessage):
            def message(self, *arguments: Any, **options: Any) -> Any:
                return super().message(*arguments, **options)

        with pytest.raises(InvalidMessage, match="Signed has a message"):
            Signed("Hello", "body", to=["ada@example.org"]).send()

    def test_an_attribute_that_cannot_be_stored_is_refused_and_not_left_out(self) -> None:
        written = EmailMessage("Hello", "body", to=["ada@example.org"])
        written.esp_extra = {"client": object()}
        with pytest.raises(InvalidMessage, match="esp_extra"):
            written.send()

    def test_a_mail_above_the_limit_is_refused(self) -> None:
        with mail_settings(port=self.port, outbox={"PAYLOAD_LIMIT": 10_000}):
            written = EmailMessage("Hello", "body", to=["ada@example.org"])
            written.attach("large.bin", bytes(20_000), "application/octet-stream")
            with pytest.raises(PayloadTooLarge):
                written.send()


class Failing(MailTestCase):
    def outcome(self) -> tuple[str, int, str]:
        send_mail("Your order", "It is on its way.", None, ["ada@example.org", "bob@example.org"])
        message = self.deliver()
        return message.status, message.attempt_count, message.last_error or ""

    def test_what_the_server_cannot_take_now_is_tried_again(self) -> None:
        self.server.to_data = "451 greylisted"
        status, attempts, error = self.outcome()
        assert (status, attempts) == ("failed_retryable", 1)
        assert "451 greylisted" in error

    def test_what_the_server_refuses_for_good_is_not(self) -> None:
        self.server.to_data = "550 no such thing"
        assert self.outcome()[0] == "failed_terminal"

    def test_all_recipients_refused_is_permanent_and_names_none_of_them(self) -> None:
        self.server.to_rcpt = lambda address: "550 unknown"
        status, _attempts, error = self.outcome()
        assert status == "failed_terminal"
        assert "550 unknown" in error
        assert "ada" not in error

    def test_all_recipients_deferred_is_tried_again(self) -> None:
        self.server.to_rcpt = lambda address: "451 later" if address.startswith("ada") else "550 unknown"
        assert self.outcome()[0] == "failed_retryable"

    def test_a_server_that_is_not_there_is_tried_again(self) -> None:
        with mail_settings(port=free_port()):
            status, attempts, error = self.outcome()
        assert (status, attempts) == ("failed_retryable", 1)
        assert "cannot be reached" in error

    def test_a_server_that_hangs_up_after_the_mail_leaves_the_outcome_unknown(self) -> None:
        self.server.hangs_up = True
        send_mail("Your order", "It is on its way.", None, ["ada@example.org"])
        message = self.deliver()
        assert (message.status, message.outcome_unknown) == ("failed_retryable", True)

    def test_a_refused_login_is_nobodys_attempt(self) -> None:
        refusing = Controller(
            self.server, hostname="127.0.0.1", port=free_port(), auth_require_tls=False,
            authenticator=lambda *_credentials: AuthResult(success=False, handled=False),
        )  # fmt: skip
        refusing.start()
        self.addCleanup(refusing.stop)
        with mail_settings(port=refusing.port, username="shop", password="wrong"):
            status, attempts, _error = self.outcome()
        assert (status, attempts) == ("queued", 0)

    def test_a_server_without_the_encryption_that_the_settings_ask_for_is_nobodys_attempt(self) -> None:
        with mail_settings(port=self.port, use_tls=True):
            status, attempts, _error = self.outcome()
        assert (status, attempts) == ("queued", 0)
        assert self.server.accepted == []


class Storing(MailTestCase):
    def test_a_mail_read_back_has_every_attribute(self) -> None:
        class Branded(EmailMultiAlternatives):
            content_subtype = "html"

        written = Branded(gettext_lazy("Yes"), "<b>body</b>", to=["ada@example.org"])
        written.tags = ["order", "first"]
        with override("de"):
            read = load(dump(written))
        assert (read.subject, read.content_subtype, read.tags) == ("Ja", "html", ["order", "first"])
        assert isinstance(read, EmailMultiAlternatives)
