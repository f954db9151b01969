"""The dashboard in a real browser: every page and action, live, by keyboard, on a phone, in the dark, and without scripts."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import text
from sqlalchemy.orm import Session
from werkzeug.security import generate_password_hash

from outbox import Outbox, OutcomeUnknown, PermanentFailure
from outbox.message import Attempt, Message
from outbox.policy.retry import OnUnknown
from outbox.web import Login, Open, Role, User, create_app
from tests.e2e import browser as browsing
from tests.e2e.conftest import DESKTOP, NewPage
from tests.servers.supervised import PROJECT

pytestmark = pytest.mark.xdist_group("browser")

HOSTILE = "<script>window.hacked=1</script>\"'><img src=x onerror=window.hacked=1>"
PHONE = {"width": 360, "height": 740}

# What lies, wholly or in part, to the right of the screen.
STICKING_OUT = """[...document.querySelectorAll("main :is(td, th, button)")]
    .filter(each => each.getBoundingClientRect().right > innerWidth).map(each => each.textContent.trim())"""

Enqueue = Callable[..., str]
Open_ = Callable[..., Page]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """An outbox whose channel does what the payload says."""
    outbox = Outbox(f"sqlite:///{tmp_path / 'outbox.db'}")
    outbox.upgrade_schema()

    @outbox.channel("chat", on_unknown=OnUnknown.PARK, max_in_flight=40)
    def send(message: Message, attempt: Attempt) -> None:
        match message.payload:
            case {"fail": str(reason)}:
                raise PermanentFailure(reason)
            case {"unknown": str(reason)}:
                raise OutcomeUnknown(reason)

    yield outbox
    outbox.close()


@pytest.fixture
def enqueue(outbox: Outbox) -> Enqueue:
    def one(payload: object = None, **options: object) -> str:
        with Session(outbox.store.engine) as session, session.begin():  # type: ignore[attr-defined]
            return outbox.enqueue(session, "chat", payload=payload, **options).id  # type: ignore[arg-type]

    return one


@pytest.fixture
def some_of_each(outbox: Outbox, enqueue: Enqueue) -> dict[str, str]:
    """Messages by what became of them."""
    ids = {"dead": enqueue({"fail": "HTTP 410 Gone"}, target="https://a.example/hook", turn_id="turn 1")}
    ids |= {"parked": enqueue({"unknown": "no answer"}), "delivered": enqueue({"text": "hello"})}
    outbox.drain()
    ids["waits"] = enqueue({"text": "wait"}, delay=3_600)
    outbox.pause("chat", target="https://b.example/" + "long/" * 30, reason="their night", actor="ada")
    outbox.maintain_once()
    return ids


@pytest.fixture
def address(outbox: Outbox) -> Iterator[str]:
    """The dashboard of an administrator who need not log in."""
    with browsing.served(create_app(outbox, auth=Open("ada", Role.ADMIN))) as url:
        yield url


@pytest.fixture
def open_page(new_page: NewPage, address: str) -> Open_:
    return lambda path="/", base=address, **options: new_page(base + path, **options)


def serious_findings(page: Page) -> list[tuple[str, str]]:
    """What a person who cannot see, or not press a mouse, would stumble over on the page as it is."""
    found = Axe().run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]


def paths(ids: dict[str, str]) -> list[str]:
    return ["/", "/?span=7d", "/messages", "/messages?status=failed_terminal", "/messages?q=nothing", "/nowhere"] + [
        f"/messages/{message_id}" for message_id in ids.values()
    ]


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param(DESKTOP, "light", id="desktop-light", marks=pytest.mark.long),
        pytest.param(DESKTOP, "dark", id="desktop-dark", marks=pytest.mark.long),
        pytest.param(PHONE, "light", id="phone-light", marks=pytest.mark.long),
        pytest.param(PHONE, "dark", id="phone-dark"),
    ],
)
def test_every_page_is_sound_and_accessible(
    open_page: Open_, address: str, some_of_each: dict[str, str], scheme: str, size: dict[str, int]
) -> None:
    page = open_page(viewport=size, color_scheme=scheme)
    heard = browsing.complaints(page)
    for path in paths(some_of_each):
        page.goto(address + path)
        for closed in page.locator("details").all():
            closed.evaluate("element => { element.open = true; }")
        assert serious_findings(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], path
    assert [each for each in heard if "404" not in each] == []


def test_on_a_phone_the_reason_and_what_can_be_done_are_on_the_screen(
    open_page: Open_, address: str, some_of_each: dict[str, str]
) -> None:
    page = open_page("/messages", viewport=PHONE)
    expect(page.locator("table.rows tr", has_text="HTTP 410 Gone")).to_be_visible()
    assert page.evaluate(STICKING_OUT) == []
    page.locator("#tick-all").check()
    expect(page.get_by_role("button", name="Retry")).to_be_in_viewport(ratio=1)
    page.goto(address)
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert page.evaluate(STICKING_OUT) == []


def test_the_overview_follows_what_happens_without_being_loaded_again(
    open_page: Open_, outbox: Outbox, enqueue: Enqueue
) -> None:
    page = open_page()
    page.evaluate("window.same = true")
    queued = page.locator("table.channels tbody tr").first.locator("td").first
    expect(queued).to_have_text("0")
    enqueue({"fail": "no"})
    expect(queued).to_have_text("1")
    outbox.drain()
    expect(page.locator("a.figure.bad .value")).to_have_text("1")
    expect(page.get_by_role("status")).to_have_text("live")
    assert page.evaluate("window.same")


def test_a_tick_the_focus_and_what_is_typed_survive_an_update(
    open_page: Open_, some_of_each: dict[str, str], enqueue: Enqueue
) -> None:
    page = open_page("/messages")
    page.locator(f"input[value='{some_of_each['dead']}']").check()
    page.get_by_label("Reason").fill("they mended it")
    page.locator(f"a[href$='{some_of_each['dead']}']").focus()
    fresh = enqueue()
    expect(page.locator(f"a[href$='{fresh}']")).to_be_visible()
    expect(page.locator(f"input[value='{some_of_each['dead']}']")).to_be_checked()
    expect(page.locator("input[name=id]:checked")).to_have_count(1)
    expect(page.get_by_label("Reason")).to_have_value("they mended it")


def test_a_tab_that_nobody_sees_asks_for_nothing(open_page: Open_) -> None:
    page = open_page()
    expect(page.get_by_role("status")).to_have_text("live")
    page.evaluate(
        "Object.defineProperty(document, 'hidden', { configurable: true, get: () => window.away });"
        "window.away = true; document.dispatchEvent(new Event('visibilitychange'))"
    )
    expect(page.get_by_role("status")).to_have_text("paused")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3_500)  # longer than a period: that nothing happens has no event to wait for
    assert asked == []
    with page.expect_request("**/"):
        page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("status")).to_have_text("live")


def test_a_connection_that_is_lost_is_told_and_found_again(open_page: Open_) -> None:
    page = open_page()
    page.context.set_offline(True)
    expect(page.get_by_role("status")).to_have_text("no connection, trying again", timeout=15_000)
    page.context.set_offline(False)
    expect(page.get_by_role("status")).to_have_text("live", timeout=30_000)


def test_ticked_messages_are_retried(open_page: Open_, outbox: Outbox, some_of_each: dict[str, str]) -> None:
    page = open_page("/messages?status=failed_terminal")
    page.locator("input[name=id]").check()
    page.get_by_label("Reason").fill("they mended it")
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("Nothing matches.")).to_be_visible()
    assert outbox.get(some_of_each["dead"]).status == "queued"
    (operation,) = outbox.store.operations(some_of_each["dead"])
    assert (operation.actor, operation.reason) == ("ada", "they mended it")


def test_all_of_a_page_is_ticked_at_once(open_page: Open_, some_of_each: dict[str, str]) -> None:
    page = open_page("/messages")
    page.locator("#tick-all").check()
    expect(page.locator("input[name=id]:checked")).to_have_count(len(some_of_each))
    page.locator("#tick-all").uncheck()
    expect(page.locator("input[name=id]:checked")).to_have_count(0)


def test_all_that_match_are_cancelled_once_that_is_confirmed(open_page: Open_, outbox: Outbox, enqueue: Enqueue) -> None:
    ids = [enqueue() for _ in range(3)]
    page = open_page("/messages?status=queued")
    page.locator("select[name=scope]").select_option("all")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Cancel 3 messages?")).to_be_visible()
    page.get_by_role("button", name="Cancel 3").click()
    expect(page.get_by_text("Nothing matches.")).to_be_visible()
    assert {outbox.get(message_id).status for message_id in ids} == {"cancelled"}


@pytest.mark.parametrize(
    ("button", "status"), [("It was sent", "delivered"), ("It was not sent", "queued"), ("Cancel", "cancelled")]
)
def test_a_parked_message_is_resolved_from_its_page(
    open_page: Open_, outbox: Outbox, some_of_each: dict[str, str], button: str, status: str
) -> None:
    page = open_page(f"/messages/{some_of_each['parked']}")
    page.get_by_role("button", name=button, exact=True).click()
    expect(page.locator(".heading .pill")).to_have_text(status)
    assert outbox.get(some_of_each["parked"]).status == status


def test_a_channel_is_paused_and_resumed(open_page: Open_, outbox: Outbox, enqueue: Enqueue) -> None:
    enqueue()
    page = open_page()
    page.get_by_text("Pause a channel or a target").click()
    page.get_by_label("Channel", exact=True).fill("chat")
    page.get_by_label("For").select_option("900")
    page.get_by_label("Reason").fill("their night")
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("#live-channels .pill.closed")).to_be_visible()
    (gate,) = outbox.store.gates()
    assert (gate.channel, gate.actor, gate.reason) == ("chat", "ada", "their night")
    page.get_by_role("button", name="Resume chat").click()
    expect(page.get_by_text("Everything is open.")).to_be_visible()
    assert outbox.store.gates() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_a_form_is_answered_with_is_accessible_too(
    open_page: Open_, outbox: Outbox, address: str, some_of_each: dict[str, str], scheme: str
) -> None:
    page = open_page("/messages?channel=chat", color_scheme=scheme)
    page.locator("select[name=scope]").select_option("all")
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("heading", name="Retry 1 message?")).to_be_visible()
    assert serious_findings(page) == []
    page.goto(address + "/messages")
    page.locator("#tick-all").check()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Cancel: 2 done, 2 refused")).to_be_visible()
    assert serious_findings(page) == []
    page.get_by_role("link", name="Back").click()
    with outbox.store.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.execute(text("drop table message_outbox"))
    page.reload()
    expect(page.get_by_role("alert")).to_be_visible()
    assert serious_findings(page) == []


def test_from_asking_for_another_page_until_it_is_there_this_one_says_that_it_is_loading(
    open_page: Open_, enqueue: Enqueue
) -> None:
    enqueue()
    page = open_page()
    leave = """addEventListener("beforeunload", () => {
        sessionStorage.said = document.getElementById("live").textContent;
        sessionStorage.cursor = getComputedStyle(document.querySelector("main form button")).cursor; });"""
    page.evaluate(leave)
    page.get_by_role("link", name="Messages").click()
    expect(page.get_by_role("status")).to_have_text("live")
    assert page.evaluate("[sessionStorage.said, sessionStorage.cursor]") == ["loading", "pointer"]
    page.locator("input[name=id]").check()
    page.evaluate(leave.replace("main form", "#act fieldset"))
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("table.rows .pill.cancelled")).to_be_visible()
    assert page.evaluate("[sessionStorage.said, sessionStorage.cursor]") == ["loading", "progress"]


def test_a_form_is_sent_once_however_often_it_is_pressed(open_page: Open_, some_of_each: dict[str, str]) -> None:
    page = open_page(f"/messages/{some_of_each['dead']}")
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    page.evaluate("const button = document.querySelector('form.act button'); button.click(); button.click()")
    expect(page.locator(".heading .pill")).to_have_text("queued")
    assert len(posts) == 1


def test_everything_is_reached_from_the_keyboard(open_page: Open_, outbox: Outbox, some_of_each: dict[str, str]) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#keys dl")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("f")
    page.wait_for_url("**/messages?status=failed_terminal")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("tr.current input")).to_be_checked()
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("jxg?t")
    expect(page.locator("#search")).to_have_value("jxg?t")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/messages/{some_of_each['dead']}")
    page.keyboard.press("g")
    page.keyboard.press("o")
    page.wait_for_url(re.compile(r"/$"))


def test_the_theme_is_the_systems_until_somebody_chooses(open_page: Open_) -> None:
    def background(page: Page) -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light, dark = open_page(color_scheme="light"), open_page(color_scheme="dark")
    in_light, in_dark = background(light), background(dark)
    assert in_light != in_dark
    for chosen, expected in (("light", in_light), ("dark", in_dark), ("auto", in_dark)):
        dark.keyboard.press("t")
        expect(dark.locator(f"html[data-theme={chosen}]")).to_be_attached()
        assert background(dark) == expected


def test_without_scripts_everything_is_read_and_done(
    open_page: Open_, outbox: Outbox, address: str, some_of_each: dict[str, str]
) -> None:
    page = open_page("/", java_script_enabled=False)
    expect(page.locator("a.figure.bad .value")).to_have_text("1")
    page.get_by_role("link", name="Failed", exact=True).click()
    page.locator("input[name=id]").check()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("Nothing matches.")).to_be_visible()
    assert outbox.get(some_of_each["dead"]).status == "queued"
    page.goto(address + "/messages")
    page.get_by_label("Status").select_option("parked")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("table.rows tbody tr")).to_have_count(1)


# Every column whose text is shown, whoever wrote it: the application, a receiver, a worker, or somebody with SQL.
SHOWN = {
    "message_outbox": ("dispatch_kind", "error_class", "lease_owner", "terminal_reason"),
    "message_outbox_attempt": ("outcome", "error", "owner"),
    "message_outbox_operation": ("action", "actor", "reason"),
    "message_outbox_gate": ("reason", "actor"),
}


def test_nothing_that_a_message_holds_is_run(open_page: Open_, outbox: Outbox, enqueue: Enqueue) -> None:
    fields = dict.fromkeys(("target", "turn_id", "idempotency_key", "ordering_key", "account_id"), HOSTILE)
    message_id = enqueue({"fail": HOSTILE}, headers={"h": HOSTILE}, **fields)
    outbox.drain()
    outbox.retry(message_id, actor=HOSTILE, reason=HOSTILE)
    outbox.drain()
    outbox.pause("chat", target=HOSTILE, reason=HOSTILE, actor=HOSTILE)
    with outbox.store.engine.begin() as connection:  # type: ignore[attr-defined]
        for table, columns in SHOWN.items():
            for column in columns:
                assert connection.execute(text(f"update {table} set {column} = :hostile"), {"hostile": HOSTILE}).rowcount
        receipt = {"receipt": json.dumps({"provider_id": HOSTILE})}
        connection.execute(text("update message_outbox set receipt = :receipt"), receipt)
        copied = "channel, queued_at, next_attempt_at, status) select 'x' || id, :hostile, queued_at, next_attempt_at, status"
        connection.execute(text(f"insert into message_outbox (id, {copied} from message_outbox"), {"hostile": HOSTILE})
    asked = urlencode(dict.fromkeys(("channel", "target", "turn_id", "q"), f'">{HOSTILE}'))
    with browsing.served(create_app(outbox, auth=Open(HOSTILE, Role.ADMIN))) as address:
        page = open_page(base=address)
        heard = browsing.complaints(page)
        for path in ("/", "/messages", f"/messages/{message_id}", f"/messages/x{message_id}", f"/messages?{asked}"):
            with page.expect_response(lambda response: response.request.resource_type == "fetch"):  # the live update too
                page.goto(address + path)
            assert HOSTILE in page.locator("body").inner_text()
            assert page.evaluate("window.hacked") is None
        assert heard == []


def test_the_policy_stops_what_would_slip_through(open_page: Open_) -> None:
    page = open_page()
    inject = "const one = document.createElement('script'); one.textContent = 'window.hacked = 1'; document.body.append(one)"
    page.evaluate(inject)
    assert page.evaluate("window.hacked") is None


def test_a_page_elsewhere_changes_nothing(open_page: Open_, outbox: Outbox, address: str) -> None:
    page = open_page()
    token = page.locator("input[name=csrf_token]").first.input_value()
    form = f'<form method=post action="{address}/channels/pause"><input name=channel value=chat><input name=for_s value="">'
    for field in ("", f"<input name=csrf_token value={token}>"):
        page.goto(f"data:text/html,{form}{field}<button>go</button></form>")
        with page.expect_response("**/channels/pause") as answer:
            page.get_by_role("button").click()
        assert answer.value.status == 403
    assert outbox.store.gates() == []


def test_people_log_in_see_what_their_role_allows_and_log_out(outbox: Outbox, open_page: Open_, enqueue: Enqueue) -> None:
    message_id = enqueue({"text": "the launch code"})
    hashed = generate_password_hash("right", method="pbkdf2:sha256:1")
    users = {name: User(name, Role(name), hashed) for name in ("viewer", "admin")}
    with browsing.served(create_app(outbox, auth=Login(users))) as url:
        page = open_page(f"/messages/{message_id}", base=url)
        for name, sees in (("viewer", False), ("admin", True)):
            page.get_by_label("Name").fill(name)
            page.get_by_label("Password").fill("wrong")
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("alert")).to_contain_text("no user with that name and password")
            assert Axe().run(page).response["violations"] == []
            page.get_by_label("Password").fill("right")
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(f"**/messages/{message_id}")
            assert ("the launch code" in page.content()) is sees
            assert (page.get_by_role("button", name="Cancel").count() == 1) is sees
            page.get_by_role("button", name="Log out").click()
            page.goto(f"{url}/messages/{message_id}")


def test_a_page_whose_session_has_ended_goes_to_the_log_in(outbox: Outbox, open_page: Open_) -> None:
    users = {"ada": User("ada", Role.ADMIN, generate_password_hash("right", method="pbkdf2:sha256:1"))}
    with browsing.served(create_app(outbox, auth=Login(users))) as url:
        page = open_page("/", base=url)
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill("right")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("status")).to_have_text("live")
        page.context.clear_cookies()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible(timeout=15_000)


@pytest.mark.long
def test_the_pictures_of_the_guide_can_be_taken_again(chromium: Browser, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "docs.screenshots", str(tmp_path)]
    subprocess.run(command, cwd=PROJECT, check=True, timeout=100)
    taken = {picture.name for picture in tmp_path.iterdir()}
    guide = (PROJECT / "docs/guides/dashboard.md").read_text()
    assert taken == set(re.findall(r"images/(dashboard-\w+\.png)", guide))
    assert taken == {picture.name for picture in (PROJECT / "docs/images").glob("dashboard-*")}
