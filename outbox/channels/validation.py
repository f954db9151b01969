"""Refusing adapters that could not work, and reading policy as configuration files spell it."""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from outbox.channels.base import Channel, ExpireAction, implements
from outbox.errors import ConfigurationError
from outbox.policy.destination import Breaker, Rate
from outbox.policy.retention import Retention
from outbox.policy.retry import Backoff, DeadHead, OnUnknown

_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
_Member = TypeVar("_Member", bound=StrEnum)

_LONGEST_TIMEOUT_S = 12 * 3_600.0
"""With its margin a lease stays below the longest that maintenance takes for one."""
_LONGEST_PAUSE_S = 10 * 366 * 86_400.0
"""Ten years: times in milliseconds fit every database."""


def validate(channel: Channel) -> None:
    """Refuse an adapter that could not work. Raises :class:`~outbox.errors.ConfigurationError` with the adapter's name."""
    label = f"{type(channel).__module__}.{type(channel).__qualname__}"
    name = getattr(channel, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"{label} needs a name of lower-case letters, digits, '_', '.' or '-'; it has {name!r}")
    if not implements(channel, "send_final"):
        raise ConfigurationError(f"channel {name!r} ({label}) has no send_final; every channel must implement it")
    for option in ("concurrency", "batch_size", "key_window", "max_in_flight", "max_attempts"):
        _require_positive_integer(name, option, getattr(channel, option))
    _require_duration(name, "timeout", channel.timeout, _LONGEST_TIMEOUT_S)
    if channel.ttl is not None:
        _require_duration(name, "ttl", channel.ttl)
    for option, read in (("backoff", _backoff), ("rate_limit", _rate), ("target_rate_limit", _rate),
                         ("target_breaker", _breaker), ("channel_breaker", _breaker), ("retention", _retention)):  # fmt: skip
        _coerce(channel, option, read)
    if channel.target_in_flight is not None:
        _require_positive_integer(name, "target_in_flight", channel.target_in_flight)
    if channel.recovery_pace:
        _require_duration(name, "recovery_pace", channel.recovery_pace)
    channel.on_unknown = _member(OnUnknown, name, "on_unknown", channel.on_unknown)
    channel.expire_action = _member(ExpireAction, name, "expire_action", channel.expire_action)
    channel.dead_head = _member(DeadHead, name, "dead_head", channel.dead_head)
    if channel.transactional and channel.is_async:
        raise ConfigurationError(f"channel {name!r} is transactional, and its send_final is async: a session is not")
    if channel.on_unknown is OnUnknown.RECONCILE and not implements(channel, "find_delivery"):
        raise ConfigurationError(f"channel {name!r} asks for on_unknown='reconcile' but has no find_delivery")


def _coerce(channel: Channel, option: str, read: Callable[[Any], Any]) -> None:
    """Replace what a configuration file can say (a text, a list, a table) by what the policy wants."""
    value = getattr(channel, option)
    try:
        setattr(channel, option, read(value))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"channel {channel.name!r}: {option} {value!r} is not understood: {error}") from None


def _backoff(value: Any) -> Backoff:
    """A list of pauses in seconds, a table of :class:`Backoff`'s fields, or a backoff."""
    if isinstance(value, Backoff):
        return value
    if isinstance(value, Mapping):
        return Backoff(**value)
    return Backoff(tuple(float(delay) for delay in value))


def _rate(value: Any) -> Rate | None:
    if value is None or isinstance(value, Rate):
        return value
    return Rate.parse(str(value))


def _retention(value: Any) -> Retention | None:
    """A table of ``delivered_s``, ``failed_s`` and ``blank_after_s``, or a retention."""
    if value is None or isinstance(value, Retention):
        return value
    return Retention(**{f"{name.removesuffix('_s')}_ms": round(seconds * 1000) for name, seconds in value.items()})


def _breaker(value: Any) -> Breaker | None:
    """A table of :class:`Breaker`'s fields, a breaker, or ``false`` for none."""
    if value is None or value is False:
        return None
    return value if isinstance(value, Breaker) else Breaker(**value)


def _require_positive_integer(channel: str, option: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise ConfigurationError(f"channel {channel!r}: {option} must be a whole number above 0, not {value!r}")


def _require_duration(channel: str, option: str, value: object, longest_s: float = _LONGEST_PAUSE_S) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.001 <= value < float("inf"):
        raise ConfigurationError(f"channel {channel!r}: {option} must be a finite number of seconds above 0, not {value!r}")
    if value > longest_s:
        raise ConfigurationError(f"channel {channel!r}: {option} is {value!r} seconds, and {longest_s:.0f} are the most")


def _member(kind: type[_Member], channel: str, option: str, value: object) -> _Member:
    try:
        return kind(str(value))
    except ValueError:
        allowed = ", ".join(repr(str(member)) for member in kind)
        raise ConfigurationError(f"channel {channel!r}: {option} must be one of {allowed}, not {value!r}") from None
