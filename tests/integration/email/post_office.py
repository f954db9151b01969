"""A mail server on loopback that keeps what it is given, and at any stage of the dialogue does what a test tells it to do."""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTPUTF8
from enum import Enum
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class Act(Enum):
    """What a server may do instead of an answer."""

    DROP = "cut the connection"
    HANG = "say nothing, ever"


Reaction = str | Act
"""Other words than the usual ones, or an act. After 421 the server closes."""


@dataclass(frozen=True)
class Delivered:
    """A mail that was taken, and the connection that brought it, counted from 1."""

    sender: str
    recipients: Sequence[str]
    content: bytes
    parameters: Sequence[str]
    connection: int

    @property
    def message(self) -> EmailMessage:
        parsed = message_from_bytes(self.content, policy=SMTPUTF8)
        assert isinstance(parsed, EmailMessage)
        return parsed


@dataclass
class PostOffice:
    """``reactions`` by stage (``greeting``, a command, ``content``), one used up at each visit; ``refused`` by recipient."""

    mails: list[Delivered] = field(default_factory=list)
    reactions: dict[str, list[Reaction]] = field(default_factory=lambda: defaultdict(list))
    refused: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    servers: list["_Server"] = field(default_factory=list)
    credentials: tuple[bytes, bytes] | None = None
    port: int = 0

    @property
    def connections(self) -> int:
        return len(self.servers)

    @property
    def last(self) -> Delivered:
        return self.mails[-1]

    def cut(self) -> None:
        """Cut every connection that stands."""
        for server in self.servers:
            if server.transport is not None:
                server.transport.abort()

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        given = (data.login, data.password) if isinstance(data, LoginPassword) else None
        return AuthResult(success=given == self.credentials, handled=False)


@dataclass
class _Clerk:
    """What the server asks about recipients and contents."""

    office: PostOffice

    async def handle_RCPT(
        self, server: "_Server", session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.office.refused:
            return self.office.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: "_Server", session: Session, envelope: Envelope) -> str:
        if (reaction := server.reaction("content")) is not None:
            return await server.do(reaction) or ""
        assert envelope.mail_from is not None
        assert isinstance(envelope.content, bytes)
        number = self.office.servers.index(server) + 1
        self.office.mails.append(
            Delivered(envelope.mail_from, envelope.rcpt_tos, envelope.content, list(envelope.mail_options), number)
        )
        return f"250 2.0.0 Ok: queued as Q{len(self.office.mails):04}"


class _Server(SMTP):
    """The server's side of one connection."""

    def __init__(self, office: PostOffice, **options: Any) -> None:
        super().__init__(_Clerk(office), hostname="post.example", loop=asyncio.get_running_loop(), **options)
        self.office = office
        office.servers.append(self)

    def reaction(self, stage: str) -> Reaction | None:
        self.office.commands.append(stage)
        waiting = self.office.reactions[stage]
        return waiting.pop(0) if waiting else None

    async def do(self, reaction: Reaction) -> str | None:
        assert self.transport is not None
        match reaction:
            case Act.DROP:
                self.transport.abort()  # type: ignore[attr-defined]
            case Act.HANG:
                await asyncio.Event().wait()
            case str():
                return reaction
        return None

    async def _instead(self, stage: str) -> bool:
        """Whether it has reacted in an unusual way."""
        reaction = self.reaction(stage)
        if reaction is None:
            return False
        if (words := await self.do(reaction)) is not None:
            await self.push(words)
            if words.startswith("421"):
                self._writer.close()
        return True

    async def _handle_client(self) -> None:
        if not await self._instead("greeting"):
            await super()._handle_client()

    async def smtp_EHLO(self, hostname: str) -> None:
        if not await self._instead("EHLO"):
            await super().smtp_EHLO(hostname)

    async def smtp_STARTTLS(self, arg: str) -> None:
        if not await self._instead("STARTTLS"):
            await super().smtp_STARTTLS(arg)

    async def smtp_AUTH(self, arg: str) -> None:
        if not await self._instead("AUTH"):
            await super().smtp_AUTH(arg)

    async def smtp_MAIL(self, arg: str) -> None:
        if not await self._instead("MAIL"):
            await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg: str) -> None:
        if not await self._instead("RCPT"):
            await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg: str) -> None:
        if not await self._instead("DATA"):
            await super().smtp_DATA(arg)

    async def smtp_RSET(self, arg: str) -> None:
        if not await self._instead("RSET"):
            await super().smtp_RSET(arg)

    async def smtp_QUIT(self, arg: str) -> None:
        if not await self._instead("QUIT"):
            await super().smtp_QUIT(arg)


@asynccontextmanager
async def open_post_office(
    *, tls: ssl.SSLContext | None = None, from_the_start: bool = False, login: tuple[str, str] | None = None, **options: Any
) -> AsyncIterator[PostOffice]:
    """A server that listens while the block runs. ``tls`` is offered by STARTTLS, or spoken ``from_the_start``."""
    office = PostOffice(credentials=None if login is None else (login[0].encode(), login[1].encode()))
    options = {"enable_SMTPUTF8": True, **options}
    if login is not None:
        # The server's library does not see TLS that was there before it.
        options |= {"authenticator": office.authenticate, "auth_required": not from_the_start}
        options |= {"auth_require_tls": not from_the_start}
    if tls is not None and not from_the_start:
        options["tls_context"] = tls
    server = await asyncio.get_running_loop().create_server(
        lambda: _Server(office, **options), "127.0.0.1", 0, ssl=tls if from_the_start else None
    )
    office.port = server.sockets[0].getsockname()[1]
    try:
        yield office
    finally:
        server.close()
        office.cut()
        handlers = [each._handler_coroutine for each in office.servers if each._handler_coroutine is not None]
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
