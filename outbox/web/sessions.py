"""Sessions: a cookie that says who logged in, signed so that nobody else can say it. Nothing is kept on the server."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import asdict, dataclass, field

LONGEST_S = 12 * 3600
"""After this long a person logs in again."""


@dataclass(frozen=True, slots=True)
class Session:
    """What the cookie holds. ``nonce`` tells sessions apart, and is what CSRF tokens are made from."""

    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    user: str | None = None
    fingerprint: str | None = None
    begun_at: int = field(default_factory=lambda: int(time.time()))

    def csrf_token(self, secret: bytes) -> str:
        """What every form of this session carries."""
        return _signature(secret, b"csrf", self.nonce.encode())

    def has_token(self, secret: bytes, token: str) -> bool:
        """Whether the form was made for this session."""
        return hmac.compare_digest(self.csrf_token(secret).encode(), token.encode())


def seal(session: Session, secret: bytes) -> str:
    """The value of the cookie."""
    content = base64.urlsafe_b64encode(json.dumps(asdict(session)).encode())
    return f"{content.decode()}.{_signature(secret, b'session', content)}"


def unseal(cookie: str | None, secret: bytes) -> Session | None:
    """The session of a cookie; ``None`` when it is absent, forged or too old."""
    content, _, signature = (cookie or "").rpartition(".")
    if not hmac.compare_digest(_signature(secret, b"session", content.encode()).encode(), signature.encode()):
        return None
    try:
        session = Session(**json.loads(base64.urlsafe_b64decode(content)))
    except (binascii.Error, ValueError, TypeError):  # of another release, signed with the same secret
        return None
    return session if 0 <= time.time() - session.begun_at < LONGEST_S else None


def _signature(secret: bytes, purpose: bytes, content: bytes) -> str:
    return hmac.new(secret, purpose + b"\0" + content, hashlib.sha256).hexdigest()
