"""What the exceptions of the usual HTTP clients come to, for adapters that let them through."""

import asyncio
import socket
import urllib.request
from collections.abc import AsyncIterator, Callable

import aiohttp
import httpx
import pytest
import requests

from outbox.outcome import Outcome, Rejected, Retry, Unknown
from outbox.policy.classification import classify
from tests.receiver import Behaviour, Receiver, answer, hang, receiving, then_close, then_reset

Post = Callable[[str], None]
"""Posts to the URL with half a second's patience and raises what the client raises."""


def with_requests(url: str) -> None:
    with requests.post(url, data=b"{}", timeout=0.5) as response:
        response.raise_for_status()


def with_httpx(url: str) -> None:
    httpx.post(url, content=b"{}", timeout=0.5, trust_env=False).raise_for_status()


def with_urllib(url: str) -> None:
    urllib.request.urlopen(url, data=b"{}", timeout=0.5).close()


def with_aiohttp(url: str) -> None:
    async def post() -> None:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(0.5)) as session,
            session.post(url, data=b"{}") as response,
        ):
            response.raise_for_status()

    asyncio.run(post())


clients = pytest.mark.parametrize("post", [with_requests, with_httpx, with_urllib, with_aiohttp])


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as listening:
        yield listening


async def outcome(post: Post, url: str) -> Outcome:
    try:
        await asyncio.to_thread(post, url)
    except Exception as error:
        result = classify(error)
        if hasattr(error, "close"):
            error.close()
        return result
    raise AssertionError("nothing was raised")


@clients
async def test_a_refused_connection_is_transient(post: Post) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/"
    assert isinstance(await outcome(post, url), Retry)


@clients
async def test_a_name_that_does_not_resolve_is_transient(post: Post) -> None:
    assert isinstance(await outcome(post, "http://receiver.invalid/"), Retry)


@clients
@pytest.mark.parametrize("behaviour", [hang, then_reset(), then_close()], ids=["silence", "reset", "close"])
async def test_no_answer_after_the_request_is_unknown(post: Post, behaviour: Behaviour, receiver: Receiver) -> None:
    receiver.behaviour = behaviour
    assert isinstance(await outcome(post, receiver.url), Unknown)
    assert receiver.requests


@clients
async def test_an_answer_is_classified_by_its_status(post: Post, receiver: Receiver) -> None:
    receiver.behaviour = answer(404)
    assert isinstance(await outcome(post, receiver.url), Rejected)
    receiver.behaviour = answer(504)
    assert isinstance(await outcome(post, receiver.url), Unknown)


@clients
async def test_the_wish_to_wait_is_heard(post: Post, receiver: Receiver) -> None:
    receiver.behaviour = answer(429, headers={"Retry-After": "30"})
    asked = await outcome(post, receiver.url)
    assert isinstance(asked, Retry)
    assert asked.after_ms == 30_000
