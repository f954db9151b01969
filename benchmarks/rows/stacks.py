"""A running application of either kind, and how much of its work is done."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from celery import Celery
from redis import Redis
from sqlalchemy import select

from benchmarks.applications import bare, ours
from benchmarks.applications.settings import BROKER, COUNTER, DATABASE
from benchmarks.lab import Lab
from outbox import NewMessage, Outbox
from outbox.integrations.celery import Installation
from outbox.lifecycle import Status

WORKER = ("worker", "-P", "prefork", "-c", "2", "-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat")
LOAD_AT_ONCE = 5_000


@dataclass(frozen=True)
class Ours:
    """Worker and beat run; this process enqueues."""

    lab: Lab
    outbox: Outbox
    installation: Installation
    broker: str
    redis: "Redis"

    def load(self, count: int, channel: str = ours.CHANNEL) -> None:
        """Commit messages that nobody touches before :meth:`go`."""
        self.load_mixed([NewMessage(channel=channel)] * count, channel)

    def load_mixed(self, messages: Sequence[NewMessage], channel: str = ours.CHANNEL) -> None:
        """The same with any messages; those of other channels are not held."""
        self.outbox.pause(channel, reason="being loaded")
        for start in range(0, len(messages), LOAD_AT_ONCE):
            with self.outbox.store.transaction() as tx:
                self.outbox.enqueue_many(tx.connection, messages[start : start + LOAD_AT_ONCE])
        self.redis.delete(COUNTER)

    def go(self, channel: str = ours.CHANNEL) -> None:
        """Let the relay see what was loaded, now."""
        self.outbox.resume(channel)
        self.installation.nudge()

    def await_done(self, count: int) -> None:
        """Wait until ``count`` were sent and every row is settled."""
        self.lab.wait(lambda: int(self.redis.get(COUNTER) or 0) >= count, f"{count} sends")
        self.lab.wait(lambda: not self.unsettled(), "all rows to be settled")

    def unsettled(self) -> bool:
        """Whether any row is not terminal yet."""
        m = self.outbox.store.tables.messages
        active = [Status.QUEUED, Status.DISPATCHED, Status.SENDING, Status.FAILED_RETRYABLE]
        with self.outbox.store.transaction(read_only=True) as tx:
            return any(tx.connection.execute(select(m.c.id).where(m.c.status == s).limit(1)).first() for s in active)


@dataclass(frozen=True)
class Bare:
    """A worker runs; this process publishes."""

    app: Celery
    redis: "Redis"


@contextmanager
def running_ours(lab: Lab, kind: str, *, workers: int = 1, options: Mapping[str, str] | None = None) -> Iterator[Ours]:
    """The application with an outbox on a new database of ``kind``."""
    database, broker = lab.database(kind), lab.broker()
    environment = {DATABASE: database, BROKER: broker, **(options or {})}
    app, outbox, installation = ours.create(database, broker)
    outbox.upgrade_schema()
    celery = ["celery", "-A", "benchmarks.applications.ours"]
    commands = [[*celery, *WORKER, "-n", f"ours-{number}@bench"] for number in range(workers)]
    beat = [*celery, "beat", "-l", "ERROR", "-s", str(lab.directory / f"beat-{id(outbox)}")]
    with lab.processes([*commands, beat], environment):
        await_workers(lab, app, workers)
        yield Ours(lab, outbox, installation, broker, lab.client(broker))
    outbox.close()


@contextmanager
def running_bare(lab: Lab) -> Iterator[Bare]:
    """The application without one."""
    broker = lab.broker()
    app = bare.create(broker)
    command = ["celery", "-A", "benchmarks.applications.bare", *WORKER, "-n", "bare@bench"]
    with lab.processes([command], {BROKER: broker}):
        await_workers(lab, app, 1)
        yield Bare(app, lab.client(broker))


@contextmanager
def running_idle_celery(lab: Lab) -> Iterator[None]:
    """A worker and a beat that ticks as often as ours, with tasks that do nothing."""
    celery = ["celery", "-A", "benchmarks.applications.bare"]
    beat = [*celery, "beat", "-l", "ERROR", "-s", str(lab.directory / "beat-bare")]
    broker = lab.broker()
    with lab.processes([[*celery, *WORKER, "-n", "bare@bench"], beat], {BROKER: broker, bare.TICKING: "1"}):
        await_workers(lab, bare.create(broker), 1)
        yield


def await_workers(lab: Lab, app: Celery, count: int) -> None:
    """Until so many of the application's workers answer."""
    lab.wait(lambda: len(app.control.ping(timeout=1.0) or ()) >= count, f"{count} workers", every_s=0.1)
