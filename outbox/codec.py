"""JSON that keeps types: what goes in comes out equal and of the same type, or is refused.

Values that JSON cannot hold are written as an object with the single key ``$outbox`` and a ``[type, text]`` pair. An
application's own dictionary that has that key is refused, so that no data can pass for a tag.

What is let go: a subclass of ``str`` comes back as plain text, a time in a named zone with the offset that it had, and a
time's ``fold``, which the offset makes superfluous and which Python leaves out of comparisons.
"""

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any
from uuid import UUID

TAG = "$outbox"
MAX_DEPTH = 100


_Path = tuple["_Path", str | int] | None
"""Where a value stands: what holds it, and its key or index there. Spelled only where something is refused."""


class EncodeError(ValueError):
    """A value that would not come back as it was; the text gives its path and type."""


class DecodeError(ValueError):
    """A stored text that cannot be read back as a value."""


def encode(value: Any) -> str | None:
    """The JSON text of ``value``; ``None`` when the value itself is absent (``None``). Raises :class:`EncodeError`."""
    if value is None:
        return None
    try:
        return _ENCODER.encode(_to_json(value, None, 0))
    except EncodeError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise EncodeError(str(error)) from error


def decode(text: str | None) -> Any:
    """The value that :func:`encode` was given. Raises :class:`DecodeError`."""
    if text is None:
        return None
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise DecodeError("it is nested too deeply") from None
    except (ValueError, TypeError, ArithmeticError) as error:
        raise DecodeError(str(error) or type(error).__name__) from error


def _to_json(value: Any, path: _Path, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise EncodeError(f"{_spelled(path)} is nested deeper than {MAX_DEPTH} levels")
    kind = type(value)
    if kind in _AS_THEY_ARE or (kind is str and value.isascii()):
        return value
    if kind is dict:
        return {_key(key, path): _to_json(item, (path, key), depth + 1) for key, item in value.items()}
    if kind is list:
        return [_to_json(item, (path, index), depth + 1) for index, item in enumerate(value)]
    if kind is float:
        if not math.isfinite(value):
            raise EncodeError(f"{_spelled(path)} is {value}, which JSON cannot hold")
        return value
    if kind is tuple:
        return {TAG: ["tuple", [_to_json(item, (path, index), depth + 1) for index, item in enumerate(value)]]}
    if kind in (datetime, time) and value.tzinfo is not None and value.utcoffset() is None:
        raise EncodeError(f"{_spelled(path)} is a {kind.__name__} whose zone gives it no offset")
    if kind in _WRITERS:
        return {TAG: [kind.__name__, _WRITERS[kind](value)]}
    if isinstance(value, str) and not isinstance(value, Enum):
        return _text(value, path)
    raise EncodeError(f"{_spelled(path)} is a {kind.__module__}.{kind.__qualname__}, which cannot be stored; convert it first")


def _text(value: str, path: _Path) -> str:
    """Half a surrogate pair is no text: two of them side by side would come back as one character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise EncodeError(f"{_spelled(path)} holds half of a surrogate pair, which is no text") from None
    return str.__str__(value)


def _key(key: Any, path: _Path) -> str:
    if type(key) is str and key.isascii() and key != TAG:
        return key
    if not isinstance(key, str) or isinstance(key, Enum):
        raise EncodeError(f"{_spelled(path)} has a key of type {type(key).__name__}; keys must be text")
    if key == TAG:
        raise EncodeError(f"{_spelled(path)} has the key {TAG!r}, which is reserved")
    return _text(key, path)


def _spelled(path: _Path) -> str:
    """Keys are an application's data: no error text grows with them without bound."""
    steps = []
    while path is not None:
        path, step = path
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    text = "$" + "".join(reversed(steps))
    return text if len(text) <= 200 else f"{text[:120]}…{text[-70:]}"


def _from_json(pairs: dict[str, Any]) -> Any:
    if TAG not in pairs:
        return pairs
    match pairs:
        case {"$outbox": ["timedelta", [int(days), int(seconds), int(microseconds)]]} if len(pairs) == 1:
            return timedelta(days, seconds, microseconds)
        case {"$outbox": ["tuple", list(items)]} if len(pairs) == 1:
            return tuple(items)
        case {"$outbox": [str(kind), str(text)]} if len(pairs) == 1 and kind in _READERS:
            try:
                return _READERS[kind](text)
            except (ValueError, ArithmeticError):
                raise DecodeError(f"a {kind} cannot be read") from None
    raise DecodeError(f"an object with {TAG!r} is not one that was written here")


def _refuse_constant(name: str) -> Any:
    raise DecodeError(f"{name} is not JSON")


_AS_THEY_ARE = frozenset({int, bool, NoneType})
_ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(object_hook=_from_json, parse_constant=_refuse_constant)

_WRITERS: dict[type, Callable[[Any], Any]] = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    Decimal: str,
    UUID: str,
    bytes: lambda value: b64encode(value).decode("ascii"),
}

_READERS: dict[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "Decimal": Decimal,
    "UUID": UUID,
    "bytes": lambda text: b64decode(text, validate=True),
}
