"""What every request passes and every answer carries: the host's name, the token, headers that narrow what browsers do."""

from collections.abc import Collection, Iterator

from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Request, Response

from outbox.web.access import LOOPBACK_NAMES, Auth, Open
from outbox.web.problems import Problem
from outbox.web.sessions import Session

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
TOKEN_FIELD, TOKEN_HEADER = "csrf_token", "X-CSRF-Token"

_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
        "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def check_host(request: Request, auth: Auth, allowed: Collection[str] | None) -> None:
    """Refuse a name that is not ours: a page elsewhere may have bound its own name to this machine (DNS rebinding)."""
    if isinstance(auth, Open):
        _check_loopback(request)
    names = LOOPBACK_NAMES if allowed is None and isinstance(auth, Open) else allowed
    if names is not None and _without_port(request.headers.get("Host", "")) not in names:
        raise Problem(421, "unknown-host", "this server does not answer to that name; see --allow-host")


def check_text(request: Request) -> None:
    """Refuse the character that no database stores, wherever it hides."""
    if any("\0" in text for text in (request.path, *_texts(request.args), *_texts(request.form))):
        raise Problem(400, "invalid-parameter", "there is a NUL character in it, which is no text")


def check_origin(request: Request) -> None:
    """Refuse what another site's page makes a browser do; browsers that do not say so are held off by the token."""
    if request.method not in SAFE_METHODS and request.headers.get("Sec-Fetch-Site", "same-origin") not in (
        "same-origin",
        "none",
    ):
        raise Problem(403, "cross-site-request", "this was sent by a page of another site")


def check_token(request: Request, session: Session, secret: bytes) -> None:
    """Refuse what does not carry the session's token, in the form or in the header."""
    token = request.headers.get(TOKEN_HEADER) or request.form.get(TOKEN_FIELD, "")
    if not session.has_token(secret, token):
        raise Problem(403, "csrf-token", "the page is older than the session, or it was not ours: load it again")


def secure(response: Response) -> Response:
    """The response, with the headers that every one carries."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _check_loopback(request: Request) -> None:
    address = request.remote_addr or ""
    if not (address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1", "")):
        raise Problem(403, "not-on-loopback", "without log-ins this server answers on the loopback interface only")


def _texts(given: MultiDict[str, str]) -> Iterator[str]:
    for name, value in given.items(multi=True):
        yield name
        yield value


def _without_port(host: str) -> str:
    name, separator, port = host.rpartition(":")
    return (name if separator and port.isdecimal() else host).lower()
