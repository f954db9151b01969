"""Receivers that answer with 50 MB, to a worker of the real service: it takes the beginning, and its memory stays."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from outbox import NewMessage, Outbox
from tests.integration.loops.scene import enqueue
from tests.receiver import Behaviour, pour, receiving
from tests.servers.supervised import Service, eventually

SIZE = 50_000_000
OF_EACH = 4
ALLOWED_MB = 24
"""By which a process may grow at its peak, for all floods at once: less than half of one."""
LINE = b"X: " + b"x" * 1_021
FLOODS: dict[str, tuple[Behaviour, str, str]] = {
    "accepts at length": (pour(b"HTTP/1.1 200 Said\r\nContent-Length: %d\r\n\r\n" % SIZE, SIZE), "delivered", ""),
    "refuses at length": (pour(b"HTTP/1.1 500 Said\r\nContent-Length: %d\r\n\r\n" % SIZE, SIZE), "failed_terminal", "HTTP 500"),
    "in one piece": (
        pour(b"HTTP/1.1 400 Said\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % SIZE, SIZE), "failed_terminal", "HTTP 400"
    ),
    "in a million pieces": (
        pour(b"HTTP/1.1 400 Said\r\nTransfer-Encoding: chunked\r\n\r\n", SIZE, b"2b\r\n" + b"x" * 43 + b"\r\n"),
        "failed_terminal", "HTTP 400",
    ),
    "in its headers": (pour(b"HTTP/1.1 200 Said\r\n", SIZE, LINE + b"\r\n"), "failed_terminal", ""),
    "in one header": (pour(b"HTTP/1.1 200 Said\r\nX: ", SIZE), "failed_terminal", ""),
    "before any header": (pour(b"", SIZE), "failed_terminal", ""),
}  # fmt: skip
"""How each answers, and what becomes of its messages, with what reason."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def service(tmp_path: Path, sqlite_url: str) -> Iterator[Service]:
    channels = tmp_path / "channels.toml"
    channels.write_text(
        '[webhook]\nallow_http = true\nallow_networks = ["127.0.0.0/8"]\nmax_attempts = 1\ntimeout = 10\nconcurrency = 32\n'
    )
    with closing(Service(tmp_path / "var", channels=str(channels), database_url=sqlite_url)) as running:
        running.says("running")
        yield running


async def test_floods_of_50_megabytes_neither_fill_the_worker_s_memory_nor_hold_up_a_healthy_receiver(
    service: Service, sqlite_url: str
) -> None:
    async with AsyncExitStack() as stack:
        outbox = stack.enter_context(closing(Outbox(sqlite_url)))
        healthy = await stack.enter_async_context(receiving())
        await send(outbox, healthy.url, 50)  # whatever is needed once is there
        before = peak_mb(service)
        receivers = {name: await stack.enter_async_context(receiving()) for name in FLOODS}
        ids = {}
        for name, receiver in receivers.items():
            receiver.behaviour = FLOODS[name][0]
            ids[name] = enqueue(outbox, *[NewMessage(channel="webhook", target=receiver.url)] * OF_EACH)
        await send(outbox, healthy.url, 20)
        everything = [one for each in ids.values() for one in each]
        await asyncio.to_thread(eventually, lambda: all(outbox.get(one).completed_at for one in everything), "no end of them")

        found = {name: [outbox.get(one) for one in ids[name]] for name in FLOODS}
        assert {name: {m.status for m in messages} for name, messages in found.items()} == {
            name: {status} for name, (_, status, _) in FLOODS.items()
        }
        assert [n for n, messages in found.items() for m in messages if FLOODS[n][2] not in str(m.last_error or "")] == []
        assert {name: len(receiver.requests) for name, receiver in receivers.items()} == dict.fromkeys(FLOODS, OF_EACH)
        peak = peak_mb(service)
        assert peak < before + ALLOWED_MB


async def send(outbox: Outbox, url: str, count: int) -> None:
    """And wait until they are delivered."""
    ids = enqueue(outbox, *[NewMessage(channel="webhook", target=url)] * count)
    await asyncio.to_thread(eventually, lambda: {outbox.get(one).status for one in ids} == {"delivered"}, "not delivered")


def peak_mb(service: Service) -> float:
    """The most memory that the delivering node ever had."""
    lines = Path(f"/proc/{service.pid_of('node-1')}/status").read_text().splitlines()
    [peak] = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return peak / 1024
