"""The application under test: one Celery app with an outbox, built alike in the tests and in the worker processes.

What a send does is written in the message's payload, so that a test scripts the behaviour of processes that it did not start:
``wait_for`` (a path: wait until it exists), ``die`` (how the process ends), ``misdeed`` (see :mod:`.misdeeds`), ``raises``
(``retry``, ``permanent``, ``unknown``), each on the attempts listed under ``on`` (default: the first).
"""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from celery import Celery
from celery.concurrency.asynpool import AsynPool

from outbox import Attempt, Channel, Message, Outbox, OutcomeUnknown, PermanentFailure, RetryLater, leases
from outbox.integrations.celery import Installation, install
from outbox.policy import retry
from outbox.policy.retry import Backoff
from outbox.store import claiming, sqlite
from tests.integration.celery.ledger import Ledger
from tests.integration.celery.misdeeds import MISDEEDS

ENVIRONMENT = "OUTBOX_TEST_SETTINGS"

DEATHS: dict[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "exit 0": lambda: os._exit(0),
    "exit 3": lambda: os._exit(3),
}
REFUSALS = {"retry": RetryLater, "permanent": PermanentFailure, "unknown": OutcomeUnknown}


@dataclass(frozen=True)
class Settings:
    """Everything that a process needs to know to be part of the stack."""

    database: str
    broker: str
    ledger: str
    tick_s: float = 0.2
    budget_s: float = 60.0
    horizon_ms: int | None = None
    lease_margin_s: float | None = None
    busy_timeout_ms: int | None = None
    deaf: bool = False
    """Whether the worker does not hear its pool's processes end, as happens when it comes a moment too early."""
    plans: str = ""
    """A directory of plans that workers obey, see :mod:`tests.crash.arming`."""
    conf: dict[str, Any] = field(default_factory=dict)

    def to_environment(self) -> dict[str, str]:
        return {ENVIRONMENT: json.dumps(asdict(self))}

    @staticmethod
    def from_environment() -> "Settings":
        return Settings(**json.loads(os.environ[ENVIRONMENT]))


class Scripted(Channel):
    """Records each arrival, then does as the payload says."""

    target_required = False
    backoff = Backoff((0.1,), jitter=0)

    def __init__(self, name: str, ledger: Ledger, **policy: Any) -> None:
        super().__init__(name, **policy)
        self._ledger = ledger

    def send_final(self, message: Message, attempt: Attempt) -> None:
        script = message.payload if isinstance(message.payload, dict) else {}
        self._ledger.record(message, attempt)
        if attempt.number not in script.get("on", [1]):
            return
        if "wait_for" in script:
            _wait_for(Path(script["wait_for"]))
        if "die" in script:
            DEATHS[script["die"]]()
        if "misdeed" in script:
            MISDEEDS[script["misdeed"]]()
        if "raises" in script:
            raise REFUSALS[script["raises"]]("as the payload asked")
        self._ledger.record(message, attempt, event="returned")


class ScriptedAsync(Scripted):
    """The same on the event loop."""

    async def send_final(self, message: Message, attempt: Attempt) -> None:  # type: ignore[override]
        super().send_final(message, attempt)


@dataclass(frozen=True)
class Application:
    """The app, its outbox, and what ``install`` made of the two."""

    app: Celery
    outbox: Outbox
    installation: Installation


def shorter_clocks(settings: Settings) -> list[tuple[ModuleType, str, float]]:
    """The constants that ``settings`` shorten. A process of its own sets them for good; a test must set them back."""
    constants: list[tuple[ModuleType, str, float]] = []
    if settings.horizon_ms is not None:
        constants.append((claiming, "SHORTEST_HORIZON_MS", settings.horizon_ms))
    if settings.lease_margin_s is not None:
        constants.append((leases, "LEASE_MARGIN_S", settings.lease_margin_s))
        constants.append((retry, "SHORTEST_RESCUE_DELAY_MS", 0))
    if settings.busy_timeout_ms is not None:
        constants.append((sqlite, "BUSY_TIMEOUT_MS", settings.busy_timeout_ms))
    return constants


def become_deaf() -> None:
    """Whoever wants to know of a pool process's end in this worker has to look."""
    AsynPool._event_process_exit = lambda pool, hub, proc: pool._untrack_child_process(proc, hub)
    AsynPool.timers = {}  # nor does Celery look every five seconds


def create(settings: Settings, **install_options: Any) -> Application:
    """Build the application; nothing is connected yet."""
    app = Celery("outbox-under-test", broker=settings.broker, set_as_current=False)
    app.conf.update(
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=True,
        broker_transport_options={} if settings.broker.startswith("amqp") else {"visibility_timeout": 3600},
        **settings.conf,
    )
    outbox = Outbox(settings.database, channels=_channels(Ledger(Path(settings.ledger))))
    options = {"relay_interval_s": settings.tick_s, "maintain_interval_s": settings.tick_s, **install_options}
    return Application(app, outbox, install(app, outbox, delivery_budget_s=settings.budget_s, **options))


def _channels(ledger: Ledger) -> list[Channel]:
    return [
        Scripted("bulk", ledger, concurrency=50),
        Scripted("single", ledger, batch_size=1),
        Scripted("patient", ledger, concurrency=2, timeout=600),
        Scripted("stubborn", ledger, concurrency=2, timeout=600, steps_aside=False),
        Scripted("brief", ledger, timeout=1),
        Scripted("ordered", ledger, concurrency=4, ordered=True),
        ScriptedAsync("loop", ledger, concurrency=50),
        Scripted("wild", ledger, timeout=1, batch_size=1, target_breaker=None, steps_aside=False),
        ScriptedAsync("wild-loop", ledger, timeout=1, batch_size=1, target_breaker=None, steps_aside=False),
    ]


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)
