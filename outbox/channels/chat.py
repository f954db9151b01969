"""What the chat channels share: credentials by account, one guarded API, and a message's place in its conversation."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from outbox.channels import content
from outbox.channels.accounts import Accounts
from outbox.channels.answer import Answer, one_line, signal_of
from outbox.channels.base import Channel
from outbox.channels.content import Content
from outbox.channels.egress import Egress, EgressRefused
from outbox.channels.http import CONNECT_TIMEOUT_S, HttpClient
from outbox.codec import DecodeError
from outbox.errors import (
    LONGEST_WISH_S,
    ConfigurationError,
    DeliverySignal,
    InvalidMessage,
    OutcomeUnknown,
    PermanentFailure,
)
from outbox.message import Attempt, Message, NewMessage, Receipt
from outbox.policy.classification import classify_status, storable
from outbox.policy.destination import Breaker

# Chat services answer with the whole message: 40,000 characters, escaped, and its blocks.
_LONGEST_ANSWER = 1024 * 1024
_LONGEST_EXPLANATION = 500
_LONGEST_THREAD_LABEL = 100


class ChatChannel(Channel, ABC):
    """Base of the channels that send to one chat service over its JSON API.

    ``token`` is the credential; with ``accounts``, tables of a ``token`` each, a message's account id chooses it.
    ``base_url`` is where the API is, for gateways of one's own; ``allow_networks``, ``allow_hosts``, ``allow_http`` and
    ``ca_file`` let it be reached when it is not public, as for webhooks.

    One message is one call of the API that shows, so that a failure never leaves a part of it delivered.
    """

    ordered = True
    ttl = 1800.0
    recovery_pace = 0.25
    concurrency = 16
    channel_breaker = Breaker(failures=20)
    secret_options = ("token", "accounts")

    service: ClassVar[str]
    """What the service is called in texts."""
    api: ClassVar[str]
    """Where its public API is."""
    token_shape: ClassVar[re.Pattern[str]]
    target_shape: ClassVar[re.Pattern[str]]
    target_meaning: ClassVar[str]
    """What a target is, for the text that refuses another."""
    set_by_us: ClassVar[frozenset[str]]
    """Fields of the API that the payload's own fields set, and ``extra`` therefore may not."""
    interaction_fields: ClassVar[frozenset[str]]
    """Fields that only make sense in an answer to a live interaction, which is not to be enqueued."""

    def __init__(
        self,
        name: str | None = None,
        *,
        token: str | None = None,
        accounts: Mapping[str, Mapping[str, str]] | None = None,
        base_url: str | None = None,
        allow_networks: Sequence[str] = (),
        allow_hosts: Sequence[str] = (),
        allow_http: bool = False,
        ca_file: str | None = None,
        **policy: Any,
    ) -> None:
        super().__init__(name, **policy)
        try:
            egress = Egress.of(allow_networks=allow_networks, allow_hosts=allow_hosts, allow_http=allow_http)
            self._accounts = Accounts.of(token, accounts, self.token_shape)
            self._base_url = _base_url(self.api if base_url is None else base_url, egress)
            self._client = HttpClient(
                egress, connect_timeout_s=CONNECT_TIMEOUT_S, longest_answer=_LONGEST_ANSWER, ca_file=ca_file
            )
        except (EgressRefused, ValueError) as error:
            raise ConfigurationError(f"channel {self.name!r}: {error}") from None

    @abstractmethod
    def check_content(self, target: str, said: Content) -> None:
        """Refuse what the service cannot express. Raises :class:`~outbox.errors.InvalidMessage`."""

    @abstractmethod
    async def deliver(self, message: Message, said: Content, token: str, attempt: Attempt) -> Receipt:
        """Send what :meth:`check_content` let pass."""

    def check_message(self, message: NewMessage) -> None:
        """Refuse an unknown account, a target that is none, and content that the service cannot express."""
        super().check_message(message)
        try:
            self._accounts.token(message.account_id)
            self._content(message.target, message.payload)
        except InvalidMessage as refused:
            raise InvalidMessage(f"channel {self.name!r}: {refused}") from None

    async def send_final(self, message: Message, attempt: Attempt) -> Receipt:
        """Send the message."""
        try:
            token = self._accounts.token(message.account_id)
            said = self._content(message.target, message.payload)
        except InvalidMessage as refused:
            raise PermanentFailure(str(refused)) from None
        return await self.deliver(message, said, token, attempt)

    def ordering_key_for(self, message: NewMessage | Message) -> str | None:
        """Account, target and thread: each conversation is in order by itself."""
        key = super().ordering_key_for(message)
        if key is None:
            return None
        try:
            thread = self.thread_of(content.read(message.payload))
        except (InvalidMessage, DecodeError):
            return key  # what is wrong with the payload is said where the message is sent
        label = repr(thread)  # 42 is not "42"
        return key if thread is None or len(label) > _LONGEST_THREAD_LABEL else f"{key}|{label}"

    def thread_of(self, said: Content) -> str | int | None:
        """The thread within the target that the message belongs to."""
        return said.thread_id

    async def aclose(self) -> None:
        await self._client.aclose()

    async def call(self, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        """Post ``body`` to the API."""
        return await self._client.request("POST", self._base_url + path, body=body, headers=headers, timeout_s=timeout_s)

    def failure(self, status: int, reason: str, token: str, wait_ms: int | None = None) -> DeliverySignal:
        """The signal for an error that the API explained itself, by the HTTP status that stands for it."""
        return signal_of(classify_status(status, self.told(reason, token), wait_ms))

    def told(self, reason: str, token: str) -> str:
        """A text for ``last_error``: what the service said, without the token that it may have echoed."""
        return storable(without(f"{self.service}: {reason}", token), _LONGEST_EXPLANATION)

    def misunderstood(self, answer: Answer, token: str) -> DeliverySignal:
        """The signal for an answer that is not the API's own: a proxy's page, half a body."""
        if answer.accepted:
            return OutcomeUnknown(f"HTTP {answer.status}, and not in the words of {self.service}")
        return answer.failure(secrets_of(token))

    def _content(self, target: str, payload: Any) -> Content:
        if not self.target_shape.fullmatch(target):
            hint = "; answers to an interaction cannot be enqueued" if "://" in target else ""
            raise InvalidMessage(f"the target is not {self.target_meaning}{hint}")
        said = content.read(payload)
        for name in said.extra:
            if name in self.interaction_fields:
                raise InvalidMessage(f"extra holds {name!r}: answers to a live interaction cannot be enqueued")
            if name in self.set_by_us:
                raise InvalidMessage(f"extra may not hold {name!r}, which the channel sets from the payload's own fields")
        self.check_content(target, said)
        return said


def object_of(answer: Answer) -> dict[str, Any]:
    """The JSON object that the answer is; an empty one where it is none."""
    said = answer.json()
    return said if isinstance(said, dict) else {}


def wait_ms(wish_s: object, answer: Answer) -> int | None:
    """How long the service wants to be left alone, by a number of seconds in its answer, else by its ``Retry-After``."""
    if isinstance(wish_s, int | float) and not isinstance(wish_s, bool) and 0 <= wish_s < math.inf:
        return math.ceil(min(wish_s, LONGEST_WISH_S) * 1000)
    return answer.wait_ms()


def secrets_of(token: str) -> list[str]:
    """The token, and its longest part, by which it could be put together again."""
    return [token, max(re.split(r"[:.]", token), key=len)]


def without(text: str, token: str) -> str:
    """``text`` in one line, with the token taken out."""
    for secret in secrets_of(token):
        text = text.replace(secret, "[removed]")
    return one_line(text)


def _base_url(url: Any, egress: Egress) -> str:
    if url == "":
        raise ValueError("give base_url, the address of the server that the account is on")
    if not isinstance(url, str) or "?" in url or "#" in url:
        raise ValueError("base_url must be a URL without query and fragment")
    return str(egress.url(url.rstrip("/"))).rstrip("/")
