"""The example shops of all frameworks but Django, driven over HTTP: a web server, a Celery worker with beat, a broker, and the
bookkeeping that hears of orders, each a process of its own.
"""

import asyncio
import base64
import inspect
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from standardwebhooks import Webhook

from outbox import Outbox
from tests.receiver import Receiver, receiving
from tests.servers.kept import free_port
from tests.servers.supervised import PROJECT, start

PATIENCE_S = 90
SECRET = "whsec_" + base64.b64encode(b"only for tests, thirty-two bytes").decode()


@dataclass(frozen=True)
class Example:
    """How a shop is started. ``PORT`` stands for that of the web server."""

    name: str
    upgrade: list[str]
    web: list[str]
    worker: str
    body: str = "data"
    """How httpx calls the form in which the shop takes orders."""

    @property
    def readme(self) -> str:
        return (PROJECT / "examples" / self.name / "README.md").read_text()


EXAMPLES = [
    Example(
        "flask_shop",
        ["flask", "--app", "examples.flask_shop", "outbox", "db", "upgrade"],
        ["flask", "--app", "examples.flask_shop", "run", "--port", "PORT"],
        "examples.flask_shop.worker",
    ),
    Example(
        "fastapi_shop",
        ["outbox.cli", "--app", "examples.fastapi_shop.database:outbox", "db", "upgrade"],
        ["uvicorn", "examples.fastapi_shop.application:app", "--port", "PORT"],
        "examples.fastapi_shop.worker",
        body="json",
    ),
    Example(
        "plain_shop",
        ["outbox.cli", "--app", "examples.plain_shop.database:outbox", "db", "upgrade"],
        ["examples.plain_shop", "--port", "PORT"],
        "examples.plain_shop.worker",
    ),
]


@pytest.fixture(params=EXAMPLES, ids=lambda example: example.name)
def example(request: pytest.FixtureRequest) -> Example:
    chosen: Example = request.param
    return chosen


class Shop:
    """A shop in a directory of its own; the environment tells it where everything is."""

    def __init__(self, directory: Path, example: Example) -> None:
        self.directory = directory
        self.example = example
        self.port = free_port()
        self.database_url = f"sqlite:///{directory / 'shop.db'}"

    def upgrade(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *self.example.upgrade], cwd=self.directory, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(PROJECT)}, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def running(self, name: str, *command: str) -> Iterator[Callable[[], str]]:
        """A process as long as the block runs; what it has printed so far."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = start([*command], {}, cwd=self.directory, stdout=output)
        try:
            yield log.read_text
        finally:
            process.terminate()
            process.wait(PATIENCE_S)

    @contextmanager
    def open(self) -> Iterator[Callable[[], str]]:
        """The web server and the worker; what they have printed so far."""
        serve = [str(self.port) if word == "PORT" else word for word in self.example.web]
        work = ["celery", "--app", self.example.worker, "worker", "--beat", "--pool", "threads", "--loglevel", "info"]
        with self.running("web", *serve) as web, self.running("worker", *work) as worker:
            yield lambda: web() + worker()

    def messages(self) -> list[tuple[str, str]]:
        """Channel and status of each message."""
        outbox = Outbox(self.database_url)
        try:
            return sorted((message.channel, message.status) for message in outbox.list())
        finally:
            outbox.close()


@pytest.fixture
async def books() -> AsyncIterator[Receiver]:
    """The bookkeeping."""
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def shop(tmp_path: Path, example: Example, redis_url: str, books: Receiver, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop(tmp_path, example)
    monkeypatch.setenv("SHOP_DATABASE_URL", shop.database_url)
    monkeypatch.setenv("SHOP_BROKER_URL", redis_url)
    monkeypatch.setenv("SHOP_BOOKS_URL", books.url)
    monkeypatch.setenv("SHOP_BOOKS_SECRET", SECRET)
    shop.upgrade()
    return shop


async def eventually(condition: Callable[[], bool | Awaitable[bool]], log: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        met = condition()
        if await met if inspect.isawaitable(met) else met:
            return
        assert time.monotonic() < deadline, log()
        await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_what_the_shop_commits_is_packed_and_told_the_books_and_what_it_takes_back_is_not(
    shop: Shop, books: Receiver
) -> None:
    with shop.open() as log:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{shop.port}") as client:

            async def is_up() -> bool:
                try:
                    return (await client.get("/orders/1")).status_code == 404
                except httpx.TransportError:
                    return False

            await eventually(is_up, log)

            async def order(item: str) -> httpx.Response:
                wish = {"customer": "ada@example.org", "item": item}
                return await client.post("/orders", **{shop.example.body: wish})  # type: ignore[arg-type]

            placed, refused = await order("tea"), await order("unicorn")
            assert (placed.status_code, refused.status_code) == (201, 409), log()
            number = placed.json()["order"]

            async def is_packed() -> bool:
                return bool((await client.get(f"/orders/{number}")).json()["packed"])

            await eventually(is_packed, log)
            await eventually(lambda: shop.messages() == [("books", "delivered"), ("warehouse", "delivered")], log)
        assert re.findall(r"packed order (\d+)", log()) == [str(number)]
    [entry] = books.requests
    Webhook(SECRET).verify(entry.body, entry.headers)
    assert json.loads(entry.body) == {"type": "order.placed", "order": number, "customer": "ada@example.org"}


def test_the_readme_of_the_shop_starts_what_is_started_here(example: Example) -> None:
    commands = re.findall(r"^\$ (?:python -m )?(.*?)(?: &)?$", example.readme, re.MULTILINE)
    assert " ".join(example.upgrade).replace("outbox.cli", "outbox") in commands
    assert f"celery --app {example.worker} worker --beat" in commands
    assert " ".join(example.web).removesuffix(" --port PORT") in commands
