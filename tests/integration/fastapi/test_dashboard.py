"""The dashboard below a path of an ASGI application, behind that application's own log-in."""

import re

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import HTTPConnection

from outbox import Outbox
from outbox.errors import ConfigurationError
from outbox.integrations.fastapi import Identify, dashboard
from outbox.web import Role, Visitor

SECRET = "only for tests: thirty-two characters"


@pytest.fixture
def outbox_url(sqlite_outbox_url: str) -> str:
    """One database is enough: nothing here depends on it."""
    return sqlite_outbox_url


async def by_header(request: HTTPConnection) -> Visitor | None:
    name = request.headers.get("x-user")
    return None if name is None else Visitor(name, Role.OPERATOR)


def lin(request: HTTPConnection) -> Visitor | None:
    return Visitor("lin", Role.OPERATOR)


def client_of(outbox: Outbox, identify: Identify, **options: object) -> httpx.AsyncClient:
    app = FastAPI()

    app.mount("/admin/outbox", dashboard(outbox, identify, secret=SECRET, **options))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop")


@pytest.mark.parametrize("identify", [by_header, lin])
@pytest.mark.filterwarnings("ignore::DeprecationWarning:a2wsgi")
async def test_whom_the_application_lets_in_sees_and_acts_under_their_own_name(outbox: Outbox, identify: Identify) -> None:
    async with client_of(outbox, identify) as client:
        client.headers["x-user"] = "lin"
        page = (await client.get("/admin/outbox/")).text
        assert all(link.startswith("/admin/outbox/") for link in re.findall(r'(?:href|src|action)="(/[^"]*)"', page))
        [token, *_] = re.findall(r'name="csrf_token" value="(\w+)"', page)
        form = {"csrf_token": token, "channel": "chat", "for_s": ""}
        assert (await client.post("/admin/outbox/channels/pause", data=form)).status_code == 303
    assert [gate.actor for gate in outbox.store.gates()] == ["lin"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:a2wsgi")
async def test_who_is_not_let_in_is_refused_or_sent_to_the_log_in(outbox: Outbox) -> None:
    async with client_of(outbox, by_header) as client:
        assert (await client.get("/admin/outbox/")).status_code == 403
        assert (await client.get("/admin/outbox/api/v1/overview")).status_code == 401
    async with client_of(outbox, by_header, login_url="/login") as client:
        assert (await client.get("/admin/outbox/")).headers["location"] == "/login"


def test_a_short_secret_is_refused(outbox: Outbox) -> None:
    with pytest.raises(ConfigurationError, match="fewer than 32 characters"):
        dashboard(outbox, by_header, secret="short")
