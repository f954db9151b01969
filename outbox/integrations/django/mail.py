"""``EMAIL_BACKEND = "outbox.integrations.django.mail.EmailBackend"``: Django's mail, durable and in the caller's transaction.

``send()`` writes a row; a worker sends it through the backend that ``OUTBOX["EMAIL_BACKEND"]`` names. Where there are
``MAILERS`` (from Django 6.1), that is the alias of one.
"""

import smtplib
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend

from outbox.channels.base import Channel
from outbox.errors import DeliverySignal, NotReady, OutcomeUnknown, PermanentFailure, RetryLater, Suppressed
from outbox.integrations.django import mail_messages, process
from outbox.integrations.django.functions import fresh_connections
from outbox.message import Attempt, Message, NewMessage

CHANNEL = "django.mail"


class EmailBackend(BaseEmailBackend):
    """Writes mail into the outbox: in the open transaction, or in one of its own where none is open.

    ``fail_silently`` does not apply: it is meant for mail servers, and a row that cannot be written is another thing.
    """

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Write a row for each mail that has recipients; returns how many.

        Raises :class:`~outbox.errors.InvalidMessage` for a mail that could not be sent as it is, and what Django raises while
        it composes one, such as ``ValueError`` for a line break in a header.
        """
        rows = [_row(mail) for mail in email_messages if mail.recipients()]
        here = process.outbox()
        here.enqueue_anyway(here.configured.database, rows)
        return len(rows)


class MailChannel(Channel):
    """Sends mail through one of Django's other backends."""

    name = CHANNEL
    concurrency = 4
    target_required = False

    def __init__(self, backend: str, **policy: Any) -> None:
        super().__init__(None, **policy)
        self._backend = backend

    def send_final(self, message: Message, attempt: Attempt) -> None:
        """Send it over a connection of its own."""
        mail = mail_messages.load(message.payload)
        with fresh_connections():
            connection = _connection(self._backend)
            if getattr(connection, "timeout", 0) is None:
                connection.timeout = self.timeout  # a server that falls silent would hold the worker for ever
            try:
                _open(connection)
                _send(connection, mail)
            finally:
                _close(connection)


def _row(mail: EmailMessage) -> NewMessage:
    mail.message()  # what cannot be composed is the caller's to know
    return NewMessage(channel=CHANNEL, target=str(mail.recipients()[0]), payload=mail_messages.dump(mail))


def _connection(backend: str) -> Any:
    if hasattr(settings, "MAILERS"):  # from Django 6.1
        from django.core.mail import mailers

        return mailers[backend]
    return get_connection(backend)


def _open(connection: Any) -> None:
    """What fails here has sent nothing."""
    try:
        connection.open()
    except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError) as error:
        raise NotReady(f"the mail server does not let us in: {error}") from error
    except smtplib.SMTPResponseException as error:
        raise RetryLater(f"the mail server is closed: {_answer(error.smtp_code, error.smtp_error)}") from error
    except OSError as error:
        raise RetryLater(f"the mail server cannot be reached: {error}") from error


def _send(connection: Any, mail: EmailMessage) -> None:
    try:
        sent = connection.send_messages([mail])
    except smtplib.SMTPException as error:
        raise _told(error) from error
    except OSError as error:
        raise OutcomeUnknown(f"the connection to the mail server was lost: {error}") from error
    if sent == 0:  # some backends return nothing at all, and mean success
        raise Suppressed("the mail backend sent nothing")


def _close(connection: Any) -> None:
    try:
        connection.close()
    except OSError:  # the mail is sent, or its failure is known: a rude good-bye changes neither
        return


def _told(error: smtplib.SMTPException) -> DeliverySignal:
    """What a mail server's answer means (RFC 5321 §4.2.1): 4yz is transient, 5yz is permanent. Addresses stay out of it."""
    match error:
        case smtplib.SMTPRecipientsRefused():
            answers = list(error.recipients.values())
            permanent = all(code >= 500 for code, _text in answers)
            text = f"all recipients were refused: {'; '.join(_answer(*answer) for answer in answers)}"
            return PermanentFailure(text) if permanent else RetryLater(text)
        case smtplib.SMTPResponseException():
            text = _answer(error.smtp_code, error.smtp_error)
            return PermanentFailure(text) if error.smtp_code >= 500 else RetryLater(text)
        case smtplib.SMTPServerDisconnected():
            return OutcomeUnknown(f"the mail server hung up: {error}")
        case smtplib.SMTPNotSupportedError():
            return PermanentFailure(f"the mail server cannot do it: {error}")
        case _:
            return RetryLater(str(error))


def _answer(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
