"""Receivers that do their worst for ever: each of their messages ends with its reason, and a healthy one notices nothing."""

import asyncio
from contextlib import AsyncExitStack

from outbox import NewMessage, Outbox
from outbox.channels.webhook import Webhook
from outbox.testing import FakeClock
from tests.integration.loops.scene import enqueue
from tests.integration.webhook.conftest import LOOPBACK, SECRET
from tests.receiver import Behaviour, answer, drip, hang, pour, raw, receiving, then_close, then_reset

ATTEMPTS = 2
TIMEOUT_S = 3.0
HOSTILE: dict[str, tuple[Behaviour, int, str]] = {
    "hangs": (hang, ATTEMPTS, "no answer within"),
    "drips": (drip(b"HTTP/1.1 200 OK\r\nX: ", every_s=0.05), ATTEMPTS, "no answer within"),
    "resets": (then_reset(), ATTEMPTS, "before an answer"),
    "closes": (then_close(), ATTEMPTS, "before an answer"),
    "refuses for ever": (answer(429, headers={"Retry-After": "1"}), ATTEMPTS, "HTTP 429"),
    "wants to be waited for": (answer(503, headers={"Retry-After": "31556952000"}), ATTEMPTS, "HTTP 503"),
    "sends a library": (pour(b"HTTP/1.1 500 Said\r\nContent-Length: 50000000\r\n\r\n", 50_000_000), ATTEMPTS, "HTTP 500"),
    "speaks no HTTP": (raw(b"220 mail.example ESMTP\r\n\r\n"), ATTEMPTS, ""),
    "leads inside": (answer(307, headers={"Location": "http://169.254.169.254/latest/meta-data/"}), 1, "a redirect to"),
}
"""How each meets a request, how often it is tried, and what the reason says."""


async def test_receivers_that_do_their_worst_for_ever_get_their_attempts_and_a_healthy_one_each_message_at_once(
    sqlite_outbox_url: str, clock: FakeClock
) -> None:
    outbox = Outbox(sqlite_outbox_url, clock=clock)
    policy = {"timeout": TIMEOUT_S, "max_attempts": ATTEMPTS, "ttl": None, "concurrency": 32}
    outbox.register(Webhook(secret=SECRET, **LOOPBACK, **policy))
    async with AsyncExitStack() as stack:
        receivers = {name: await stack.enter_async_context(receiving()) for name in (*HOSTILE, "healthy")}
        for name, (behaviour, _, _) in HOSTILE.items():
            receivers[name].behaviour = behaviour
        ids = {
            name: enqueue(
                outbox, *[NewMessage(channel="webhook", target=receiver.url, payload=name)] * (1 if name in HOSTILE else 5)
            )
            for name, receiver in receivers.items()
        }

        await asyncio.to_thread(outbox.relay_once)
        at_once = {outbox.get(message_id).status for message_id in ids["healthy"]}
        await asyncio.to_thread(live, outbox, clock)
        await asyncio.to_thread(outbox.close)

        assert at_once == {"delivered"}
        for name, (_, attempts, reason) in HOSTILE.items():
            message = outbox.get(ids[name][0])
            assert (message.status, message.attempt_count) == ("failed_terminal", attempts), name
            assert reason in str(message.last_error), name
            assert len(receivers[name].requests) == attempts, name


def live(outbox: Outbox, clock: FakeClock) -> None:
    for _ in range(ATTEMPTS):
        clock.advance(hours=25)
        outbox.relay_once()
