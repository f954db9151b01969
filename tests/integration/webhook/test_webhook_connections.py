"""How a webhook channel uses connections, event loops and processes."""

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from outbox.channels.registry import build
from outbox.channels.webhook import Webhook
from outbox.outcome import Delivered, Unknown
from tests.factories import attempt, message
from tests.integration.webhook.conftest import LOOPBACK, MakeWebhook, outcome
from tests.receiver import Receiver, answer, receiving


async def test_one_connection_serves_messages_that_follow_each_other(receiver: Receiver, webhook: MakeWebhook) -> None:
    receiver.behaviour = answer(200, b'{"ok": true}')
    channel = webhook()
    for _ in range(20):
        assert isinstance(await outcome(channel, message(target=receiver.url)), Delivered)
    assert receiver.connections == 1


async def test_messages_sent_at_once_share_no_connection_and_wait_for_none(receiver: Receiver, webhook: MakeWebhook) -> None:
    everyone_is_here = asyncio.Barrier(150)

    async def answer_when_all_have_come(request, writer) -> None:
        await everyone_is_here.wait()
        await answer()(request, writer)

    receiver.behaviour = answer_when_all_have_come
    channel = webhook()
    outcomes = await asyncio.gather(*(outcome(channel, message(target=receiver.url)) for _ in range(150)))
    assert all(isinstance(result, Delivered) for result in outcomes)
    assert receiver.connections == 150


async def test_a_connection_that_the_server_has_closed_meanwhile_is_not_used_again(
    receiver: Receiver, webhook: MakeWebhook
) -> None:
    closed = asyncio.Event()

    async def answer_and_close(request, writer) -> None:
        await answer()(request, writer)
        writer.close()
        await writer.wait_closed()
        closed.set()

    receiver.first = [answer_and_close]
    channel = webhook()
    await outcome(channel, message(target=receiver.url))
    await closed.wait()
    await asyncio.sleep(0)  # one turn of the loop, in which the client sees the close
    assert isinstance(await outcome(channel, message(target=receiver.url)), Delivered)
    assert receiver.connections == 2


async def test_a_close_that_crosses_the_next_request_leaves_its_outcome_unknown_and_shows_no_url(
    receiver: Receiver, webhook: MakeWebhook
) -> None:
    async def answer_and_close(request, writer) -> None:
        await answer()(request, writer)
        writer.close()

    receiver.first = [answer_and_close]
    channel = webhook()
    sent = message(target=receiver.url + "?token=swordfish")
    await outcome(channel, sent)
    crossed = await outcome(channel, sent)
    assert isinstance(crossed, Unknown)
    assert "swordfish" not in crossed.error


async def test_a_post_is_never_repeated_by_the_client_itself(receiver: Receiver, webhook: MakeWebhook) -> None:
    async def reset(request, writer) -> None:
        writer.transport.abort()

    receiver.first = [answer(), reset]
    channel = webhook()
    await outcome(channel, message(target=receiver.url))
    await outcome(channel, message(target=receiver.url))
    assert len(receiver.requests) == 2


@contextmanager
def receiver_in_a_thread() -> Iterator[Receiver]:
    """A receiver with an event loop of its own, which serves other loops and other processes."""
    ready, done = threading.Event(), asyncio.Event()
    found: list[tuple[Receiver, asyncio.AbstractEventLoop]] = []

    async def serve() -> None:
        async with receiving() as receiver:
            found.append((receiver, asyncio.get_running_loop()))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        ready.wait()
        yield found[0][0]
    finally:
        found[0][1].call_soon_threadsafe(done.set)
        thread.join()


async def send_and_close(channel: Webhook, url: str) -> bool:
    try:
        return isinstance(await outcome(channel, message(target=url)), Delivered)
    finally:
        await channel.aclose()


def test_a_channel_serves_one_event_loop_after_another() -> None:
    channel = Webhook(**LOOPBACK)
    with receiver_in_a_thread() as receiver:
        assert asyncio.run(send_and_close(channel, receiver.url))
        assert asyncio.run(send_and_close(channel, receiver.url))


def test_a_channel_serves_two_event_loops_at_once() -> None:
    channel = Webhook(**LOOPBACK)
    with receiver_in_a_thread() as receiver:
        results: list[bool] = []

        def run() -> None:
            results.append(asyncio.run(send_and_close(channel, receiver.url)))

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 8


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_channel_used_before_a_fork_serves_both_processes_after_it() -> None:
    channel = Webhook(**LOOPBACK)

    def fork_and_send(url: str) -> int:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = 0 if asyncio.run(send_and_close(channel, url)) else 2
            finally:
                os._exit(status)
        return pid

    async def parent(url: str) -> None:
        try:
            assert isinstance(await outcome(channel, message(target=url)), Delivered)
            _, status = await asyncio.to_thread(os.waitpid, fork_and_send(url), 0)
            assert status == 0
            assert isinstance(await outcome(channel, message(target=url)), Delivered)
        finally:
            await channel.aclose()

    with receiver_in_a_thread() as receiver:
        asyncio.run(parent(receiver.url))
    assert [request.connection for request in receiver.requests] == [1, 2, 1], "the parent's connection outlives the child"


async def test_a_closed_channel_can_be_closed_again_and_used_again(receiver: Receiver) -> None:
    channel = Webhook(**LOOPBACK)
    await channel.aclose()
    for _ in range(2):
        assert await send_and_close(channel, receiver.url)
    assert receiver.connections == 2


async def test_secrets_targets_and_payloads_are_neither_logged_nor_shown(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "whsec_c3dvcmRmaXNoc3dvcmRmaXNoc3dvcmRmaXNo"
    channel = build(
        "partners",
        {
            "kind": "webhook",
            **LOOPBACK,
            "secret": secret,
            "headers": {"Authorization": "Bearer swordfish"},
            "destinations": {"acme": {"url": receiver.url + "?token=swordfish", "secrets": [secret]}},
        },
    )
    sent = message(target="acme", payload={"text": "swordfish"})
    receiver.first = [answer(), answer(500)]
    await channel.send_final(sent, attempt(sent))
    with pytest.raises(Exception, match="HTTP 500") as failed:
        await channel.send_final(sent, attempt(sent))
    await channel.aclose()

    shown = caplog.text + repr(channel) + repr(vars(channel)) + str(failed.value) + repr(failed.value)
    for hidden in ("swordfish", secret, "c3dvcmRmaXNo"):
        assert hidden not in shown
