"""Takes the pictures of the dashboard, of an hour of a shop that never was: run it after a change of its looks.

``python -m docs.screenshots [DIRECTORY]`` needs Chromium (``apt-get install chromium``).
"""

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from outbox import Attempt, Backoff, Message, Outbox, OutcomeUnknown, PermanentFailure, Receipt, RetryLater
from outbox.batching import Batch
from outbox.message import NewMessage
from outbox.policy.retry import OnUnknown
from outbox.relay import Relay
from outbox.testing import FakeClock
from outbox.web import Open, Role, create_app
from tests.e2e import browser as browsing

IMAGES = Path(__file__).parent / "images"
DESKTOP, PHONE = {"width": 1180, "height": 800}, {"width": 390, "height": 844}
HOUR_MS, MINUTE_MS = 3_600_000, 60_000
FAILURES = {
    "webhook": PermanentFailure("HTTP 410 Gone"),
    "email": PermanentFailure("550 5.1.1 no such mailbox"),
    "telegram": PermanentFailure("HTTP 403 Forbidden: bot was blocked by the user"),
}

TARGETS = {
    "webhook": [f"https://receiver.example/hooks/{number}" for number in range(1, 6)],
    "email": ["ann@example.com", "bob@example.org"],
    "telegram": ["-1001234567890"],
}


class Shop:
    """An outbox, and the time and chance by which its other sides answer."""

    def __init__(self, url: str) -> None:
        self.clock = FakeClock(time.time_ns() // 1_000_000 - HOUR_MS)
        self.chance = random.Random(7)
        self.customer_is_known = False
        self.outbox = Outbox(url, clock=self.clock)
        self.outbox.upgrade_schema()
        for name in FAILURES:
            self.outbox.channel(name, on_unknown=OnUnknown.PARK, max_in_flight=40, backoff=Backoff((1.0, 4.0)))(self._send)
        self.outbox.channel("crm", max_in_flight=20, backoff=Backoff((5.0, 25.0)))(self._tell_the_crm)

    def live(self) -> str:
        """An hour, minute by minute; returns the id of the message that was helped."""
        helped = self._enqueue([_crm_order()])[0]
        for minute in range(60):
            self._enqueue([self._any() for _ in range(self.chance.randrange(2, 6 + minute // 3))])
            self._deliver()
            if minute == 50:
                self.customer_is_known = True
                self.outbox.retry(helped, actor="grace", reason="the customer is known to them now")
                self._deliver()
            if minute == 58:
                self.outbox.pause("email", for_s=3600, actor="ada", reason="their maintenance window")
                self.outbox.pause("webhook", target=TARGETS["webhook"][2], actor="grace", reason="complains about duplicates")
            self.clock.advance(milliseconds=MINUTE_MS - (self.clock.now + HOUR_MS) % MINUTE_MS)
        self._enqueue([self._any() for _ in range(30)])
        Relay(self.outbox.store, self.outbox.channels, _OnTheirWay(), self.outbox.telemetry).run_once()
        self._enqueue([self._any() for _ in range(20)])
        self.clock.advance(seconds=12)
        self.outbox.maintain_once()
        return helped

    def _any(self) -> NewMessage:
        channel = self.chance.choice(["webhook", "webhook", "email", "telegram"])
        target = self.chance.choice(TARGETS[channel])
        return NewMessage(channel=channel, target=target, payload={"order": self.chance.randrange(4000, 5000)})

    def _enqueue(self, messages: Sequence[NewMessage]) -> list[str]:
        with self.outbox.store.transaction() as transaction:
            return [queued.id for queued in self.outbox.enqueue_many(transaction.connection, messages)]

    def _deliver(self) -> None:
        for _again in range(3):
            self.clock.advance(milliseconds=self.chance.randrange(100, 2_500))
            self.outbox.drain()
        self.outbox.maintain_once()

    def _send(self, message: Message, attempt: Attempt) -> None:
        self.clock.advance(milliseconds=self.chance.randrange(20, 160))
        chance = self.chance.random()
        if chance < 0.04:
            raise FAILURES[message.channel]
        if chance < 0.05:
            raise OutcomeUnknown("no answer within 30 s")
        if chance < 0.10:
            raise RetryLater("HTTP 503 Service Unavailable: no healthy upstream")

    def _tell_the_crm(self, message: Message, attempt: Attempt) -> Receipt:
        self.clock.advance(milliseconds=180 + 40 * attempt.number)
        if self.customer_is_known:
            return Receipt("crm-88213", {"accepted": True})
        if attempt.number < 3:
            raise RetryLater("HTTP 503 Service Unavailable: no healthy upstream")
        raise PermanentFailure("HTTP 422 Unprocessable Content: customer 4711 is unknown")


class _OnTheirWay:
    """A broker whose workers have not come to it yet."""

    def dispatch(self, batches: Sequence[Batch]) -> None:
        """Keep them."""


def _crm_order() -> NewMessage:
    return NewMessage(
        channel="crm", target="https://crm.example/api/orders", payload={"order": 4711, "customer": "4711"},
        idempotency_key="order-4711", turn_id="turn-9",
    )  # fmt: skip


def main(into: Path) -> None:
    """Take them."""
    path = browsing.executable()
    if path is None:
        raise SystemExit(browsing.MISSING)
    with tempfile.TemporaryDirectory() as directory:
        shop = Shop(f"sqlite:///{directory}/outbox.db")
        helped = shop.live()
        pictures: dict[str, tuple[str, dict[str, Any]]] = {
            "overview": ("/", {"viewport": DESKTOP}),
            "message": (f"/messages/{helped}", {"viewport": DESKTOP, "color_scheme": "dark"}),
            "messages": ("/messages?status=failed_terminal", {"viewport": DESKTOP}),
            "phone": ("/", {"viewport": PHONE, "color_scheme": "dark"}),
        }
        dashboard = create_app(shop.outbox, auth=Open("ada", Role.ADMIN))
        with closing(shop.outbox), browsing.served(dashboard) as address, browsing.chromium(path) as browser:
            for name, (page_path, options) in pictures.items():
                page = browser.new_context(**options).new_page()
                page.goto(address + page_path)
                page.screenshot(path=into / f"dashboard-{name}.png")


if __name__ == "__main__":
    main(Path(*sys.argv[1:]) if sys.argv[1:] else IMAGES)
