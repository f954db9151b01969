"""One file of the queue, read and understood, or refused with the reason: nothing else ever comes out of it.

``<id>.json`` holds a UTF-8 JSON object: ``id``, ``enqueuedAt`` (epoch ms), ``channel``, ``to``, ``accountId``, ``payloads``,
options that all payloads share, ``retryCount``, and after a failure ``lastAttemptAt`` and ``lastError``.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outbox.errors import OutboxError
from outbox.policy.classification import LONGEST_ERROR, storable

MOST_PARTS = 100
MOST_RETRIES = 1_000_000
"""A larger count is taken for this one; either way the attempts are used up."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NO_OPTIONS = frozenset(
    {"id", "enqueuedAt", "channel", "to", "payloads", "retryCount", "lastAttemptAt", "lastError"}
)  # fmt: skip
"""Keys of an entry that become columns of its messages, value and type."""


_NO_ACCOUNT = (None, "", "default")
"""What the old gateway wrote where a reply went through the channel's own account."""


class EntryRefused(OutboxError, ValueError):
    """A file is no entry that can be imported; the text says why. The file stays where it is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A reply as its file has it. Values of ``parts`` and ``options`` are as they were written, absent or null or empty.

    ``enqueued_at`` and ``last_attempt_at`` are finite numbers, but nothing else is known of them; ``retry_count`` is from 0 to
    :data:`MOST_RETRIES`.
    """

    id: str
    channel: str
    target: str
    account_id: str
    parts: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    enqueued_at: int | None
    retry_count: int
    last_attempt_at: int | None
    last_error: str | None


def identify(stem: str) -> str:
    """The id that a file's name gives it, in lower case. Raises :class:`EntryRefused` where that is no UUID."""
    if not _UUID.fullmatch(stem):
        raise EntryRefused("its name is not the UUID of an entry")
    return stem.lower()


def parse(content: bytes, stem: str) -> Entry:
    """The entry in the file ``<stem>.json``. Raises :class:`EntryRefused`, and nothing else whatever the content."""
    identify(stem)
    document = _document(content)
    _require_id(document, stem)
    return Entry(
        id=stem,
        channel=_text(document, "channel"),
        target=_text(document, "to"),
        account_id="" if document.get("accountId") in _NO_ACCOUNT else _text(document, "accountId"),
        parts=_parts(document),
        options={key: value for key, value in document.items() if key not in _NO_OPTIONS},
        enqueued_at=_number(document, "enqueuedAt"),
        retry_count=min(max(_number(document, "retryCount") or 0, 0), MOST_RETRIES),
        last_attempt_at=_number(document, "lastAttemptAt"),
        last_error=_error(document),
    )


def _document(content: bytes) -> dict[str, Any]:
    if not content.strip():
        raise EntryRefused("it is empty")
    try:
        document = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise EntryRefused(f"it is not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise EntryRefused("it is nested too deeply") from error
    except ValueError as error:
        raise EntryRefused(f"it is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise EntryRefused("it is JSON, but not an object")
    return document


def _require_id(document: Mapping[str, Any], stem: str) -> None:
    if "id" not in document:
        raise EntryRefused("it has no id")
    if document["id"] != stem:
        raise EntryRefused("its id is not the one in its name")


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        raise EntryRefused(f"it has no {key}" if value is None else f"its {key} is not text")
    if not value:
        raise EntryRefused(f"its {key} is empty")
    return value


def _parts(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    parts = document.get("payloads")
    if not isinstance(parts, list):
        raise EntryRefused("it has no list of payloads")
    if not parts:
        raise EntryRefused("its payloads are empty: there is nothing to send")
    if len(parts) > MOST_PARTS:
        raise EntryRefused(f"it has {len(parts)} payloads; {MOST_PARTS} are the most")
    if not all(isinstance(part, dict) for part in parts):
        raise EntryRefused("one of its payloads is not an object")
    return parts


def _number(document: Mapping[str, Any], key: str) -> int | None:
    """A finite number, without its fraction; everything else, NaN too, counts as absent."""
    value = document.get(key)
    if isinstance(value, float) and math.isfinite(value):
        return int(value)
    return value if type(value) is int else None


def _error(document: Mapping[str, Any]) -> str | None:
    value = document.get("lastError")
    if value is None:
        return None
    try:
        return storable(value if isinstance(value, str) else json.dumps(value), LONGEST_ERROR)
    except RecursionError as error:
        raise EntryRefused("its lastError is nested too deeply") from error
