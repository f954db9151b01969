"""``install(app, outbox)``: tasks, queues, beat schedule, nudge and worker signals for an existing Celery application."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

from celery import Celery

from outbox import checkpoints
from outbox.batching import Batch
from outbox.channels.base import Channel
from outbox.errors import ConfigurationError
from outbox.integrations.celery import envelope
from outbox.integrations.celery.channel import CeleryTasks
from outbox.integrations.celery.dispatching import CeleryDispatcher
from outbox.integrations.celery.freed import Freed
from outbox.integrations.celery.installations import remember
from outbox.integrations.celery.lifetime import Lifetime
from outbox.integrations.celery.names import MAINTAIN_TASK, RELAY_QUEUE, RELAY_TASK, channel_queue, deliver_task
from outbox.integrations.celery.nudge import Nudge
from outbox.integrations.celery.registering import declare, register
from outbox.integrations.celery.undertaker import ASIDE, request_class
from outbox.outbox import Outbox
from outbox.relay import Relay, worth_a_claim
from outbox.slots import Slot
from outbox.tasks.calls import CHANNEL

_log = logging.getLogger("outbox.celery")

_SETTLE_GRACE_S = 60.0
"""After the budget and the last send, time to record the outcomes, before the hard limit ends the process: as long as all tries
to record them take on a database that is locked."""
_STUCK_AFTER_S = 60.0
"""A pass that is so late hangs on its database."""
_SHORTEST_LIFE_S = 10.0
"""A wake-up expires by the clock of the host that consumes it, which may differ by seconds from that of beat's host."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What ``install`` set up, for tests and for tools that publish by hand."""

    relay: Relay
    nudge: Nudge
    lifetime: Lifetime


def install(
    app: Celery,
    outbox: Outbox,
    *,
    relay_interval_s: float = 1.0,
    maintain_interval_s: float = 5.0,
    delivery_budget_s: float = 60.0,
    schedule: bool = True,
    declare_queues: bool = True,
    durable_tasks: bool = True,
) -> Installation:
    """Register ``outbox.relay``, ``outbox.maintain`` and ``outbox.deliver.<channel>`` with a Celery application.

    Channels registered later get their task too. The application's own queues, routes, serializer and schedule stay.

    :param relay_interval_s: seconds between beat's relay ticks; the floor below which a lost nudge cannot push latency.
    :param maintain_interval_s: seconds between maintenance passes.
    :param delivery_budget_s: seconds a delivery task may spend before it releases what it has not begun.
    :param schedule: add the two periodic tasks to ``beat_schedule``.
    :param declare_queues: add the outbox's queues to ``task_queues``, so that a worker without ``-Q`` serves them.
    :param durable_tasks: publish the application's own tasks, for :meth:`outbox.Outbox.send_task`: through the channel
        ``celery``, which is registered unless there is one.
    :raises outbox.errors.ConfigurationError: an interval or the budget is not above 0, the application has an outbox already,
        or its workers would not accept JSON.
    """
    _require_seconds(
        relay_interval_s=relay_interval_s, maintain_interval_s=maintain_interval_s, delivery_budget_s=delivery_budget_s
    )
    _require_room(app, outbox)
    nudge = Nudge(app, outbox.telemetry, expires_s=_SHORTEST_LIFE_S)
    relay = Relay(outbox.store, outbox.channels, CeleryDispatcher(app), outbox.telemetry, outbox.owner)
    lifetime = Lifetime(app, outbox)
    request = request_class(lifetime.undertaker)
    _register_periodic(app, outbox, relay, lifetime, request, relay_interval_s, maintain_interval_s)
    if schedule:
        _schedule(app, relay_interval_s, maintain_interval_s)
    if declare_queues:
        declare(app, RELAY_QUEUE)
    installed = Installation(relay, nudge, lifetime)

    def add(channel: Channel) -> None:
        if durable_tasks and isinstance(channel, CeleryTasks):
            channel.bind(app)
        _register_delivery(app, outbox, installed, channel, request, delivery_budget_s)
        if declare_queues:
            declare(app, channel_queue(channel.name))

    outbox.channels.subscribe(add)
    if durable_tasks and CHANNEL not in outbox.channels:
        outbox.channels.register(CeleryTasks(), implied=True)
    outbox.on_commit = nudge
    return installed


def _require_seconds(**durations: object) -> None:
    for name, seconds in durations.items():
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
            raise ConfigurationError(f"{name} must be a number of seconds above 0, not {seconds!r}")


def _require_room(app: Celery, outbox: Outbox) -> None:
    """The names of the tasks leave room for one outbox, and only JSON may carry it."""
    if not {"json", "application/json"} & set(app.conf.accept_content):
        raise ConfigurationError(f"the outbox's tasks are JSON: add 'json' to accept_content, now {app.conf.accept_content}")
    remember(app, outbox)


def _register_periodic(
    app: Celery, outbox: Outbox, relay: Relay, lifetime: Lifetime, request: type, relay_interval_s: float,
    maintain_interval_s: float,
) -> None:  # fmt: skip
    budget_s = max(0.75, 0.75 * relay_interval_s)

    def relay_pass(woken: object = False, **_newer: object) -> dict[str, int]:
        return asdict(relay.run_once(budget_s=budget_s, should_stop=lifetime.stopping, woken=bool(woken)))

    def maintenance_pass(**_newer: object) -> dict[str, int]:
        changed = outbox.maintenance.run_once(budget_s=0.8 * maintain_interval_s, should_stop=lifetime.stopping)
        return {service: rows for service, rows in changed.items() if rows}

    register(app, RELAY_TASK, relay_pass, time_limit_s=budget_s + _STUCK_AFTER_S, Request=request)
    register(app, MAINTAIN_TASK, maintenance_pass, time_limit_s=maintain_interval_s + _STUCK_AFTER_S)


def _register_delivery(
    app: Celery, outbox: Outbox, installed: Installation, channel: Channel, request: type, budget_s: float
) -> None:
    def deliver(
        v: object = None, claims: object = None, more: object = False, watched: object = False, pull: object = False,
        suspect: object = False, **_newer: object,
    ) -> dict[str, Any]:  # fmt: skip
        checkpoints.reach("task", "received")
        try:
            batch = Batch(channel.name, envelope.unpack(v, claims), capped=bool(more), watched=bool(watched))
        except envelope.UnreadableEnvelope as error:
            # The rows stay dispatched; past their horizon a relay of this release publishes them again.
            _log.warning("a message for channel %s was ignored: %s", channel.name, error)
            return {"ignored": str(error)}
        if pull and not batch.claims:
            batch = installed.relay.pull(channel) or batch
            if len(batch.claims) >= channel.batch_size:
                installed.nudge()  # where a whole batch was due, more may be, and other workers can have it
        report = outbox.delivery.run(
            channel, batch, budget_s=budget_s, should_stop=installed.lifetime.stopping,
            slot=None if suspect or batch.is_suspect else slot(),
        )  # fmt: skip
        if report.made_due:
            installed.nudge()
        if report.freed and not app.conf.task_always_eager and freed.is_enough(len(batch.claims)):
            installed.relay.refill(channel)
        aside = {ASIDE: report.aside} if report.aside else {}
        return {**report.statuses, "refused": report.refused, "released": report.released, **aside}

    name = deliver_task(channel.name)
    freed = Freed(worth_a_claim(channel.max_in_flight))

    def slot() -> Slot | None:
        """What the task may give up. Not so one whose message may kill its process again: it must take nobody along."""
        lifetime = installed.lifetime
        if not (channel.steps_aside and lifetime.keeps_processes):
            return None
        return Slot(lambda: lifetime.waiting.anybody_but(name), installed.nudge, beside=lifetime.slots)

    time_limit_s = budget_s + channel.timeout + _SETTLE_GRACE_S
    register(app, name, deliver, time_limit_s=time_limit_s, Request=request)


def _schedule(app: Celery, relay_interval_s: float, maintain_interval_s: float) -> None:
    """A tick that waited for long is dropped: its successors do the same work."""
    ticks = {RELAY_TASK: relay_interval_s, MAINTAIN_TASK: maintain_interval_s}
    app.conf.beat_schedule = {
        **app.conf.beat_schedule,
        **{
            name: {
                "task": name,
                "schedule": every_s,
                "options": {"queue": RELAY_QUEUE, "expires": max(0.9 * every_s, _SHORTEST_LIFE_S)},
            }
            for name, every_s in ticks.items()
        },
    }
