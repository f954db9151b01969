"""The ``webhook`` channel: signed HTTP POSTs, by the Standard Webhooks specification (https://www.standardwebhooks.com)."""

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from outbox.channels.base import Channel
from outbox.channels.endpoint import Endpoint
from outbox.channels.rendering import to_json
from outbox.errors import ConfigurationError, InvalidMessage, PermanentFailure, did_you_mean
from outbox.extras import extra
from outbox.message import Attempt, Message, NewMessage, Receipt

with extra("webhook", "the channel webhook"):
    from outbox.channels.answer import Answer
    from outbox.channels.egress import Egress, EgressRefused
    from outbox.channels.http import CONNECT_TIMEOUT_S, LONGEST_ANSWER, HttpClient

_Number = TypeVar("_Number", int, float)
_TRACE_CONTEXT = ("traceparent", "tracestate")
_PLAIN_VALUE = re.compile(r"[\x21-\x7e][\x20-\x7e]*")
_LONGEST_PROVIDER_ID = 200


class Webhook(Channel):
    """Posts the payload as JSON to an ``https`` URL.

    A message's target is the URL itself, or names one of the ``destinations`` (tables of ``url``, ``secret`` or
    ``secrets``, and ``headers``). With ``url`` every other message goes there, and the target may be anything or empty.
    ``secret``, or ``secrets`` with the newest first while one is rotated, signs; without any nothing is signed.

    Only public addresses are reached, except those in ``allow_networks`` and those of the names in ``allow_hosts``.
    """

    name = "webhook"
    concurrency = 32
    supports_idempotency_key = True
    secret_options = ("secret", "secrets", "headers", "destinations")

    def __init__(
        self,
        name: str | None = None,
        *,
        url: str | None = None,
        secret: str | None = None,
        secrets: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
        destinations: Mapping[str, Mapping[str, Any]] | None = None,
        allow_networks: Sequence[str] = (),
        allow_hosts: Sequence[str] = (),
        allow_http: bool = False,
        ports: Sequence[int] | None = None,
        ca_file: str | None = None,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        max_response_bytes: int = LONGEST_ANSWER,
        **policy: Any,
    ) -> None:
        super().__init__(name, **{"target_required": url is None, **policy})
        try:
            self._egress = Egress.of(allow_networks=allow_networks, allow_hosts=allow_hosts, allow_http=allow_http, ports=ports)
            self._own = Endpoint().refined({"url": url, "secret": secret, "secrets": secrets, "headers": headers})
            if not isinstance(destinations, Mapping | None):
                raise ValueError("destinations must be a table of tables")
            self._destinations = {label: self._destination(label, table) for label, table in (destinations or {}).items()}
            if url is not None:
                self._egress.url(url)
            self._client = HttpClient(
                self._egress,
                connect_timeout_s=_above_zero("connect_timeout", connect_timeout),
                longest_answer=int(_above_zero("max_response_bytes", max_response_bytes)),
                ca_file=ca_file,
            )
        except (EgressRefused, ValueError) as error:
            raise ConfigurationError(f"channel {self.name!r}: {error}") from None

    def check_message(self, message: NewMessage) -> None:
        """Refuse a target that can never be reached; host names are not resolved yet."""
        super().check_message(message)
        try:
            self._egress.url(self._endpoint(message.target).url)
        except PermanentFailure as refused:
            raise InvalidMessage(f"channel {self.name!r}: {refused}") from None

    async def send_final(self, message: Message, attempt: Attempt) -> Receipt:
        """Post the message. Any 2xx is success, and nothing else."""
        endpoint = self._endpoint(message.target)
        content_type, body = _body(message.payload)
        headers = {
            "content-type": content_type,
            **endpoint.headers,
            **_trace_context(attempt.trace_context or message.headers),
            **endpoint.keys.headers(attempt.idempotency_key, int(time.time()), body),
        }
        answer = await self._client.request("POST", endpoint.url, body=body, headers=headers, timeout_s=attempt.timeout_s)
        if not answer.accepted:
            raise answer.failure(endpoint.confidential)
        return Receipt(_provider_id(answer), {"status": answer.status})

    def weak_secrets(self) -> Iterator[str]:
        """Endpoints that sign nothing, or with a key that nobody drew by chance."""
        own = {} if self._destinations and not self._own.keys.keys else {"": self._own}
        for label, endpoint in {**own, **self._destinations}.items():
            where = f"channel {self.name!r}" + (f", destination {label!r}" if label else "")
            if not endpoint.keys.keys:
                yield f"{where} signs nothing: its receivers cannot tell its messages from anybody's"
            elif endpoint.keys.are_guessable:
                yield f"{where} signs with a secret of few different bytes, which can be guessed"

    async def aclose(self) -> None:
        await self._client.aclose()

    def _destination(self, label: str, table: Mapping[str, Any]) -> Endpoint:
        try:
            endpoint = self._own.refined(table)
            self._egress.url(endpoint.url)
        except (EgressRefused, ValueError) as error:
            raise ValueError(f"destination {label!r}: {error}") from None
        return endpoint

    def _endpoint(self, target: str) -> Endpoint:
        if target in self._destinations:
            return self._destinations[target]
        if self._own.url:
            return self._own
        if "://" in target:
            return self._own.at(target)
        raise PermanentFailure(
            "the target is neither a URL nor the name of a destination" + did_you_mean(target, self._destinations)
        )


def _above_zero(option: str, value: _Number) -> _Number:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError(f"{option} must be a finite number above 0, not {value!r}")
    return value


def _body(payload: Any) -> tuple[str, bytes]:
    """Content type and body: bytes are a body of the application's own making, anything else becomes JSON."""
    if isinstance(payload, bytes):
        return "application/octet-stream", payload
    return "application/json", to_json(payload)


def _trace_context(headers: Mapping[str, Any]) -> dict[str, str]:
    """The W3C trace context: the attempt's, else that of the enqueue. Other headers are the application's own and stay here."""
    return {
        name: headers[name]
        for name in _TRACE_CONTEXT
        if isinstance(headers.get(name), str) and _PLAIN_VALUE.fullmatch(headers[name])
    }


def _provider_id(answer: Answer) -> str | None:
    """The id that the receiver gave the message, if it answered with a JSON object that has one."""
    said = answer.json()
    given = said.get("id") if isinstance(said, dict) else None
    return str(given)[:_LONGEST_PROVIDER_ID] if type(given) in (str, int) else None
