"""Where an HTTP channel posts to, and what every request there carries."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outbox.channels.signing import SigningKeys
from outbox.errors import did_you_mean

_OPTIONS = ("url", "secret", "secrets", "headers")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_NOT_TO_BE_SET = ("accept-encoding", "connection", "content-length", "expect", "host", "transfer-encoding")
_SHORTEST_CONFIDENTIAL = 6


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL, the keys its messages are signed with, and headers of its own."""

    url: str = field(default="", repr=False)
    keys: SigningKeys = field(default_factory=SigningKeys)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By lower-case name; they may hold credentials."""

    def refined(self, options: Any) -> "Endpoint":
        """This endpoint with the ``url``, ``secret`` or ``secrets``, and ``headers`` of a table of configuration.

        Raises :class:`ValueError`, whose text holds neither secrets nor header values.
        """
        if not isinstance(options, Mapping):
            raise ValueError("an endpoint must be a table")
        for option in options:
            if option not in _OPTIONS:
                raise ValueError(f"an endpoint has no option {option!r}{did_you_mean(option, _OPTIONS)}")
        secrets = _secrets(options.get("secret"), options.get("secrets"))
        return Endpoint(
            url=_text("url", options.get("url") or self.url),
            keys=self.keys if secrets is None else SigningKeys.of(secrets),
            headers={**self.headers, **_headers(options.get("headers") or {})},
        )

    def at(self, url: str) -> "Endpoint":
        """The same keys and headers for another URL."""
        return Endpoint(url, self.keys, self.headers)

    @property
    def confidential(self) -> list[str]:
        """What must not be repeated from an answer: header values and their words, the longest first."""
        parts = {part for value in self.headers.values() for part in (value, *value.split())}
        return sorted((part for part in parts if len(part) >= _SHORTEST_CONFIDENTIAL), key=len, reverse=True)


def _secrets(secret: Any, secrets: Any) -> Sequence[str] | None:
    if secret is not None and secrets is not None:
        raise ValueError("give either secret or secrets, not both")
    if secret is not None:
        return [_text("secret", secret)]
    if secrets is None:
        return None
    if not isinstance(secrets, list | tuple) or not secrets:
        raise ValueError("secrets must be a list of at least one secret")
    return [_text("secrets", secret) for secret in secrets]


def _headers(headers: Any) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise ValueError("headers must be a table of names and values")
    return {_header_name(name): _header_value(name, value) for name, value in headers.items()}


def _header_name(name: Any) -> str:
    lower = _text("headers", name).lower()
    if not _HEADER_NAME.fullmatch(lower):
        raise ValueError(f"{name!r} is not a header name")
    if lower in _NOT_TO_BE_SET or lower.startswith("webhook-"):
        raise ValueError(f"the header {name!r} is set by the channel itself")
    return lower


def _header_value(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise ValueError(f"the value of the header {name!r} must be text that fits a header")
    return value


def _text(option: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{option} must be text")
    return value
