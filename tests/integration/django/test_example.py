"""The example shop, driven over HTTP: a web server, a Celery worker with beat, and a broker, each a process of its own; and a
mail server that hears of orders.

And the guide, against the settings, permissions and channels that there are.
"""

import email
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message as Mail
from pathlib import Path

import httpx
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from outbox import Outbox
from tests.servers.kept import free_port
from tests.servers.supervised import PROJECT, start

PATIENCE_S = 90
GUIDE = (PROJECT / "docs/guides/django.md").read_text()
README = (PROJECT / "examples/django_shop/README.md").read_text()


class Shop:
    """The project in a directory of its own."""

    def __init__(self, directory: Path, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.database = directory / "shop.db"
        monkeypatch.setenv("SHOP_DATABASE", str(self.database))
        monkeypatch.setenv("SHOP_BROKER_URL", broker_url)

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "examples.django_shop", *arguments],
            cwd=PROJECT, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, name: str, *command: str) -> Iterator[Callable[[], str]]:
        """A process as long as the block runs; what it has printed so far."""
        log = self.directory / f"{name}.log"
        with log.open("w") as output:
            process = start([*command], {}, cwd=self.directory, stdout=output)  # type: ignore[arg-type]
        try:
            yield log.read_text
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


class Letters(list[Mail]):
    """What a mail server was given."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.append(email.message_from_bytes(envelope.content))
        return "250 OK"


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> Iterator[Letters]:
    """Those of the shop's mail server."""
    letters = Letters()
    server = Controller(letters, hostname="127.0.0.1", port=free_port())
    monkeypatch.setenv("SHOP_MAIL_HOST", server.hostname)
    monkeypatch.setenv("SHOP_MAIL_PORT", str(server.port))
    server.start()
    yield letters
    server.stop()


@pytest.fixture
def shop(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop(tmp_path, redis_url, monkeypatch)
    shop.manage("migrate")
    return shop


def await_that(condition: Callable[[], bool], log: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, log()
        time.sleep(0.05)


@pytest.mark.slow
def test_what_the_shop_commits_is_packed_and_mailed_and_what_it_takes_back_is_not(shop: Shop, letters: Letters) -> None:
    port = free_port()
    serve = ("examples.django_shop", "runserver", "--noreload", f"127.0.0.1:{port}")
    work = ("celery", "--app", "examples.django_shop", "worker", "--beat", "--pool", "threads", "--loglevel", "info")
    with shop.running("web", *serve) as web, shop.running("worker", *work) as worker, httpx.Client() as client:
        await_that(lambda: _answers(client, f"http://127.0.0.1:{port}/orders/1"), web)
        placed = client.post(f"http://127.0.0.1:{port}/orders", data={"customer": "ada@example.org", "item": "tea"})
        refused = client.post(f"http://127.0.0.1:{port}/orders", data={"customer": "ada@example.org", "item": "unicorn"})
        assert (placed.status_code, refused.status_code) == (201, 409)
        number = placed.json()["order"]
        await_that(lambda: client.get(f"http://127.0.0.1:{port}/orders/{number}").json()["packed"], worker)
        await_that(lambda: _is_quiet(shop), worker)
    [letter] = letters
    assert (letter["To"], letter["Subject"]) == ("ada@example.org", f"Your order {number}")
    assert "We are packing your tea." in str(letter.get_payload())
    assert "unicorn" not in worker()
    assert sorted(re.findall(r"packed order (\d+)", worker())) == [str(number)]
    assert "delivered" in shop.manage("outbox", "status")


def test_the_shop_passes_djangos_own_checks(shop: Shop) -> None:
    assert "no issues" in shop.manage("check", "--database", "default")
    assert "No changes detected" in shop.manage("makemigrations", "--check", "--dry-run")


def test_the_readme_of_the_shop_shows_what_it_answers() -> None:
    assert '{"order": 1, "item": "tea", "packed": true}' in README
    assert re.findall(r"^\$ celery (--app examples.django_shop worker --beat) &$", README, re.MULTILINE)


def test_the_guide_tells_every_setting() -> None:
    settings = GUIDE.split("\n## Settings\n")[1].split("\n## ")[0]
    source = (PROJECT / "outbox/integrations/django/configuration.py").read_text()
    known = set(re.findall(r'^    "([A-Z_]+)": ', source, re.MULTILINE))
    assert len(known) >= 10
    assert {
        name for row in re.findall(r"^\| (`[A-Z].*?) \|", settings, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    } == known


def test_the_guide_tells_every_permission() -> None:
    models = (PROJECT / "outbox/integrations/django/models.py").read_text()
    assert set(re.findall(r"`outbox\.(\w+)`", GUIDE)) == {
        "view_message",
        *re.findall(r'^            \("(\w+)", ', models, re.MULTILINE),
    }


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == 404
    except httpx.TransportError:
        return False


def _is_quiet(shop: Shop) -> bool:
    outbox = Outbox(f"sqlite:///{shop.database}")
    statuses = {message.status for message in outbox.list()}
    outbox.close()
    return statuses == {"delivered"}
