"""Django's admin in a real browser: messages found, read and operated, on record, and refused to whoever may not."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy.orm import Session

from outbox import Outbox, OutcomeUnknown, PermanentFailure
from outbox.message import Attempt, Message
from outbox.policy.retry import OnUnknown
from tests.e2e import browser as browsing
from tests.e2e.conftest import NewPage
from tests.integration.django.conftest import PROJECT, Manage
from tests.servers.kept import free_port
from tests.servers.supervised import eventually

pytestmark = pytest.mark.xdist_group("browser")

HOSTILE = "<img src=x onerror=window.hacked=1>"
LIST = "/admin/outbox/message/"
CHANNELS = f"{LIST}channels/"
# What a project has that people use with a browser: the admin's own scripts and styles, and CSRF protection.
SETTINGS = {
    "DEBUG": True,
    "STATIC_URL": "/static/",
    "INSTALLED_APPS": [
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "django.contrib.staticfiles",
        "outbox.integrations.django",
        "tests.integration.django.shop",
    ],
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
}
# Ada may do everything, Victor may look, and Eve may do nothing although she is of the staff.
PEOPLE = """
from django.contrib.auth.models import Permission, User
allowed = Permission.objects.filter(content_type__app_label="outbox")
for name, permissions in (("ada", allowed), ("victor", allowed.filter(codename="view_message")), ("eve", [])):
    User.objects.create_user(name, password=name, is_staff=True).user_permissions.set(permissions)
"""

End = Callable[..., str]
LogIn = Callable[[str], Page]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Manage:
    """A migrated database with three people in it."""
    project = Manage(f"sqlite:///{tmp_path_factory.mktemp('admin') / 'shop.db'}", SETTINGS)
    project("migrate")
    project.shell(PEOPLE)
    return project


@pytest.fixture(scope="module")
def address(project: Manage) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "django", "runserver", "--noreload", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, cwd=PROJECT, env=project.environment(), stderr=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: _answers(f"http://127.0.0.1:{port}/admin/"), "the admin does not answer")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture
def outbox(project: Manage) -> Iterator[Outbox]:
    """What the project's workers would be: its channel does what the payload says."""
    outbox = Outbox(project.database_url)

    @outbox.channel("warehouse", on_unknown=OnUnknown.PARK)
    def send(message: Message, attempt: Attempt) -> None:
        match message.payload:
            case {"fail": str(reason)}:
                raise PermanentFailure(reason)
            case {"unknown": str(reason)}:
                raise OutcomeUnknown(reason)

    yield outbox
    outbox.close()


@pytest.fixture
def end(outbox: Outbox) -> End:
    """Enqueue a message that ends as its payload says, unless it waits."""

    def one(payload: object = None, **options: object) -> str:
        with Session(outbox.store.engine) as session, session.begin():  # type: ignore[attr-defined]
            queued = outbox.enqueue(session, "warehouse", payload=payload, **options)  # type: ignore[arg-type]
        outbox.drain()
        return queued.id

    return one


@pytest.fixture
def log_in(new_page: NewPage, address: str) -> LogIn:
    def as_somebody(name: str) -> Page:
        page = new_page(f"{address}/admin/")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(name)
        page.get_by_role("button", name="Log in").click()
        page.goto(address + LIST)
        return page

    return as_somebody


def row(page: Page, message_id: str) -> Locator:
    return page.locator("#result_list tbody tr", has_text=message_id)


def act(page: Page, action: str, *ids: str, reason: str = "") -> None:
    """Tick the messages, choose the action, say why, and go."""
    for message_id in ids:
        row(page, message_id).locator("input.action-select").check()
    page.locator("select[name=action]").select_option(label=action)
    page.locator("input[name=reason]").fill(reason)
    page.locator("button[name=index]").click()


def history(page: Page, message_id: str) -> None:
    """Go to what the admin's own log tells of the message."""
    page.get_by_role("link", name=message_id).click()
    page.get_by_role("link", name="History").click()


def test_messages_are_listed_filtered_and_found(log_in: LogIn, end: End) -> None:
    dead, delivered = end({"fail": "no such address"}, target="ada"), end(turn_id="turn 7")
    page = log_in("ada")
    heard = browsing.complaints(page)
    expect(row(page, dead)).to_contain_text("no such address")
    expect(row(page, delivered)).to_contain_text("delivered")
    page.get_by_role("link", name="failed terminal").click()
    expect(row(page, dead)).to_be_visible()
    expect(row(page, delivered)).to_have_count(0)
    page.get_by_role("link", name="warehouse").click()
    page.wait_for_url(re.compile("channel=warehouse&status=failed_terminal"))
    expect(row(page, dead)).to_be_visible()
    page.goto(page.url.partition("?")[0])
    page.locator("#searchbar").fill("turn 7")
    page.keyboard.press("Enter")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    expect(row(page, delivered)).to_be_visible()
    assert heard == []


def test_a_dead_letter_is_read_and_made_due_again_on_record(log_in: LogIn, end: End, outbox: Outbox) -> None:
    dead = end({"fail": "no such address"}, target="42 Elm Street")
    page = log_in("ada")
    act(page, "Make due again, from attempt 0", dead, reason="address corrected")
    expect(page.locator(".messagelist .success")).to_have_text("1 message made due again.")
    assert (outbox.get(dead).status, outbox.get(dead).attempt_count) == ("queued", 0)
    outbox.drain()
    page.get_by_role("link", name=dead).click()
    attempts = page.locator(".field-attempts tbody tr")
    expect(attempts).to_have_count(2)
    expect(attempts.first).to_contain_text("rejected")
    expect(attempts.first).to_contain_text("no such address")
    (operation,) = page.locator(".field-operations tbody tr").all()
    expect(operation).to_have_text(re.compile("replay.*failed_terminal.*ada.*address corrected"))
    expect(page.locator(".field-payload")).to_contain_text("no such address")
    page.get_by_role("link", name="History").click()
    expect(page.locator("#change-history tbody tr")).to_have_text(re.compile(r"ada\s+Made due again: address corrected"))


def test_what_waits_is_cancelled_and_what_is_over_is_refused_by_name(log_in: LogIn, end: End, outbox: Outbox) -> None:
    waits, over = end(delay=3_600), end()
    page = log_in("ada")
    act(page, "Cancel", waits, over)
    expect(page.locator(".messagelist .success")).to_have_text("1 message cancelled.")
    expect(page.locator(".messagelist .warning")).to_have_text(f"Refused: {over}: it is delivered already.")
    expect(row(page, waits)).to_contain_text("cancelled")
    assert (outbox.get(waits).status, outbox.get(over).status) == ("cancelled", "delivered")


@pytest.mark.parametrize(
    ("action", "status", "logged"),
    [
        ("Parked: it was sent", "delivered", "Resolved as sent"),
        ("Parked: it was not sent, send it", "queued", "Resolved as not sent"),
    ],
)
def test_a_parked_message_is_resolved(log_in: LogIn, end: End, outbox: Outbox, action: str, status: str, logged: str) -> None:
    parked = end({"unknown": "no answer"})
    assert outbox.get(parked).status == "parked"
    page = log_in("ada")
    act(page, action, parked, reason="they looked")
    expect(page.locator(".messagelist .success")).to_be_visible()
    assert outbox.get(parked).status == status
    history(page, parked)
    expect(page.locator("#change-history tbody tr")).to_have_text(re.compile(rf"ada\s+{logged}: they looked"))


def test_a_channel_is_paused_and_resumed_on_record(log_in: LogIn, end: End, outbox: Outbox, address: str) -> None:
    page = log_in("ada")
    page.get_by_role("link", name="Channels").click()
    page.get_by_label("Channel:").fill("warehouse")
    page.get_by_label("For minutes:").fill("15")
    page.get_by_label("Why:").fill("stocktaking")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".messagelist .success")).to_have_text("Paused warehouse.")
    closed = page.locator("#content-main tbody tr")
    expect(closed).to_contain_text("stocktaking")
    waits = end()
    assert outbox.get(waits).status == "queued"
    closed.get_by_label("why, for the record").fill("counted")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".messagelist .success")).to_have_text("Resumed warehouse.")
    expect(page.get_by_text("Every channel is open.")).to_be_visible()
    outbox.drain()
    assert outbox.get(waits).status == "delivered"
    page.goto(f"{address}/admin/")
    recent = page.locator("#recent-actions-module li")
    expect(recent.filter(has_text="warehouse").first).to_contain_text("Gate")


def test_who_may_only_look_is_offered_nothing_and_refused_what_a_page_of_theirs_sends(
    log_in: LogIn, end: End, outbox: Outbox
) -> None:
    dead = end({"fail": "no such address"})
    page = log_in("victor")
    expect(row(page, dead)).to_be_visible()
    expect(page.locator("select[name=action]")).to_have_count(0)
    seq = page.get_by_role("link", name=dead).get_attribute("href")
    assert seq is not None
    page.get_by_role("link", name=dead).click()
    expect(page.locator(".field-payload")).to_have_count(0)
    page.goto(page.url.partition(LIST)[0] + CHANNELS)
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    sent = "([path, form]) => fetch(path, {method: 'POST', body: new URLSearchParams(form)}).then(answer => answer.status)"
    token = {"csrfmiddlewaretoken": page.locator("input[name=csrfmiddlewaretoken]").first.input_value()}
    number = seq.split("/")[-3]
    assert page.evaluate(sent, [CHANNELS, {**token, "action": "pause", "channel": "warehouse"}]) == 403
    page.evaluate(sent, [LIST, {**token, "action": "retry", "_selected_action": number}])
    assert outbox.get(dead).status == "failed_terminal"
    assert outbox.store.gates() == []


def test_who_may_not_look_is_shown_nothing(log_in: LogIn, end: End, address: str) -> None:
    message_id = end(target="42 Elm Street")
    page = log_in("eve")
    for path in (LIST, CHANNELS):
        answer = page.goto(address + path)
        assert answer is not None
        assert answer.status == 403
        assert message_id not in page.content()


def test_nothing_that_a_message_holds_is_run(log_in: LogIn, end: End, outbox: Outbox, address: str) -> None:
    message_id = end({"fail": HOSTILE}, target=HOSTILE, turn_id=HOSTILE)
    outbox.pause("warehouse", target=HOSTILE, reason=HOSTILE, actor=HOSTILE)
    page = log_in("ada")
    expect(row(page, message_id)).to_contain_text(HOSTILE)
    page.get_by_role("link", name=message_id).click()
    expect(page.locator(".field-attempts")).to_contain_text(HOSTILE)
    page.goto(address + CHANNELS)
    expect(page.locator("#content-main tbody tr")).to_contain_text(HOSTILE)
    assert page.evaluate("window.hacked") is None
    outbox.resume("warehouse", target=HOSTILE)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, follow_redirects=True).status_code == 200
    except httpx.TransportError:
        return False
