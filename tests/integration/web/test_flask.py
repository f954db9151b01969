"""The dashboard as a blueprint of a Flask application, behind that application's own log-in."""

import re

import flask
import pytest
from flask.testing import FlaskClient

from outbox import Outbox
from outbox.errors import ConfigurationError
from outbox.integrations.flask import dashboard
from outbox.web import Role, Visitor
from tests.integration.web.conftest import Enqueue


@pytest.fixture
def outbox_url(sqlite_outbox_url: str) -> str:
    """One database is enough: nothing here depends on it."""
    return sqlite_outbox_url


def shop(outbox: Outbox, **options: object) -> FlaskClient:
    """A shop whose people say with their own session who they are."""
    app = flask.Flask("shop")
    app.secret_key = "the shop's own"

    def identify() -> Visitor | None:
        name = flask.session.get("name")
        return None if name is None else Visitor(name, Role.OPERATOR)

    @app.get("/login/<name>")
    def log_in(name: str) -> str:
        flask.session["name"] = name
        return "hello"

    app.register_blueprint(dashboard(outbox, identify, **options), url_prefix="/admin/outbox")  # type: ignore[arg-type]
    return app.test_client()


def token(page: str) -> str:
    return re.findall(r'name="csrf_token" value="(\w+)"', page)[0]


def test_whom_the_application_lets_in_sees_and_acts_under_their_own_name(talker: Outbox, end: Enqueue) -> None:
    message_id = end({"fail": "no"})
    client = shop(talker, login_url="/login")
    assert client.get("/admin/outbox/").location == "/login"
    client.get("/login/lin")
    page = client.get(f"/admin/outbox/messages/{message_id}").get_data(as_text=True)
    assert "lin" in page
    assert all(link.startswith("/admin/outbox/") for link in re.findall(r'(?:href|src|action)="(/[^"]*)"', page))
    form = {"csrf_token": token(page), "verb": "retry", "id": message_id, "from": "message", "reason": "mended"}
    response = client.post("/admin/outbox/messages/act", data=form)
    assert response.location == f"/admin/outbox/messages/{message_id}"
    assert [(each.actor, each.reason) for each in talker.store.operations(message_id)] == [("lin", "mended")]


def test_its_forms_are_protected_by_tokens_that_all_processes_of_the_application_know(talker: Outbox) -> None:
    one, other = shop(talker), shop(talker)
    for client in (one, other):
        client.get("/login/lin")
    page = one.get("/admin/outbox/").get_data(as_text=True)
    cookie = one.get_cookie("outbox_session", path="/admin/outbox/")
    assert cookie
    other.set_cookie("outbox_session", cookie.value, path="/admin/outbox/")
    form = {"channel": "chat", "for_s": ""}
    assert other.post("/admin/outbox/channels/pause", data=form).status_code == 403
    assert other.post("/admin/outbox/channels/pause", data={**form, "csrf_token": token(page)}).status_code == 303
    assert [gate.actor for gate in talker.store.gates()] == ["lin"]


def test_who_is_not_let_in_is_refused_where_there_is_no_log_in(talker: Outbox) -> None:
    client = shop(talker)
    assert client.get("/admin/outbox/").status_code == 403
    assert client.get("/admin/outbox/api/v1/overview").status_code == 401


def test_a_read_only_dashboard_is_so_for_everybody(talker: Outbox) -> None:
    client = shop(talker, read_only=True)
    client.get("/login/lin")
    form = {"csrf_token": token(client.get("/admin/outbox/").get_data(as_text=True)), "channel": "chat", "for_s": ""}
    assert client.post("/admin/outbox/channels/pause", data=form).status_code == 403


def test_an_application_without_a_secret_key_is_told(talker: Outbox) -> None:
    app = flask.Flask("shop")
    app.testing = True
    app.register_blueprint(dashboard(talker, lambda: None))
    with pytest.raises(ConfigurationError, match="secret_key"):
        app.test_client().get("/")
