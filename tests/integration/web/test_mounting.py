"""The dashboard below a path of somebody else's application: every link, form and file stays below that path."""

import re

import flask
import httpx
import pytest
from a2wsgi import WSGIMiddleware
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from outbox import Outbox
from outbox.web import Delegated, Login, Role, User, Visitor, create_app
from tests.integration.web.conftest import Enqueue


@pytest.fixture
def outbox_url(sqlite_outbox_url: str) -> str:
    """One database is enough: nothing here depends on it."""
    return sqlite_outbox_url


HERE = Delegated(lambda _environ: Visitor("lin", Role.OPERATOR))


def links(page: str) -> set[str]:
    return set(re.findall(r'(?:href|src|action)="(/[^"]*)"', page))


def test_below_a_path_of_a_flask_application(talker: Outbox, end: Enqueue) -> None:
    app = flask.Flask("shop")
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/admin/outbox": create_app(talker, auth=HERE)})  # type: ignore[method-assign]
    message_id = end({"fail": "no"})
    client = app.test_client()
    for path in ("/admin/outbox/", "/admin/outbox/messages", f"/admin/outbox/messages/{message_id}"):
        page = client.get(path).get_data(as_text=True)
        assert links(page)
        assert all(link.startswith("/admin/outbox/") for link in links(page))
    for link in links(client.get("/admin/outbox/").get_data(as_text=True)):
        assert client.get(link.replace("&amp;", "&")).status_code in (200, 405)  # a form's address is not for GET
    assert client.get("/admin/outbox/api/v1/openapi.json").json["servers"] == [{"url": "/admin/outbox"}]  # type: ignore[index]


def test_a_log_in_below_a_path_leads_back_below_it(talker: Outbox, users: dict[str, User]) -> None:
    client = Client(DispatcherMiddleware(flask.Flask("shop"), {"/outbox": create_app(talker, auth=Login(users))}))
    assert client.get("/outbox/messages").location == "/outbox/login?next=/messages"
    token = re.findall(r'name="csrf_token" value="(\w+)"', client.get("/outbox/login").get_data(as_text=True))[0]
    form = {"name": "vera", "password": "right", "next": "/messages", "csrf_token": token}
    response = client.post("/outbox/login", data=form)
    assert response.location == "/outbox/messages"
    assert "Path=/outbox/" in response.headers["Set-Cookie"]
    assert client.get("/outbox/messages").status_code == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_below_a_path_of_an_asgi_application(talker: Outbox, end: Enqueue) -> None:
    end({"fail": "no"})
    app = Starlette(routes=[Mount("/outbox", WSGIMiddleware(create_app(talker, auth=HERE)))])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        response = await client.get("/outbox/messages")
        assert response.status_code == 200
        assert all(link.startswith("/outbox/") for link in links(response.text))
        assert (await client.get("/outbox/api/v1/overview")).json()["channels"][0]["channel"] == "chat"
