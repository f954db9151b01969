"""What every request must pass and every answer carries."""

import pytest
from werkzeug.test import TestResponse

from outbox import Outbox
from outbox.web.application import LONGEST_BODY
from outbox.web.guarding import HEADERS
from outbox.web.routes import ROUTES
from tests.integration.web.browsing import Browser
from tests.integration.web.conftest import Enqueue


@pytest.fixture
def outbox_url(sqlite_outbox_url: str) -> str:
    """One database is enough: nothing here depends on it."""
    return sqlite_outbox_url


def everything(browser: Browser) -> list[TestResponse]:
    """Answers of every sort: pages, files, redirects, problems."""
    return [
        browser.get(path)
        for path in ("/", "/messages", "/messages/nothing", "/static/outbox.js", "/static/nothing", "/nowhere", "/login",
                     "/api/v1/overview", "/api/v1/nothing", "/api/v1/openapi.json", "/api/v1/messages?status=odd")
    ]  # fmt: skip


def test_every_answer_narrows_what_the_browser_does(operator: Browser) -> None:
    for response in everything(operator):
        assert {name: response.headers[name] for name in HEADERS} == HEADERS
        assert "unsafe" not in response.headers["Content-Security-Policy"]


def test_nothing_on_a_page_needs_inline_script_or_style(operator: Browser, end: Enqueue) -> None:
    message_id = end({"fail": "no"})
    for path in ("/", "/messages", f"/messages/{message_id}", "/nowhere"):
        page = operator.get(path).get_data(as_text=True)
        assert " style=" not in page
        assert "<style" not in page
        assert " onclick=" not in page
        assert page.count("<script") == page.count("<script type=") == 1


def test_pages_are_not_kept_and_files_named_by_their_content_are(operator: Browser) -> None:
    assert operator.get("/").headers["Cache-Control"] == "no-store"
    assert operator.get("/static/outbox.css").headers["Cache-Control"] == "no-store"
    (link,) = [part for part in operator.page("/").split('"') if "outbox.css" in part]
    assert "immutable" in operator.get(link).headers["Cache-Control"]


POSTS = [route for route in ROUTES if route.method == "POST"]


def path_of(path: str) -> str:
    return (
        path.replace("<any(retry, cancel, resolve):verb>", "cancel").replace("<channel>", "chat").replace("<message_id>", "m")
    )


@pytest.mark.parametrize("route", POSTS, ids=lambda route: route.endpoint)
@pytest.mark.parametrize("token", [None, "0" * 64, ""])
def test_no_change_is_made_without_the_sessions_token(
    operator: Browser, enqueue: Enqueue, talker: Outbox, route: object, token: str | None
) -> None:
    message_id = enqueue()
    path = path_of(route.path)  # type: ignore[attr-defined]
    operator.get("/")
    form = {"verb": "cancel", "id": message_id, "channel": "chat"} | ({} if token is None else {"csrf_token": token})
    assert operator.post(path, form).status_code == 403
    headers = {} if token is None else {"X-CSRF-Token": token}
    assert operator.post(path, json={"ids": [message_id]}, headers=headers).status_code == 403
    assert talker.get(message_id).status == "queued"
    assert talker.store.gates() == []


def test_the_token_of_another_session_is_worth_nothing(operator: Browser, talker: Outbox) -> None:
    other = Browser(operator.app)
    operator.get("/")
    assert operator.submit("/channels/pause", token=other.token(), channel="chat", for_s="").status_code == 403
    assert operator.submit("/channels/pause", channel="chat", for_s="").status_code == 303


@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 303), ("none", 303)])
def test_what_another_sites_page_sends_is_refused_even_with_the_token(operator: Browser, site: str, status: int) -> None:
    form = {"csrf_token": operator.token(), "channel": "chat", "for_s": ""}
    assert operator.post("/channels/pause", form, headers={"Sec-Fetch-Site": site}).status_code == status


def test_the_api_takes_json_alone_since_another_sites_form_cannot_send_it(operator: Browser) -> None:
    token = operator.get("/api/v1/session").json["csrf_token"]
    response = operator.post("/api/v1/channels/chat/pause", {"target": "x"}, headers={"X-CSRF-Token": token})
    assert response.status_code == 415


def test_a_body_that_is_too_long_is_refused(operator: Browser) -> None:
    response = operator.submit("/messages/act", verb="cancel", id="x", reason="x" * LONGEST_BODY)
    assert response.status_code == 413


def test_a_method_that_an_address_does_not_have_is_refused(operator: Browser) -> None:
    assert operator.get("/messages/act").status_code == 404
    response = operator.get("/api/v1/channels/chat/pause")
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert response.mimetype == "application/problem+json"


@pytest.mark.parametrize("name", ["..%2Fapplication.py", "..", "nothing.js", "%00", ".", "templates"])
def test_no_other_file_is_served(operator: Browser, name: str) -> None:
    assert operator.get(f"/static/{name}").status_code in (400, 404, 308)


def test_the_theme_goes_round_and_is_remembered(operator: Browser) -> None:
    shown = []
    for _ in range(4):
        page = operator.page("/messages")
        shown.append(page.split('data-theme="')[1].split('"')[0])
        assert operator.submit("/theme", next="/messages").location == "/messages"
    assert shown == ["auto", "light", "dark", "auto"]
    operator.client.set_cookie("outbox_theme", '"><script>', domain="localhost")
    assert 'data-theme="auto"' in operator.page("/")
