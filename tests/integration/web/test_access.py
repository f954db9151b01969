"""Who is let in, and what they may do."""

import time

import pytest
from werkzeug.security import generate_password_hash
from werkzeug.test import Client

from outbox import Outbox
from outbox.web import Delegated, Login, Open, Role, User, Visitor, create_app
from outbox.web.sessions import LONGEST_S, Session, seal
from outbox.web.throttling import FREE_GUESSES
from outbox.web.visiting import SESSION_COOKIE
from tests.integration.web.browsing import LOOPBACK, Browser
from tests.integration.web.conftest import Enqueue


@pytest.fixture
def outbox_url(sqlite_outbox_url: str) -> str:
    """One database is enough: nothing here depends on it."""
    return sqlite_outbox_url


PAGES = ["/", "/messages", "/messages/anything"]


@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_is_sent_to_the_log_in_and_back(stranger: Browser, path: str) -> None:
    response = stranger.get(path)
    assert (response.status_code, response.location) == (303, f"/login?next={path}")


@pytest.mark.parametrize("path", ["/overview", "/messages", "/messages/anything", "/series", "/session"])
def test_a_stranger_gets_a_problem_from_the_api(stranger: Browser, path: str) -> None:
    response = stranger.get(f"/api/v1{path}")
    assert (response.status_code, response.mimetype) == (401, "application/problem+json")
    assert response.headers["WWW-Authenticate"].startswith("Basic")


def test_who_logs_in_is_let_in_where_they_wanted_to_go(stranger: Browser) -> None:
    response = stranger.submit("/login", name="vera", password="right", next="/messages?status=parked")
    assert (response.status_code, response.location) == (303, "/messages?status=parked")
    assert "vera" in stranger.page("/messages")


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/\r\nX: y", ""])
def test_a_log_in_leads_nowhere_else(stranger: Browser, elsewhere: str) -> None:
    assert stranger.submit("/login", name="vera", password="right", next=elsewhere).location == "/"


@pytest.mark.parametrize(("name", "password"), [("vera", "wrong"), ("nobody", "right"), ("", ""), ("vera", "")])
def test_who_names_no_user_with_that_password_is_not_let_in(stranger: Browser, name: str, password: str) -> None:
    response = stranger.log_in(name, password)
    assert response.status_code == 401
    assert "there is no user with that name and password" in response.get_data(as_text=True)
    assert stranger.get("/").status_code == 303


def test_who_guesses_waits_even_with_the_right_password(stranger: Browser) -> None:
    token = stranger.token()
    for _ in range(FREE_GUESSES):
        assert stranger.submit("/login", token=token, name="vera", password="wrong").status_code == 401
    response = stranger.submit("/login", token=token, name="vera", password="right")
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1


def test_the_api_throttles_guesses_too(stranger: Browser) -> None:
    statuses = [stranger.get("/api/v1/overview", auth=("vera", "wrong")).status_code for _ in range(FREE_GUESSES + 1)]
    assert statuses == [401] * FREE_GUESSES + [429]


def test_a_log_in_begins_a_new_session_so_that_a_planted_one_is_worth_nothing(stranger: Browser) -> None:
    stranger.get("/login")
    planted = stranger.client.get_cookie(SESSION_COOKIE, "localhost")
    stranger.log_in("grace")
    own = stranger.client.get_cookie(SESSION_COOKIE, "localhost")
    assert planted
    assert own
    assert planted.value != own.value
    stranger.client.set_cookie(SESSION_COOKIE, planted.value, domain="localhost")
    assert stranger.get("/").status_code == 303


def test_the_sessions_cookie_is_for_the_server_alone(stranger: Browser) -> None:
    stranger.base_url = "https://localhost"
    stranger.log_in("vera")
    cookie = stranger.client.get_cookie(SESSION_COOKIE, "localhost")
    assert cookie
    assert (cookie.http_only, cookie.secure, cookie.same_site) == (True, True, "Lax")


def test_who_logs_out_is_out(stranger: Browser) -> None:
    stranger.log_in("vera")
    stranger.submit("/logout")
    assert stranger.get("/").status_code == 303


def test_a_session_ends_when_the_password_changes(talker: Outbox, users: dict[str, User]) -> None:
    browser = Browser(create_app(talker, auth=Login(users)))
    browser.log_in("vera")
    assert browser.get("/").status_code == 200
    users["vera"] = User("vera", Role.VIEWER, generate_password_hash("new", method="pbkdf2:sha256:1"))
    assert browser.get("/").status_code == 303


def forged(session: Session, secret: bytes) -> list[str]:
    content, _, signature = seal(session, secret).rpartition(".")
    return [
        seal(session, b"another secret"), f"{content}.{'0' * len(signature)}", f"{content}A.{signature}", content, ".", "x.ü",
        "", "." + signature,
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(8))
def test_a_forged_session_lets_nobody_in(talker: Outbox, users: dict[str, User], number: int) -> None:
    login = Login(users)
    session = Session(user="ada", fingerprint=users["ada"].fingerprint)
    browser = Browser(create_app(talker, auth=login))
    browser.client.set_cookie(SESSION_COOKIE, seal(session, login.secret), domain="localhost")
    assert browser.get("/").status_code == 200
    browser.client.set_cookie(SESSION_COOKIE, forged(session, login.secret)[number], domain="localhost")
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize("age_s", [LONGEST_S, -60])
def test_a_session_has_its_time(talker: Outbox, users: dict[str, User], age_s: int) -> None:
    login = Login(users)
    session = Session(user="ada", fingerprint=users["ada"].fingerprint, begun_at=int(time.time()) - age_s)
    browser = Browser(create_app(talker, auth=login))
    browser.client.set_cookie(SESSION_COOKIE, seal(session, login.secret), domain="localhost")
    assert browser.get("/").status_code == 303


ACTIONS = [
    ("/messages/act", {"verb": "cancel", "id": "x"}), ("/channels/pause", {"channel": "chat"}),
    ("/channels/resume", {"channel": "chat"}),
]  # fmt: skip
CALLS = [
    ("/messages/retry", {"ids": ["x"]}), ("/messages/cancel", {"ids": ["x"]}),
    ("/messages/resolve", {"ids": ["x"], "sent": True}),
    ("/channels/chat/pause", {}), ("/channels/chat/resume", {}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "form"), ACTIONS)
def test_a_viewer_changes_nothing(stranger: Browser, talker: Outbox, path: str, form: dict[str, str]) -> None:
    stranger.log_in("vera")
    assert stranger.submit(path, **form).status_code == 403
    assert talker.store.gates() == []


@pytest.mark.parametrize(("path", "body"), CALLS)
def test_a_viewer_changes_nothing_through_the_api(stranger: Browser, talker: Outbox, path: str, body: object) -> None:
    stranger.log_in("vera")
    response = stranger.call("POST", path, body)
    assert (response.status_code, response.json["type"]) == (403, "urn:outbox:problem:not-allowed")
    assert talker.store.gates() == []


@pytest.mark.parametrize(("path", "body"), CALLS)
def test_a_read_only_dashboard_changes_nothing_whoever_asks(talker: Outbox, path: str, body: object) -> None:
    browser = Browser(create_app(talker, auth=Open("ada", Role.ADMIN), read_only=True))
    response = browser.call("POST", path, body)
    assert response.status_code == 403
    assert "read-only" in response.json["detail"]
    assert "<button>Resume" not in browser.page("/")
    assert talker.store.gates() == []


def test_pages_offer_a_viewer_nothing_to_press(stranger: Browser, end: Enqueue) -> None:
    message_id = end({"fail": "no"})
    stranger.log_in("vera")
    for path in ("/", "/messages", f"/messages/{message_id}"):
        assert 'name="verb"' not in stranger.page(path)
        assert "/channels/" not in stranger.page(path)


@pytest.mark.parametrize(("name", "sees"), [("vera", False), ("grace", False), ("ada", True)])
def test_only_an_administrator_sees_what_messages_say(stranger: Browser, enqueue: Enqueue, name: str, sees: bool) -> None:
    message_id = enqueue({"text": "the launch code"}, headers={"trace": "code of the header"})
    stranger.log_in(name)
    assert ("the launch code" in stranger.page(f"/messages/{message_id}")) is sees
    shown = stranger.call("GET", f"/messages/{message_id}").json
    assert ("payload" in shown, "headers" in shown) == (sees, sees)
    assert "launch" not in stranger.page("/messages")


def test_a_program_sends_name_and_password_and_needs_no_token(stranger: Browser, end: Enqueue, talker: Outbox) -> None:
    message_id = end({"fail": "no"})
    response = stranger.client.post(
        "/api/v1/messages/retry", base_url=stranger.base_url, auth=("grace", "right"), json={"ids": [message_id]}
    )
    assert (response.status_code, response.json) == (200, {"changed": [message_id], "refused": []})
    assert "Set-Cookie" not in response.headers
    assert [operation.actor for operation in talker.store.operations(message_id)] == ["grace"]


def test_without_log_ins_only_the_loopback_interface_is_answered(talker: Outbox) -> None:
    client = Client(create_app(talker, auth=Open("grace")))
    for address, status in (("127.0.0.1", 200), ("127.3.4.5", 200), ("::1", 200), ("192.0.2.7", 403), ("128.0.0.1", 403)):
        response = client.get("/", base_url="http://localhost", environ_overrides={"REMOTE_ADDR": address})
        assert response.status_code == status


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1:8700", "", "["])
def test_a_name_that_was_bound_to_this_machine_from_elsewhere_is_refused(talker: Outbox, host: str) -> None:
    client = Client(create_app(talker, auth=Open("grace")))
    for path in ("/", "/api/v1/overview"):
        response = client.get(path, headers={"Host": host}, environ_overrides={**LOOPBACK, "HTTP_HOST": host})
        assert response.status_code == 421


@pytest.mark.parametrize("host", ["localhost:8700", "127.0.0.1", "[::1]:8700", "LOCALHOST"])
def test_the_names_of_this_machine_are_answered(talker: Outbox, host: str) -> None:
    client = Client(create_app(talker, auth=Open("grace")))
    assert client.get("/", environ_overrides={**LOOPBACK, "HTTP_HOST": host}).status_code == 200


def test_only_the_names_that_are_allowed_are_answered(talker: Outbox, users: dict[str, User]) -> None:
    client = Client(create_app(talker, auth=Login(users), allowed_hosts=["outbox.example"]))
    assert client.get("/login", base_url="https://outbox.example").status_code == 200
    assert client.get("/login", base_url="https://localhost").status_code == 421


def test_the_application_around_it_may_say_who_is_there(talker: Outbox) -> None:
    people = {"1": Visitor("lin", Role.OPERATOR)}
    auth = Delegated(lambda environ: people.get(environ.get("HTTP_X_PERSON", "")), login_url="/accounts/login")
    client = Client(create_app(talker, auth=auth))
    assert client.get("/").location == "/accounts/login"
    assert "lin" in client.get("/", headers={"X-Person": "1"}).get_data(as_text=True)
    assert client.get("/api/v1/session", headers={"X-Person": "1"}).json["role"] == "operator"
    assert Client(create_app(talker, auth=Delegated(lambda environ: None))).get("/").status_code == 403
