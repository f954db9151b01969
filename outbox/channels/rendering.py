"""Payloads as plain JSON, for receivers that know nothing of how the outbox stores them."""

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

_PLAIN: dict[type, Callable[[Any], Any]] = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: timedelta.total_seconds,
    Decimal: str,
    UUID: str,
    bytes: lambda value: b64encode(value).decode("ascii"),
}


def to_json(payload: Any) -> bytes:
    """The payload as compact ASCII JSON, the same bytes at every attempt; keys keep their order.

    Dates and times become ISO 8601 text, a duration its seconds, Decimal and UUID text, bytes base64, a tuple an array.
    """
    return json.dumps(payload, default=_plain, allow_nan=False, separators=(",", ":")).encode("ascii")


def _plain(value: Any) -> Any:
    return _PLAIN[type(value)](value)
