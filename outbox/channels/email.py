"""The ``email`` channel: mail through an SMTP server (RFC 5321), with attachments, pictures, threads and a stable id."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from outbox.channels.base import Channel
from outbox.channels.mail.account import Account
from outbox.errors import ConfigurationError, InvalidMessage, PermanentFailure, did_you_mean
from outbox.extras import extra
from outbox.message import Attempt, Message, NewMessage, Receipt
from outbox.policy.destination import Breaker
from outbox.policy.retry import Backoff

with extra("email", "the channel email"):
    from outbox.channels.egress import Egress, EgressRefused
    from outbox.channels.http import CONNECT_TIMEOUT_S, HttpClient, trusting
    from outbox.channels.mail import fetching, letter
    from outbox.channels.mail.composing import compose, message_id
    from outbox.channels.mail.sessions import Sessions

LARGEST_MESSAGE = 25_000_000
"""Bytes; what the large providers take."""
_SHARE_OF_FETCHING = 0.3
"""Of a send's time, what it may take to fetch media; the rest is for the server."""
_OWN_NAME = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")


class Email(Channel):
    """Sends mail. A message's target is its recipient's address, or a list of them.

    ``host`` and ``sender`` are what it needs at least; ``security`` is ``"starttls"`` (default), ``"tls"`` or ``"none"``.
    With ``accounts``, tables that refine these options, a message's account id chooses one. ``ca_file`` names the authorities
    to trust in place of the system's. ``max_bytes`` bounds a whole message, attachments encoded.

    Media given by URL are fetched when the message is sent, from public addresses alone; ``allow_networks``, ``allow_hosts``
    and ``allow_http`` open that guard as they do for webhooks.
    """

    name = "email"
    timeout = 120.0  # servers look at the content before they answer; RFC 5321 §4.5.3.2.6 would wait ten minutes
    concurrency = 4
    max_attempts = 8
    backoff = Backoff((60.0, 300.0, 900.0, 3600.0))
    ttl = 86_400.0
    channel_breaker = Breaker(failures=20)
    # Servers accept a second copy; that readers and lists may drop it by its Message-ID is no promise.
    supports_idempotency_key = False
    secret_options = ("password", "username", "accounts")

    def __init__(
        self,
        name: str | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        security: str | None = None,
        username: str | None = None,
        password: str | None = None,
        sender: str | None = None,
        reply_address: str | None = None,
        bounce_address: str | None = None,
        subject: str | None = None,
        domain: str | None = None,
        accounts: Mapping[str, Mapping[str, Any]] | None = None,
        ca_file: str | None = None,
        local_hostname: str | None = None,
        max_bytes: int = LARGEST_MESSAGE,
        allow_networks: Sequence[str] = (),
        allow_hosts: Sequence[str] = (),
        allow_http: bool = False,
        **policy: Any,
    ) -> None:
        super().__init__(name, **policy)
        own = {"host": host, "port": port, "security": security, "username": username, "password": password,
               "sender": sender, "reply_address": reply_address, "bounce_address": bounce_address, "subject": subject,
               "domain": domain}  # fmt: skip
        if type(max_bytes) is not int or max_bytes < 1:
            raise ConfigurationError(f"channel {self.name!r}: max_bytes must be a whole number above 0, not {max_bytes!r}")
        self._max_bytes = max_bytes
        try:
            egress = Egress.of(allow_networks=allow_networks, allow_hosts=allow_hosts, allow_http=allow_http)
            tls = trusting(ca_file)
            self._accounts = _accounts(own, accounts)
            self._local_hostname = _own_name(local_hostname)
        except (EgressRefused, ValueError) as error:
            raise ConfigurationError(f"channel {self.name!r}: {error}") from None
        self._media = HttpClient(egress, connect_timeout_s=CONNECT_TIMEOUT_S)
        self._sessions = {
            label: Sessions(
                account,
                tls=tls,
                connect_timeout_s=CONNECT_TIMEOUT_S,
                keep=self.concurrency,
                local_hostname=self._local_hostname,
            )
            for label, account in self._accounts.items()
        }

    def check_message(self, message: NewMessage) -> None:
        """Refuse an unknown account, what is no address, and what no mail can express."""
        super().check_message(message)
        try:
            self._account(message.account_id)
            letter.read(message.target, message.payload, longest=self._max_bytes)
        except InvalidMessage as refused:
            raise InvalidMessage(f"channel {self.name!r}: {refused}") from None

    async def send_final(self, message: Message, attempt: Attempt) -> Receipt:
        """Send the mail. It is delivered when the server has taken it for at least one recipient.

        The receipt names those whom the server refused, with its reasons; to send the message again would send it a second
        time to the others.
        """
        try:
            account = self._account(message.account_id)
            said = letter.read(message.target, message.payload, longest=self._max_bytes)
        except InvalidMessage as refused:
            raise PermanentFailure(str(refused)) from None
        clock = asyncio.get_running_loop().time
        end = clock() + attempt.timeout_s
        fetch_s = _SHARE_OF_FETCHING * attempt.timeout_s
        said = await fetching.with_data(said, self._media, longest=self._max_bytes, timeout_s=fetch_s)
        mail = compose(said, account, message)
        if len(mail.content) > self._max_bytes:
            raise PermanentFailure(f"the message has {len(mail.content)} bytes; {self._max_bytes} are allowed (max_bytes)")
        pause_s = self.backoff.after(attempt.number) / 1000
        accepted = await self._sessions[message.account_id].send(mail, timeout_s=end - clock(), pause_s=pause_s)
        details: dict[str, Any] = {"answer": accepted.answer}
        if accepted.refusals:
            details["refused"] = [asdict(refusal) for refusal in accepted.refusals]
        return Receipt(f"<{message_id(message, account.message_id_domain)}>", details)

    async def aclose(self) -> None:
        await asyncio.gather(self._media.aclose(), *(sessions.aclose() for sessions in self._sessions.values()))

    def _account(self, account_id: str) -> Account:
        if account_id in self._accounts:
            return self._accounts[account_id]
        known = ", ".join(repr(account) for account in sorted(self._accounts))
        hint = did_you_mean(account_id, self._accounts)
        raise InvalidMessage(f"no account {account_id!r} is configured{hint} (configured: {known})")


def _accounts(own: Mapping[str, Any], accounts: Any) -> dict[str, Account]:
    """Accounts by id; the empty id is the channel's own, where that is complete."""
    if not isinstance(accounts, Mapping | None):
        raise ValueError("accounts must be a table of tables")
    base = Account().refined(own)
    found = {"": base} if base.is_complete or not accounts else {}
    for label, table in (accounts or {}).items():
        try:
            found[label] = base.refined(table)
        except ValueError as error:
            raise ValueError(f"account {label!r}: {error}") from None
    for label, account in found.items():
        if not account.is_complete:
            missing = "a host" if not account.host else "a sender"
            raise ValueError(f"account {label!r} lacks {missing}" if label else f"give {missing}")
    return found


def _own_name(local_hostname: Any) -> str | None:
    if local_hostname is None or (isinstance(local_hostname, str) and _OWN_NAME.fullmatch(local_hostname)):
        return local_hostname
    raise ValueError("local_hostname must be the name of this host, or its address in brackets")
