"""Signatures of the Standard Webhooks specification: HMAC-SHA256 over id, timestamp and body (https://www.standardwebhooks.com)."""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote

PREFIX = "whsec_"
_FEWEST_DIFFERENT_BYTES = 12
"""24 random bytes have fewer less than once in 10^12 times."""

_PLAIN_ID = re.compile(r"[!-$&-\-/-~]+")
_SAFE_IN_ID = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The keys a message is signed with: one, or several while a secret is rotated. Without any, nothing is signed."""

    keys: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, secrets: Iterable[str]) -> "SigningKeys":
        """From secrets as receivers are given them: base64 of 24 to 64 bytes, after ``whsec_``.

        Raises :class:`ValueError`, whose text does not hold the secret.
        """
        return cls(tuple(_key(secret) for secret in secrets))

    @property
    def are_guessable(self) -> bool:
        """Whether a key holds so few different bytes that nobody drew it by chance."""
        return any(len(set(key)) < _FEWEST_DIFFERENT_BYTES for key in self.keys)

    def headers(self, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
        """The headers of one attempt; ``message_id`` is the same over all of them, ``timestamp_s`` is its own."""
        headers = {"webhook-id": wire_id(message_id), "webhook-timestamp": str(timestamp_s)}
        if self.keys:
            signed = b".".join((headers["webhook-id"].encode("ascii"), headers["webhook-timestamp"].encode("ascii"), body))
            headers["webhook-signature"] = " ".join(_signature(key, signed) for key in self.keys)
        return headers


def wire_id(message_id: str) -> str:
    """The id as a header can hold it: anything but visible ASCII is percent-encoded, and so is the full stop.

    The full stop separates the signed parts, and an application's idempotency key may be of a user's making: the
    specification asks that such an id holds none.
    """
    if _PLAIN_ID.fullmatch(message_id):
        return message_id
    return quote(message_id.encode("utf-8", "surrogatepass"), safe=_SAFE_IN_ID).replace(".", "%2E")


def _signature(key: bytes, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode("ascii")


def _key(secret: str) -> bytes:
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)  # many tools leave the padding out
    except (binascii.Error, ValueError):
        raise ValueError(f"a secret is not {PREFIX!r} followed by base64 text") from None
    if not 24 <= len(key) <= 64:
        raise ValueError(f"a secret holds {len(key)} bytes; Standard Webhooks asks for 24 to 64")
    return key
