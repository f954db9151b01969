"""Records as JSON-able facts: the same names and forms in the command's ``--json``, the dashboard and its API.

Times are ISO 8601 in UTC. What a message says, and its headers, are left out unless they are asked for.
"""

import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from outbox.message import Message

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TIMES = frozenset(
    {"queued_at", "next_attempt_at", "expires_at", "last_attempt_at", "delivered_at", "completed_at", "lease_until",
     "started_at", "finished_at", "at", "closed_since", "closed_until"}
)  # fmt: skip
JSON_TEXTS = {"payload_json": "payload", "headers_json": "headers", "receipt_json": "receipt"}
CONTENT = frozenset({"payload_json", "headers_json"})


def message_facts(message: Message, *, content: bool = False) -> dict[str, Any]:
    """A message; payload and headers only with ``content``."""
    facts: dict[str, Any] = {}
    for name, value in record_facts(message).items():
        if name not in JSON_TEXTS:
            facts[name] = value
        elif content or name not in CONTENT:
            facts[JSON_TEXTS[name]] = _as_stored(value)
    return facts


def record_facts(record: "DataclassInstance") -> dict[str, Any]:
    """A record, field by field."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: iso(value) if name in TIMES else value for name, value in values.items()}


def times_of(record: "DataclassInstance") -> dict[str, int | None]:
    """Those fields of a record that are moments, in epoch milliseconds."""
    return {field.name: getattr(record, field.name) for field in fields(record) if field.name in TIMES}


def iso(moment_ms: int | None) -> str | None:
    """Epoch milliseconds as ISO 8601 in UTC; a number that is no date is left as it is."""
    if moment_ms is None:
        return None
    try:
        moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{moment_ms} ms"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _as_stored(text: str | None) -> Any:
    """What the column holds, tags of types that JSON lacks included; a corrupt text is shown as it is."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text
