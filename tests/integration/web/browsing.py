"""The dashboard under test: asked as a browser asks, cookies and hidden fields included, without a server in between."""

import json
import re
from dataclasses import dataclass, field
from html import unescape
from typing import Any

from werkzeug.test import Client, TestResponse

from outbox.web.application import Dashboard

LOOPBACK = {"REMOTE_ADDR": "127.0.0.1"}


@dataclass
class Browser:
    """One person's browser."""

    app: Dashboard
    base_url: str = "http://localhost"
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(self.app)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, base_url=self.base_url, environ_overrides=LOOPBACK, **options)

    def page(self, path: str) -> str:
        """The text of a page that must be there."""
        response = self.get(path)
        assert response.status_code == 200, response.get_data(as_text=True)
        return response.get_data(as_text=True)

    def post(self, path: str, form: dict[str, Any] | None = None, **options: Any) -> TestResponse:
        return self.client.post(path, base_url=self.base_url, environ_overrides=LOOPBACK, data=form, **options)

    def submit(self, path: str, *, token: str | None = None, **form: Any) -> TestResponse:
        """Send a form with the token that its page carries."""
        return self.post(path, {"csrf_token": token or self.token(), **form})

    def token(self) -> str:
        """The one of this browser's session, from the page that it sees."""
        shown = self.get("/", follow_redirects=True).get_data(as_text=True)
        return re.findall(r'name="csrf_token" value="([0-9a-f]+)"', shown)[0]

    def log_in(self, name: str, password: str = "right") -> TestResponse:
        return self.submit("/login", name=name, password=password)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        """Ask the API, as a script of the page would."""
        token = {} if method == "GET" else {"X-CSRF-Token": self.get("/api/v1/session").json["csrf_token"]}
        return self.client.open(
            f"/api/v1{path}", method=method, base_url=self.base_url, environ_overrides=LOOPBACK,
            data=None if body is None else json.dumps(body),
            content_type=None if method == "GET" else "application/json", headers={**token, **headers},
        )  # fmt: skip


def text_of(page: str) -> str:
    """What a person reads: no tags, one space between words."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.S))).split())
