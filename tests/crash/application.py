"""The application whose processes are killed: built alike in the test, in the workers, and in the hand that acts for it."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from sqlalchemy import text

from outbox import (
    Attempt,
    Backoff,
    Channel,
    Message,
    NotReady,
    Outbox,
    PermanentFailure,
    Receipt,
    RetryLater,
    checkpoints,
    leases,
)
from outbox.channels import base
from outbox.channels.webhook import Webhook
from outbox.integrations.celery import install
from outbox.policy import retry
from outbox.policy.destination import Breaker
from outbox.policy.retention import Retention
from outbox.policy.retry import OnUnknown
from outbox.store import claiming, gating
from tests.crash import naive
from tests.crash.arming import Plans

ENVIRONMENT = "OUTBOX_CRASH_SETTINGS"
TICK_S = 0.25
TIMEOUT_S = 1.5
MARGIN_S = 1.0
HORIZON_MS = 1_500

CLOCKS: list[tuple[ModuleType, str, float]] = [
    (claiming, "SHORTEST_HORIZON_MS", HORIZON_MS),
    (claiming, "LONGEST_HORIZON_MS", 10 * HORIZON_MS),
    (leases, "LEASE_MARGIN_S", MARGIN_S),
    (leases, "LONGEST_UNEXTENDED_LEASE_S", TIMEOUT_S + MARGIN_S),
    (retry, "SHORTEST_RESCUE_DELAY_MS", 0),
    (retry, "SHORTEST_DEFERRAL_MS", 300),
    (gating, "SHORTEST_CLOSURE_MS", 300),
    (base, "PERMIT_MARGIN_MS", 1_000),
]
"""What the workers shorten, so that what comes back by time comes back while a test waits."""


@dataclass(frozen=True)
class Settings:
    """Everything that a process needs to know to take part."""

    database: str
    broker: str
    receiver: str
    plans: str
    without_fences: str = ""
    """Which of the stores of :mod:`tests.crash.naive` to work on, if any."""
    role: str = ""
    clock: str = ""
    """A file that says by how many milliseconds the host's clock is wrong; without one it is right."""

    def to_environment(self) -> dict[str, str]:
        return {ENVIRONMENT: json.dumps(asdict(self))}

    @staticmethod
    def from_environment() -> "Settings":
        return Settings(**json.loads(os.environ[ENVIRONMENT]))


class WrongClock:
    """The host's clock, as wrong as a file says at the moment."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now_ms(self) -> int:
        return round(time.time() * 1000) + int(self._file.read_text())


class Plain(Channel):
    """One request over a connection of its own, with a checkpoint of the test's between the request and its answer."""

    target_required = False
    timeout = TIMEOUT_S
    backoff = Backoff((0.1,), jitter=0)
    target_breaker = None
    steps_aside = False

    def __init__(self, name: str, receiver: str, **policy: Any) -> None:
        super().__init__(name, **policy)
        self._address = urlsplit(receiver).netloc

    def send_final(self, message: Message, attempt: Attempt) -> Receipt:
        headers = {"idempotency-key": attempt.idempotency_key, "attempt": str(attempt.number), "lease": str(attempt.lease)}
        status, said = self._ask("POST", "/", attempt.timeout_s, json.dumps(message.payload), headers)
        if status == 503:
            raise RetryLater(said["verdict"])
        if status == 423:
            raise NotReady(said["verdict"])
        if status != 200:
            raise PermanentFailure(said["verdict"])
        return Receipt(str(said["id"]))

    def find_delivery(self, message: Message) -> Receipt | bool:
        _, said = self._ask("GET", f"/?key={message.key}", self.timeout)
        return Receipt(str(said["id"])) if said["id"] is not None else False

    def _ask(self, method: str, path: str, timeout_s: float, body: str = "", headers: dict[str, str] | None = None) -> Any:
        connection = HTTPConnection(self._address, timeout=timeout_s)
        try:
            connection.request(method, path, body, headers or {})
            checkpoints.reach("request", "sent")
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


class Entry(Channel):
    """Its whole effect is a row in the application's own database."""

    target_required = False
    transactional = True
    timeout = TIMEOUT_S
    backoff = Backoff((0.1,), jitter=0)

    def send_final(self, message: Message, attempt: Attempt) -> None:
        attempt.session.execute(text("insert into effects values (:id)"), {"id": message.id})


def channels(receiver: str) -> Iterator[Channel]:
    """All of them with one send at a time in its process, so that a death cuts off no other; except the crowd, and the
    sluggish, which step aside.
    """
    brief: dict[str, Any] = {
        "target_required": False, "timeout": TIMEOUT_S, "backoff": Backoff((0.1,), jitter=0), "steps_aside": False,
    }  # fmt: skip
    reach = {"url": receiver, "allow_networks": ["127.0.0.0/8"], "allow_http": True, "target_breaker": None}
    yield Plain("plain", receiver)
    yield Webhook("webhook", **reach, **brief, concurrency=1)
    yield Webhook("crowd", **reach, **brief, concurrency=8)
    yield Plain("ordered", receiver, ordered=True)
    yield Plain("single", receiver, batch_size=1)
    yield Plain("capped", receiver, batch_size=1, max_in_flight=2)
    yield Plain("sluggish", receiver, batch_size=1, steps_aside=True)
    yield Plain("parking", receiver, on_unknown=OnUnknown.PARK)
    yield Plain("asking", receiver, on_unknown=OnUnknown.RECONCILE)
    yield Plain("slow", receiver, timeout=8.0)
    yield Plain("fleeting", receiver, retention=Retention(delivered_ms=300, failed_ms=300))
    yield Plain("blanking", receiver, retention=Retention(blank_after_ms=100))
    yield Plain("broken", receiver, target_breaker=Breaker(failures=2, open_s=0.5))
    yield Plain("unready", receiver)
    yield Plain("closed", receiver)
    yield Entry("entry")


def create(settings: Settings) -> tuple[Celery, Outbox]:
    """The Celery application and its outbox; nothing is connected yet."""
    app = Celery("outbox-under-fire", broker=settings.broker, set_as_current=False)
    app.conf.update(
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=True,
        broker_transport_options={"visibility_timeout": 3600},
    )
    clock = WrongClock(Path(settings.clock)) if settings.clock else None
    outbox = Outbox(settings.database, channels=channels(settings.receiver), clock=clock)
    if settings.without_fences:
        naive.disarm(outbox, settings.without_fences)
    install(app, outbox, relay_interval_s=TICK_S, maintain_interval_s=TICK_S)
    return app, outbox


def create_under_fire() -> Celery:
    """The application of a worker: with shorter clocks, and obeying the plans."""
    for module, name, value in CLOCKS:
        setattr(module, name, value)
    settings = Settings.from_environment()
    app, outbox = create(settings)
    Plans(Path(settings.plans), settings.role, outbox.owner).obey()
    return app
