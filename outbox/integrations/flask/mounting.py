"""The dashboard inside a Flask application: below a path of its own, for whom the application's own log-in lets in."""

import hashlib
import hmac
from collections.abc import Callable
from functools import cached_property

from flask import Blueprint, current_app, request
from werkzeug.wrappers import Response

from outbox.errors import ConfigurationError
from outbox.outbox import Outbox
from outbox.web import Delegated, Visitor, create_app
from outbox.web.application import Dashboard

METHODS = ("GET", "HEAD", "OPTIONS", "POST")


def dashboard(
    outbox: Outbox, identify: Callable[[], Visitor | None], *, login_url: str | None = None, read_only: bool = False,
    name: str = "outbox",
) -> Blueprint:  # fmt: skip
    """A blueprint of the dashboard, for ``app.register_blueprint(…, url_prefix="/outbox")``.

    :param identify: called within each request: who asks, or ``None`` for who may not come in.
    :param login_url: where those are sent; without it they are refused.
    :param read_only: refuse every change, whoever asks.

    Forms carry tokens of their own, so an application with Flask-WTF's ``CSRFProtect`` exempts the blueprint. Its sessions are
    signed with a key made from the application's ``secret_key``, which all its processes share.
    """
    blueprint = Blueprint(name, __name__)
    mounted = _Mounted(outbox, identify, login_url, read_only)
    blueprint.add_url_rule("/", "index", mounted, methods=METHODS, provide_automatic_options=False)
    blueprint.add_url_rule("/<path:path>", "page", mounted, methods=METHODS, provide_automatic_options=False)
    return blueprint


class _Mounted:
    """The dashboard as a view: the request goes on to it, with the blueprint's path as where it is mounted."""

    def __init__(self, outbox: Outbox, identify: Callable[[], Visitor | None], login_url: str | None, read_only: bool) -> None:
        self._outbox = outbox
        self._identify = identify
        self._login_url = login_url
        self._read_only = read_only

    def __call__(self, path: str = "") -> Response:
        mount = request.path.removesuffix(path).rstrip("/")
        environ = {**request.environ, "SCRIPT_NAME": request.root_path + mount, "PATH_INFO": f"/{path}"}
        return Response.from_app(self._dashboard, environ)

    @cached_property
    def _dashboard(self) -> Dashboard:
        secret_key = current_app.secret_key
        if not secret_key:
            raise ConfigurationError("the application has no secret_key, with which the dashboard's forms are protected")
        key = secret_key if isinstance(secret_key, bytes) else secret_key.encode()
        secret = hmac.new(key, b"celery-outbox dashboard", hashlib.sha256).digest()
        auth = Delegated(lambda _environ: self._identify(), self._login_url, secret)
        return create_app(self._outbox, auth=auth, read_only=self._read_only)
