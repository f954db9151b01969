"""W: signed, guarded, fenced and settled webhooks, against a bare loop of the same HTTP client with the same bodies."""

import asyncio
import time
import urllib.request
import uuid
from collections.abc import Iterator

import aiohttp

from benchmarks.lab import Lab
from benchmarks.measuring import Figures, Target, in_turns
from outbox import NewMessage, Outbox
from outbox.channels.registry import build
from tests.servers.kept import free_port

AT_ONCE = 32
PAYLOAD = {"type": "order.shipped", "data": {"order": 4711, "note": "x" * 220}}
BODY = b'{"type":"order.shipped","data":{"order":4711,"note":"' + b"x" * 220 + b'"}}'
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def against_the_bare_client(lab: Lab) -> Iterator[Figures]:
    """W: from the first relay look to the last settled row, in one process, inline; the receiver has a core of its own."""
    count = lab.sized(3_000, 1_000)
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with lab.processes([["benchmarks.applications.receiver", str(port)]], {}):
        lab.wait(lambda: _answers(url), "the receiver", every_s=0.05)
        outbox = _outbox(lab)
        contenders = {"ours": lambda: _ours(outbox, url, count), "theirs": lambda: _bare(url, count)}
        for contender in contenders.values():
            contender()
        rates = in_turns(lab.rounds, contenders, lab.told)
        outbox.close()
    what = f"{count:,} signed webhooks on SQLite, {AT_ONCE} at a time, against bare aiohttp"
    yield Figures("W", what, "/s", rates["ours"], rates["theirs"], Target(at_least=0.6))


def _outbox(lab: Lab) -> Outbox:
    options = {"secrets": [SECRET], "allow_networks": ["127.0.0.0/8"], "allow_http": True, "concurrency": AT_ONCE}
    outbox = Outbox(lab.database("sqlite"), channels=[build("webhook", {**options, "max_in_flight": 100_000})])
    outbox.upgrade_schema()
    return outbox


def _ours(outbox: Outbox, url: str, count: int) -> float:
    before = _received(url)
    with outbox.store.transaction() as tx:
        outbox.enqueue_many(tx.connection, [NewMessage(channel="webhook", target=url, payload=PAYLOAD)] * count)
    started = time.perf_counter()
    outbox.drain()
    took = time.perf_counter() - started
    assert _received(url) - before == count
    return count / took


def _bare(url: str, count: int) -> float:
    return asyncio.run(_post_all(url, count))


async def _post_all(url: str, count: int) -> float:
    numbers = iter(range(count))

    async def worker(session: aiohttp.ClientSession) -> None:
        for _ in numbers:
            headers = {"content-type": "application/json", "webhook-id": str(uuid.uuid4())}
            async with session.post(url, data=BODY, headers=headers) as response:
                await response.read()
                assert response.status == 204

    async with aiohttp.ClientSession() as session:
        started = time.perf_counter()
        await asyncio.gather(*(worker(session) for _ in range(AT_ONCE)))
        return count / (time.perf_counter() - started)


def _received(url: str) -> int:
    with urllib.request.urlopen(url) as answer:
        return int(answer.read())


def _answers(url: str) -> bool:
    try:
        return _received(url) >= 0
    except OSError:
        return False
