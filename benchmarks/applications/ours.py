"""An application with an outbox; its channel does one INCR a message, and another one is sick."""

import asyncio
import os
import time

from celery import Celery

from benchmarks.applications.settings import (
    BATCH_SIZE,
    CELERY,
    CONCURRENCY,
    DATABASE,
    NAP_S,
    ORDERED,
    STARTS,
    broker,
    client,
    count_one,
)
from outbox import Attempt, Channel, Message, Outbox, PermanentFailure, RetryLater
from outbox.channels.registry import build
from outbox.integrations.celery import Installation, install

CHANNEL = "count"
GUARDED = "guarded"
"""The same with the breaker that every channel has by default, which leaves out a destination that is down."""
TIMED = "timed"
WEBHOOK = "webhook"
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT_ONCE = 32
"""Webhooks."""
SICK = "sick"
SICK_CAPPED = "sick-capped"
SICK_CHANNELS = (SICK, SICK_CAPPED)
BROKEN = "broken"
"""A target of the channels that count: who sends there fails."""
REFUSED = "refused"
"""A payload: it fails for good, wherever it goes."""


class Counting(Channel):
    """Sends by counting, after a nap where one is wanted."""

    name = CHANNEL
    target_required = False
    target_breaker = None

    def send_final(self, message: Message, attempt: Attempt) -> None:
        if nap_s := float(os.environ.get(NAP_S, "0")):
            time.sleep(nap_s)
        _fail_if_asked(message)
        count_one()


class Timed(Channel):
    """Notes when the send began."""

    name = TIMED
    target_required = False

    def send_final(self, message: Message, attempt: Attempt) -> None:
        _fail_if_asked(message)
        client().rpush(STARTS, f"{message.id} {time.time()}")


class Sick(Channel):
    """Its other side takes connections and never answers."""

    target_required = False
    timeout = 10.0
    concurrency = 32

    async def send_final(self, message: Message, attempt: Attempt) -> None:
        await asyncio.Event().wait()


def _fail_if_asked(message: Message) -> None:
    if message.target == BROKEN:
        raise RetryLater("503 of a destination that is down")
    if message.payload == REFUSED:
        raise PermanentFailure("422")


def create(database: str, broker_url: str) -> tuple[Celery, Outbox, Installation]:
    """The application, as a worker and as the process that enqueues have it."""
    app = Celery("bench", broker=broker_url, set_as_current=False)
    app.conf.update(CELERY)
    batch_size = int(os.environ.get(BATCH_SIZE, "100"))
    ordered = bool(os.environ.get(ORDERED))
    concurrency = min(batch_size, int(os.environ.get(CONCURRENCY, "50")))
    counting = Counting(batch_size=batch_size, ordered=ordered, concurrency=concurrency)
    guarded = Counting(GUARDED, concurrency=concurrency, target_breaker=Channel.target_breaker)
    signed = build(
        WEBHOOK, {"secrets": [SECRET], "allow_networks": ["127.0.0.0/8"], "allow_http": True, "concurrency": AT_ONCE}
    )
    sick = [Sick(SICK), Sick(SICK_CAPPED, max_in_flight=100)]
    outbox = Outbox(database, channels=[counting, guarded, Timed(), signed, *sick])
    return app, outbox, install(app, outbox)


if DATABASE in os.environ:
    app, outbox, installation = create(os.environ[DATABASE], broker())
