"""Sends mails over SMTP sessions that are kept for the next mail, and says of each whether anything left."""

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from outbox.channels.mail.account import Account
from outbox.channels.mail.composing import Mail
from outbox.channels.mail.replies import Refusal
from outbox.channels.mail.session import LOST, Session
from outbox.errors import DeliverySignal, OutcomeUnknown, RetryLater

# The content gets the rest: once it is begun, time that runs out leaves an unknown outcome.
_SHARE_OF_ENVELOPE = 0.5
# Servers wait five minutes at least (RFC 5321 §4.5.3.2.7); nobody's place is held for longer than a burst lasts.
_IDLE_S = 15.0
# Many servers end a session after a hundred mails.
_MOST_PER_SESSION = 100


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The server has the mail: its words, and the recipients whom it did not take."""

    answer: str
    refusals: Sequence[Refusal] = ()


@dataclass(slots=True)
class _Idle:
    """What one event loop has besides mails being sent: sessions that wait until a time, and farewells."""

    sessions: dict[Session, asyncio.TimerHandle] = field(default_factory=dict)
    farewells: set[asyncio.Task[None]] = field(default_factory=set)


class Sessions:
    """The sessions of one account, one for each mail under way; at most ``keep`` wait for the next mail.

    It can be made before a fork and used from any event loop: sessions belong to the loop that opened them. The host is the
    operator's configuration and no user's data, so unlike the target of a webhook it is not guarded: it is often private.
    """

    def __init__(
        self, account: Account, *, tls: ssl.SSLContext, connect_timeout_s: float, keep: int, local_hostname: str | None
    ) -> None:
        self._account = account
        self._tls = tls
        self._connect_timeout_s = connect_timeout_s
        self._keep_at_most = keep
        self._local_hostname = local_hostname
        self._idle: dict[asyncio.AbstractEventLoop, _Idle] = {}

    async def send(self, mail: Mail, *, timeout_s: float, pause_s: float) -> Acceptance:
        """Send one mail; ``pause_s`` is the pause that the channel would make after this attempt.

        Raises :class:`~outbox.RetryLater` when the mail may be taken later, :class:`~outbox.PermanentFailure` when it never
        will be, :class:`~outbox.NotReady` when the server does not talk to us, and :class:`~outbox.OutcomeUnknown` when the
        content may have left and no answer came.
        """
        envelope_s = _SHARE_OF_ENVELOPE * timeout_s
        try:
            async with asyncio.timeout(envelope_s):
                session, refusals = await self._address(mail, pause_s)
        except TimeoutError:
            raise RetryLater(f"the server took no envelope within {envelope_s:g} s") from None
        try:
            with self._using(session):
                answer = await session.content(mail, pause_s)
        except LOST:
            raise OutcomeUnknown("the connection was lost before the answer to the content") from None
        self._keep(session)
        return Acceptance(answer, refusals)

    async def aclose(self) -> None:
        """End the waiting sessions of the running event loop."""
        idle = self._idle.pop(asyncio.get_running_loop(), _Idle())
        for expiry in idle.sessions.values():
            expiry.cancel()
        await asyncio.gather(*idle.farewells, *(session.part() for session in idle.sessions), return_exceptions=True)

    async def _address(self, mail: Mail, pause_s: float) -> tuple[Session, list[Refusal]]:
        """A session that has taken the envelope. One that died while it waited is replaced: nobody has failed."""
        while (kept := self._kept()) is not None:
            try:
                with self._using(kept):
                    await kept.probe()
                    return kept, await kept.envelope(mail, pause_s)
            except LOST:
                continue
            except DeliverySignal:
                if kept.is_open:  # after 421 it is not, and that was said to the session, not to the mail
                    raise
        session = await Session.open(
            self._account,
            tls=self._tls,
            timeout_s=self._connect_timeout_s,
            local_hostname=self._local_hostname,
            pause_s=pause_s,
        )
        self._local_hostname = session.local_hostname  # to find one's own name may take a while
        try:
            with self._using(session):
                return session, await session.envelope(mail, pause_s)
        except LOST as error:
            raise RetryLater(f"the connection was lost before the content: {type(error).__name__}") from None

    @contextmanager
    def _using(self, session: Session) -> Iterator[None]:
        """Keep the session after a signal, and close it after whatever ends the dialogue in its middle."""
        try:
            yield
        except DeliverySignal:
            self._keep(session)
            raise
        except BaseException:  # cancelled too
            session.close()
            raise

    def _kept(self) -> Session | None:
        """A session that waits, the last one first: the others may then come to their end."""
        idle = self._idle.get(asyncio.get_running_loop())
        while idle is not None and idle.sessions:
            session, expiry = idle.sessions.popitem()
            expiry.cancel()
            if session.is_open:
                return session
        return None

    def _keep(self, session: Session) -> None:
        """Let it wait for the next mail, unless it has done enough or enough others wait."""
        if not session.is_open:
            return
        loop = asyncio.get_running_loop()
        idle = self._idle.setdefault(loop, _Idle())
        if session.accepted >= _MOST_PER_SESSION or len(idle.sessions) >= self._keep_at_most:
            self._dismiss(idle, session)
        else:
            idle.sessions[session] = loop.call_later(_IDLE_S, self._dismiss, idle, session)

    def _dismiss(self, idle: _Idle, session: Session) -> None:
        idle.sessions.pop(session, None)
        farewell = asyncio.get_running_loop().create_task(session.part())
        idle.farewells.add(farewell)
        farewell.add_done_callback(idle.farewells.discard)
