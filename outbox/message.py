"""The values that travel through the outbox: frozen dataclasses, no behaviour beyond reading themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

from outbox import codec
from outbox.lifecycle import Status

INHERITS_REPLY_TO = "outbox.inherits_reply_to"
"""Header of a reply's part whose ``reply_to`` is the reply's own: used by the first such part that is delivered."""


class DispatchKind(StrEnum):
    """What a message is to its turn. Only ``final`` messages are ever sent again after a failure."""

    FINAL = "final"
    BLOCK = "block"
    TOOL = "tool"


class ErrorClass(StrEnum):
    """Why a message failed last."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to enqueue. Field names are those of the table; see :meth:`outbox.Outbox.enqueue` for their meaning."""

    channel: str
    target: str = ""
    payload: Any = None
    account_id: str = ""
    turn_id: str | None = None
    dispatch_kind: str | None = DispatchKind.FINAL
    idempotency_key: str | None = None
    ordering_key: str | None = None
    priority: int = 0
    delay: float | timedelta | None = None
    due_at: datetime | None = None
    expires_in: float | timedelta | None = None
    max_attempts: int | None = None
    headers: dict[str, Any] | None = None

    def with_payload(self, payload: Any, headers: dict[str, Any] | None, **others: Any) -> "NewMessage":
        """The same message with another payload, headers, and whatever else ``others`` names."""
        return replace(self, payload=payload, headers=headers, **others)


@dataclass(frozen=True, slots=True)
class Queued:
    """The answer to an enqueue: the id, and whether a row was created or one with that idempotency key stood there already."""

    id: str
    created: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the other side said when it accepted a message.

    ``provider_id`` is its own id of the message, if it gave one; ``details`` is anything else worth keeping, JSON-able.
    """

    provider_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Message:
    """One row of the outbox, as it stood when it was read. All times are epoch milliseconds, UTC."""

    seq: int
    id: str
    channel: str
    target: str
    account_id: str
    turn_id: str | None
    dispatch_kind: str | None
    payload_json: str | None
    headers_json: str | None
    ordering_key: str | None
    priority: int
    idempotency_key: str | None
    queued_at: int
    status: Status
    attempt_count: int
    max_attempts: int | None
    next_attempt_at: int
    expires_at: int | None
    last_attempt_at: int | None
    last_error: str | None
    error_class: str | None
    terminal_reason: str | None
    delivered_at: int | None
    """When its success was brought to the database."""
    completed_at: int | None
    """When its last status was written: after ``delivered_at`` by as long as that had to wait for the row."""
    receipt_json: str | None
    lease: int
    lease_until: int | None
    lease_owner: str | None
    outcome_unknown: bool

    @cached_property
    def payload(self) -> Any:
        """The payload exactly as it was enqueued. Raises :class:`~outbox.codec.DecodeError` when the row is corrupt."""
        return codec.decode(self.payload_json)

    @cached_property
    def headers(self) -> dict[str, Any]:
        """The application's own headers and the trace context; empty when there are none."""
        headers = codec.decode(self.headers_json)
        return headers if isinstance(headers, dict) else {}

    @cached_property
    def receipt(self) -> Any:
        """The provider's answer as it was recorded, or ``None``."""
        return codec.decode(self.receipt_json)

    @property
    def key(self) -> str:
        """The idempotency key on the wire: the application's own, else the message's id. The same over all attempts."""
        return self.idempotency_key or self.id

    @property
    def inherits_reply_to(self) -> bool:
        """Whether it answers what its whole reply answers, unless an earlier part has done so."""
        return self.headers_json is not None and INHERITS_REPLY_TO in self.headers_json

    def without_reply_to(self) -> "Message":
        """The message, answering nobody; one that cannot be read stays as it is, for the send to set aside."""
        try:
            payload = {name: value for name, value in self.payload.items() if name != "reply_to"}
        except (AttributeError, codec.DecodeError):
            return self
        return replace(self, payload_json=codec.encode(payload))

    @property
    def is_final(self) -> bool:
        """Whether the message may be sent again after a failure."""
        return self.dispatch_kind in (None, DispatchKind.FINAL)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an adapter is told about the attempt it makes.

    ``deadline_ms`` is the wall-clock moment (epoch milliseconds) by which the send must have ended.
    """

    number: int
    lease: int
    idempotency_key: str
    is_recovery: bool
    deadline_ms: int
    timeout_s: float
    session: Any = None
    """For a transactional channel: the SQLAlchemy session in whose transaction the row is settled. Write through it alone."""
    trace_context: Mapping[str, str] = field(default_factory=dict)
    """What to pass on where the transport has a place for it, such as ``traceparent``; empty where nobody traces."""

    def within(self, session: Any) -> "Attempt":
        """The same attempt, made within the transaction of ``session``."""
        return replace(self, session=session)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One line of a message's history, as ``outbox show`` prints it."""

    message_id: str
    lease: int
    number: int
    outcome: str
    error: str | None
    error_class: str | None
    started_at: int
    finished_at: int
    owner: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to try one message once: what the broker carries, and what take checks."""

    id: str
    lease: int
    ordering_key: str | None = None
    alone: bool = False
    suspect: bool = False
    """Whether the last process that sent it died of it, or of something else meanwhile."""
