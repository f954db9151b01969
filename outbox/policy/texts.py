"""What a text must be so that every database can store it and find it again."""

from outbox.errors import InvalidMessage

LONGEST_TEXTS = {
    "channel": 63,
    "account_id": 500,
    "target": 2_000,
    "turn_id": 500,
    "idempotency_key": 500,
    "ordering_key": 2_560,
}
"""In bytes of UTF-8. All of these stand in indexes, and an index entry of PostgreSQL holds 2,700 bytes in all."""
_MAY_BE_ABSENT = frozenset({"turn_id", "idempotency_key", "ordering_key"})
_MAY_NOT_BE_EMPTY = frozenset({"channel", "idempotency_key", "ordering_key"})


def check_text(name: str, value: object) -> None:
    """Raise :class:`~outbox.errors.InvalidMessage` unless the column ``name`` can hold ``value``."""
    if value is None and name in _MAY_BE_ABSENT:
        return
    if not isinstance(value, str):
        raise InvalidMessage(f"{name} must be text, not {type(value).__name__}")
    size = _bytes_of(value)
    if size is None:
        raise InvalidMessage(f"{name} holds a character that no database can store")
    if size > LONGEST_TEXTS[name]:
        raise InvalidMessage(f"{name} takes {size} bytes; the limit is {LONGEST_TEXTS[name]}")
    if not value and name in _MAY_NOT_BE_EMPTY:
        raise InvalidMessage(f"{name} is empty" + ("; leave it out instead" if name in _MAY_BE_ABSENT else ""))


def _bytes_of(value: str) -> int | None:
    """How many it takes as UTF-8; ``None`` where it cannot be stored."""
    if "\0" in value:
        return None
    try:
        return len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        return None
