"""One SMTP session (RFC 5321): opened, asked to take an envelope and a content, ended."""

import asyncio
import ssl

import aiosmtplib
from aiosmtplib import SMTP

from outbox.channels.mail import replies
from outbox.channels.mail.account import Account, Security
from outbox.channels.mail.composing import Mail
from outbox.channels.mail.replies import Refusal
from outbox.errors import DeliverySignal, NotReady, PermanentFailure, RetryLater

LOST = (aiosmtplib.SMTPException, OSError)
"""What a session raises that is no session any more: no connection, a time-out, or a reply that is none."""

_PROBE_TIMEOUT_S = 5.0
_QUIT_TIMEOUT_S = 2.0


class Session:
    """A session under the login of one account.

    After a signal (:class:`~outbox.errors.DeliverySignal`) it can be used for another mail as long as it is open; after
    anything else it must be closed, because the next reply may be the one to this mail.
    """

    def __init__(self, smtp: SMTP, account: Account) -> None:
        self._smtp = smtp
        self._account = account
        self.accepted = 0
        """Mails that it has been given and that were taken."""

    @classmethod
    async def open(
        cls, account: Account, *, tls: ssl.SSLContext, timeout_s: float, local_hostname: str | None, pause_s: float
    ) -> "Session":
        """Connect, encrypt and log in. ``pause_s`` is the pause that the channel would make after this attempt.

        Raises :class:`~outbox.RetryLater` or :class:`~outbox.NotReady`: what goes wrong here says nothing about the mail.
        """
        smtp = SMTP(
            hostname=account.host,
            port=account.server_port,
            use_tls=account.security is Security.TLS,
            start_tls=account.security is Security.STARTTLS,
            tls_context=tls,
            local_hostname=local_hostname,
            timeout=None,
        )
        session = cls(smtp, account)
        stage = "connection"
        try:
            async with asyncio.timeout(timeout_s):
                await smtp.connect()
                stage = "login"
                if account.username is not None and account.password is not None:
                    await smtp.login(account.username, account.password)
                stage = "greeting"
                if smtp.is_ehlo_or_helo_needed:  # what the server can do has to be known before a mail is offered to it
                    await smtp.ehlo()
        except LOST as error:
            smtp.close()
            raise session._not_open(error, stage, pause_s) from None
        except BaseException:
            smtp.close()
            raise
        return session

    @property
    def is_open(self) -> bool:
        """Whether the connection stands, as far as this side knows."""
        return self._smtp.is_connected

    @property
    def local_hostname(self) -> str | None:
        """What this host called itself."""
        return self._smtp.local_hostname

    async def probe(self) -> None:
        """Find out whether the server is still there, and let it forget an envelope that came to nothing."""
        await self._smtp.rset(timeout=_PROBE_TIMEOUT_S)

    async def envelope(self, mail: Mail, pause_s: float) -> list[Refusal]:
        """Name sender and recipients; the recipients whom the server does not take, where it takes any.

        Raises a signal when it takes nobody.
        """
        encoding = "utf-8" if mail.international else "ascii"
        refusals = []
        try:
            await self._smtp.mail(mail.sender, options=self._parameters(mail), encoding=encoding)
            for recipient in mail.recipients:
                try:
                    await self._smtp.rcpt(recipient, encoding=encoding)
                except aiosmtplib.SMTPRecipientRefused as no:
                    if no.code == replies.CLOSING:
                        raise
                    refusals.append(Refusal(recipient, no.code, self._told(no.message, mail)))
        except aiosmtplib.SMTPResponseException as no:
            stage = "recipient" if isinstance(no, aiosmtplib.SMTPRecipientRefused) else "sender"
            raise replies.refused(no.code, self._told(no.message, mail), stage, pause_s) from None
        if len(refusals) == len(mail.recipients):
            raise replies.all_refused(refusals, pause_s)
        return refusals

    async def content(self, mail: Mail, pause_s: float) -> str:
        """Give the content; what the server said when it took it. Raises a signal when it does not."""
        try:
            response = await self._smtp.data(mail.content, timeout=None)
        except aiosmtplib.SMTPDataError as no:
            raise replies.refused(no.code, self._told(no.message, mail), "content", pause_s) from None
        self.accepted += 1
        return self._told(response.message, mail)

    async def part(self) -> None:
        """QUIT before closing, as RFC 5321 §4.1.1.10 wants it; what the server answers changes nothing any more."""
        try:
            await self._smtp.quit(timeout=_QUIT_TIMEOUT_S)
        except LOST:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Give up the connection."""
        self._smtp.close()

    def _parameters(self, mail: Mail) -> list[str]:
        """What MAIL says beside the sender. A mail that the server has said it cannot take is not offered to it."""
        extensions = self._smtp.esmtp_extensions
        parameters = []
        if "size" in extensions:
            size, limit = len(mail.content), extensions["size"].strip()
            if limit.isdigit() and 0 < int(limit) < size:  # RFC 1870: 0 is no limit
                raise PermanentFailure(f"the message has {size} bytes, and the server takes {limit}")
            parameters.append(f"SIZE={size}")
        if mail.international:
            if "smtputf8" not in extensions:
                raise PermanentFailure("an address is not ASCII, and the server does not know such addresses (SMTPUTF8)")
            parameters += ["SMTPUTF8", "BODY=8BITMIME"]
        return parameters

    def _not_open(self, error: Exception, stage: str, pause_s: float) -> DeliverySignal:
        match error:
            case aiosmtplib.SMTPResponseException():
                return replies.turned_away(error.code, self._told(error.message), stage, pause_s)
            case TimeoutError():
                return RetryLater("no connection: timed out")
            case OSError():
                cause = error.__cause__ or error
                return RetryLater(f"no connection: {self._told(str(cause)) or type(cause).__name__}")
            case _:  # the library's own words: the server offers no STARTTLS, or no way to log in
                return NotReady(self._told(str(error)))

    def _told(self, text: str, mail: Mail | None = None) -> str:
        return replies.told(text, [*self._account.credentials, *(mail.recipients if mail is not None else ())])
