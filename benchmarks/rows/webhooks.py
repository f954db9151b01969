"""W: signed, guarded, fenced and settled webhooks, against a bare loop of the same HTTP client with the same bodies."""

import asyncio
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator

import aiohttp

from benchmarks.applications.ours import AT_ONCE, WEBHOOK
from benchmarks.lab import Lab
from benchmarks.measuring import Figures, Target, in_turns
from benchmarks.rows.stacks import Ours, running_ours
from outbox import NewMessage
from tests.servers.kept import free_port

PAYLOAD = {"type": "order.shipped", "data": {"order": 4711, "note": "x" * 220}}
BODY = b'{"type":"order.shipped","data":{"order":4711,"note":"' + b"x" * 220 + b'"}}'


def against_the_bare_client(lab: Lab) -> Iterator[Figures]:
    """W: from the moment when the relay may see them until the last row is settled."""
    count = lab.sized(3_000, 1_000)
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with lab.processes([["benchmarks.applications.receiver", str(port)]], {}):
        lab.wait(lambda: _answers(url), "the receiver", every_s=0.05)
        with running_ours(lab, "sqlite") as stack:
            contenders: dict[str, Callable[[], float]] = {
                "ours": lambda: _ours(stack, url, count),
                "theirs": lambda: _bare(url, count),
            }
            for contender in contenders.values():
                contender()
            rates = in_turns(lab.rounds, contenders, lab.told)
    what = f"{count:,} signed webhooks on SQLite, {AT_ONCE} at a time, against bare aiohttp"
    yield Figures("W", what, "/s", rates["ours"], rates["theirs"], Target(at_least=0.6))


def _ours(stack: Ours, url: str, count: int) -> float:
    before = _received(url)
    stack.load_mixed([NewMessage(channel=WEBHOOK, target=url, payload=PAYLOAD)] * count, WEBHOOK)
    started = time.perf_counter()
    stack.go(WEBHOOK)
    stack.lab.wait(lambda: _received(url) - before >= count and not stack.unsettled(), f"{count} webhooks", every_s=0.02)
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
