"""Messages and attempts for tests, as the delivery loop would hand them to an adapter."""

import time
from typing import Any

from outbox import codec
from outbox.lifecycle import Status
from outbox.message import Attempt, DispatchKind, Message

_ROW: dict[str, Any] = {
    "seq": 1,
    "id": "0198c0de-0000-7000-8000-000000000001",
    "channel": "webhook",
    "target": "https://receiver.example/hook",
    "account_id": "",
    "turn_id": None,
    "dispatch_kind": DispatchKind.FINAL,
    "ordering_key": None,
    "priority": 0,
    "idempotency_key": None,
    "queued_at": 1_800_000_000_000,
    "status": Status.SENDING,
    "attempt_count": 1,
    "max_attempts": None,
    "next_attempt_at": 1_800_000_000_000,
    "expires_at": None,
    "last_attempt_at": 1_800_000_000_000,
    "last_error": None,
    "error_class": None,
    "terminal_reason": None,
    "delivered_at": None,
    "completed_at": None,
    "receipt_json": None,
    "lease": 1,
    "lease_until": 1_800_000_060_000,
    "lease_owner": "test",
    "outcome_unknown": False,
}


def message(**overrides: Any) -> Message:
    """A message that is being sent. ``payload`` and ``headers`` are given as values, every other field by its name."""
    payload = overrides.pop("payload", {"text": "hello"})
    headers = overrides.pop("headers", None)
    row = {"payload_json": codec.encode(payload), "headers_json": codec.encode(headers), **_ROW, **overrides}
    return Message(**row)


def attempt(of: Message | None = None, **overrides: Any) -> Attempt:
    """An attempt with ten seconds for the send; the idempotency key is that of the message ``of``."""
    timeout_s = overrides.get("timeout_s", 10.0)
    facts: dict[str, Any] = {
        "number": 1,
        "lease": 1,
        "idempotency_key": (of or message()).key,
        "is_recovery": False,
        "deadline_ms": round((time.time() + timeout_s) * 1000),
        "timeout_s": timeout_s,
    }
    return Attempt(**{**facts, **overrides})
