"""An operator's day: a provider goes down, is noticed, paused, mended and resumed, and what died meanwhile goes out after all.

Once at the dashboard in a real browser, once through its API, and once from the command line.
"""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

import pytest
from playwright.sync_api import Page, expect
from prometheus_client import CollectorRegistry

from outbox import Outbox
from outbox.channels.webhook import Webhook
from outbox.integrations.prometheus import Backlog
from outbox.policy.destination import Breaker
from outbox.policy.retry import Backoff
from outbox.testing import FakeClock
from outbox.web import Open, create_app
from tests.command import Command
from tests.e2e import browser as browsing
from tests.e2e.conftest import NewPage
from tests.integration.conftest import (  # noqa: F401 - outboxes on real databases
    OpenOutbox,
    clock,
    open_outbox,
    outbox_url,
    postgres_outbox,
    postgres_outbox_url,
    sqlite_outbox_url,
    sqlite_template,
)
from tests.integration.loops.scene import enqueue_many, statuses
from tests.integration.web.browsing import Browser

pytestmark = pytest.mark.xdist_group("browser")

SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
HOUR_MS = 3_600_000


class Provider:
    """Somebody else's service, which is down or not."""

    def __init__(self) -> None:
        self.is_down = True
        self.accepted: list[str] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                if not provider.is_down:
                    provider.accepted.append(self.headers["webhook-id"])
                self.send_response(503 if provider.is_down else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@contextmanager
def listening(provider: Provider) -> Iterator[Provider]:
    thread = threading.Thread(target=provider.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        thread.join()
        provider.server.server_close()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with listening(Provider()) as provider:
        yield provider


@pytest.fixture
def outbox(open_outbox: OpenOutbox, clock: FakeClock) -> Outbox:  # noqa: F811
    outbox = open_outbox(clock=clock)
    policy = {"max_attempts": 2, "backoff": Backoff((1.0,), jitter=0), "target_breaker": Breaker(failures=3, open_s=30)}
    outbox.register(Webhook(secret=SECRET, allow_networks=["127.0.0.0/8"], allow_http=True, **policy))
    return outbox


class Operator(Protocol):
    """Who looks and acts, by whatever means."""

    def closed(self) -> set[str]:
        """Why something of the channel is closed."""

    def dead(self) -> set[str]:
        """The ids of the dead letters."""

    def pause(self, reason: str) -> None: ...

    def resume(self, reason: str) -> None: ...

    def retry_all_dead(self, reason: str) -> None: ...


class AtTheDashboard:
    """Ada, in her browser."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def closed(self) -> set[str]:
        self._page.get_by_role("link", name="Overview").click()
        return set(self._page.locator("#live-gates .pill.closed").all_text_contents())

    def dead(self) -> set[str]:
        self._page.get_by_role("link", name="Failed", exact=True).click()
        self._page.get_by_label("Channel").select_option("webhook")
        self._page.get_by_role("button", name="Show").click()
        self._page.wait_for_url("**channel=webhook**")
        return {str(box.get_attribute("value")) for box in self._page.locator("input[name=id]").all()}

    def pause(self, reason: str) -> None:
        self._page.get_by_role("link", name="Overview").click()
        self._page.get_by_text("Pause a channel or a target").click()
        form = self._page.locator("form.fields")
        form.get_by_label("Channel").fill("webhook")
        form.get_by_label("Reason").fill(reason)
        form.get_by_role("button", name="Pause").click()
        expect(self._page.locator("#live-gates tr", has_text=reason)).to_be_visible()

    def resume(self, reason: str) -> None:
        self._page.get_by_role("link", name="Overview").click()
        paused = self._page.locator("#live-gates tr", has_text="pause")
        paused.get_by_label("Reason").fill(reason)
        paused.get_by_role("button", name="Resume webhook").click()
        expect(paused).to_have_count(0)

    def retry_all_dead(self, reason: str) -> None:
        count = len(self.dead())
        self._page.locator("select[name=scope]").select_option("all")
        self._page.get_by_label("Reason").fill(reason)
        self._page.get_by_role("button", name="Retry").click()
        self._page.get_by_role("button", name=f"Retry {count}").click()
        expect(self._page.get_by_text("Nothing matches.")).to_be_visible()


class AtTheApi:
    """A program of Ada's."""

    def __init__(self, outbox: Outbox) -> None:
        self._browser = Browser(create_app(outbox, auth=Open("ada")))

    def closed(self) -> set[str]:
        return {gate["kind"] for gate in self._browser.call("GET", "/overview").json["gates"] if gate["state"] == "closed"}

    def dead(self) -> set[str]:
        found = self._browser.call("GET", "/messages?channel=webhook&status=failed_terminal").json
        return {message["id"] for message in found["messages"]}

    def pause(self, reason: str) -> None:
        assert self._browser.call("POST", "/channels/webhook/pause", {"reason": reason}).status_code == 200

    def resume(self, reason: str) -> None:
        answer = self._browser.call("POST", "/channels/webhook/resume", {"all_targets": True, "reason": reason})
        assert answer.status_code == 200

    def retry_all_dead(self, reason: str) -> None:
        chosen = {"filter": {"channel": "webhook", "status": "failed_terminal"}, "reason": reason}
        assert self._browser.call("POST", "/messages/retry", chosen).status_code == 200


class AtTheCommandLine:
    """Ada, in a terminal."""

    def __init__(self, url: str) -> None:
        self._outbox = Command(["--database", url])

    def closed(self) -> set[str]:
        return {
            gate["kind"] for gate in json.loads(self._outbox("status", "--json").stdout)["gates"] if gate["state"] == "closed"
        }

    def dead(self) -> set[str]:
        lines = self._outbox.ok("list", "--channel", "webhook", "--status", "failed_terminal", "--json")
        return {message["id"] for message in lines.data}

    def pause(self, reason: str) -> None:
        self._outbox.ok("pause", "webhook", "--reason", reason, "--actor", "ada")

    def resume(self, reason: str) -> None:
        self._outbox.ok("resume", "webhook", "--all-targets", "--reason", reason, "--actor", "ada")

    def retry_all_dead(self, reason: str) -> None:
        chosen = ("--channel", "webhook", "--status", "failed_terminal")
        self._outbox.ok("retry", *chosen, "--yes", "--reason", reason, "--actor", "ada")


@pytest.fixture(params=["dashboard", "API", "command line"])
def ada(request: pytest.FixtureRequest, outbox: Outbox, outbox_url: str) -> Iterator[Operator]:  # noqa: F811
    match request.param:
        case "dashboard":
            new_page: NewPage = request.getfixturevalue("new_page")
            with browsing.served(create_app(outbox, auth=Open("ada"))) as address:
                yield AtTheDashboard(new_page(address))
        case "API":
            yield AtTheApi(outbox)
        case _:
            yield AtTheCommandLine(outbox_url)


@pytest.mark.long_on("postgresql-dashboard")
def test_a_provider_is_down_and_nothing_is_lost(
    outbox: Outbox,
    provider: Provider,
    clock: FakeClock,  # noqa: F811
    ada: Operator,
) -> None:
    registry = CollectorRegistry()
    registry.register(Backlog(outbox))

    def breakers_open() -> float:
        labels = {"channel": "webhook", "kind": "breaker", "scope": "target"}
        return registry.get_sample_value("outbox_gates_closed", labels) or 0.0

    ids = enqueue_many(outbox, 4, channel="webhook", target=provider.url)
    assert (breakers_open(), ada.closed()) == (0.0, set())

    outbox.drain()
    assert breakers_open() == 1.0
    assert ada.closed() == {"breaker"}
    while outbox.list(channel="webhook", status="failed_retryable") or outbox.list(channel="webhook", status="queued"):
        clock.advance(HOUR_MS)
        outbox.drain()
    assert ada.dead() == set(ids)

    ada.pause("their data centre is down")
    later = enqueue_many(outbox, 1, channel="webhook", target=provider.url)
    clock.advance(HOUR_MS)
    outbox.drain()
    assert statuses(outbox, later) == ["queued"]
    assert "pause" in ada.closed()

    provider.is_down = False
    ada.resume("they answer again")
    ada.retry_all_dead("mended")
    outbox.drain()
    clock.advance(HOUR_MS)
    outbox.drain()

    assert sorted(provider.accepted) == sorted([*ids, *later])
    assert set(statuses(outbox, [*ids, *later])) == {"delivered"}
    assert (breakers_open(), ada.dead(), ada.closed()) == (0.0, set(), set())
    (replay,) = outbox.store.operations(ids[0])
    assert (replay.actor, replay.reason) == ("ada", "mended")
    resumed, *_, paused = outbox.store.gate_operations(10)  # of all targets, or of the channel alone
    assert (paused.action, paused.actor, paused.reason) == ("pause", "ada", "their data centre is down")
    assert (resumed.action, resumed.actor) == ("resume", "ada")
    assert (resumed.reason or "").endswith("they answer again")
