"""The commands of the pages, run in prepared directories; the examples of the reference, read as the command reads them."""

import re
import shlex
import uuid
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path

import click
import pytest

from outbox import Outbox
from outbox.channels.registry import build
from outbox.cli.application import application
from tests.integration.documentation.blocks import code
from tests.integration.documentation.walking import Walk
from tests.integration.legacy.queues import HOUR_MS, LegacyQueue, now_ms
from tests.servers.kept import free_port
from tests.servers.supervised import eventually

CLI_FIRST, CLI_UNDER_CELERY, *CLI_EXAMPLES = code("docs/reference/cli.md", "console")
EXAMPLES = [line[2:] for block in CLI_EXAMPLES for line in block.splitlines()]
TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"


@pytest.mark.timeout(300)
def test_the_reference_begins_with_what_the_command_prints(walk: Walk) -> None:
    walk.type(CLI_FIRST)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_command_is_one_of_celerys_as_well(walk: Walk) -> None:
    [application] = code("README.md", "python")
    walk.write(f"# shop.py\n{application}")
    walk.type('$ python -c "import shop; shop.buy(42)"')
    walk.type(CLI_UNDER_CELERY)
    outbox = Outbox(f"sqlite:///{walk.directory / 'shop.db'}")
    eventually(lambda: outbox.list(status="dispatched"), "nobody relays")
    outbox.close()


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_reference_is_what_the_command_takes(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "order.json").write_text("{}")
    for queue in ("delivery-queue", "~/.gateway/delivery-queue"):
        (tmp_path / queue).mkdir(parents=True)
    reader = shlex.shlex(example, posix=True, punctuation_chars="|>")
    reader.whitespace_split = True
    words = list(reader)
    is_understood(list(takewhile(lambda word: word not in ("|", ">>"), words[words.index("outbox") + 1 :])))


def is_understood(words: list[str]) -> None:
    """Parse a command line with every option and argument, and do nothing."""
    context, command = None, application
    with ExitStack() as opened:
        while True:
            context = opened.enter_context(command.make_context(command.name, words, parent=context))
            if not isinstance(command, click.Group):
                return
            _name, found, words = command.resolve_command(context, [*context._protected_args, *context.args])
            assert found is not None
            command = found


def test_the_secret_that_the_page_has_made_is_one_for_webhooks(walk: Walk) -> None:
    [making] = code("docs/channels/webhook.md", "console")
    walk.type(making.rstrip() + " > secret.txt")
    build("webhook", {"secret": (walk.directory / "secret.txt").read_text().strip()})


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_dashboard_is_served_to_who_logs_in_and_answers_programs(walk: Walk, sqlite_outbox_url: str) -> None:
    serving, asking = code("docs/guides/dashboard.md", "console")
    port = free_port()
    patience = "--fail --silent --show-error --retry 60 --retry-delay 1 --retry-connrefused"
    walk.replaced |= {
        "postgresql://app@db/shop": sqlite_outbox_url,
        "web --host 0.0.0.0": f"web --host 127.0.0.1 --port {port}",
        "curl -u ada https://outbox.example.com": (
            f"curl {patience} -u ada:right -H 'Host: outbox.example.com' http://127.0.0.1:{port}"
        ),
    }
    walk.type(serving, answers="right\nright\n")
    walk.type(asking)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_file_queue_is_imported_as_the_guide_shows(walk: Walk) -> None:
    importing, sending = code("docs/guides/import-legacy.md", "console")
    queue = as_shown(LegacyQueue(walk.directory / "delivery-queue"))
    (walk.directory / "channels.toml").write_text(f'[telegram]\ntoken = "{TOKEN}"\n')
    walk.replaced |= {"~/.gateway/delivery-queue": str(queue.path), "--dry-run": "--dry-run || test $? = 1"}
    walk.type("$ export OUTBOX_DATABASE_URL=sqlite:///app.db\n$ outbox db upgrade")
    walk.type(importing)
    outbox = Outbox(f"sqlite:///{walk.directory / 'app.db'}")
    [expired, *_others] = outbox.list(status="expired", limit=1)
    [shown] = re.findall(r"^\$ outbox retry (.*)$", sending, re.MULTILINE)
    walk.replaced[shown] = expired.id
    walk.type(sending)
    assert outbox.get(expired.id).status == "queued"
    outbox.close()


def as_shown(queue: LegacyQueue) -> LegacyQueue:
    """The queue whose import the guide shows: so many entries of each kind."""
    for number in range(312):
        queue.pending(payloads=[{"text": "one"}, {"text": "two"}][: 2 if number < 55 else 1])
    for _ in range(1_204):
        queue.pending(enqueuedAt=now_ms() - 24 * HOUR_MS)
    for _ in range(17):
        queue.dead()
    for _ in range(3):
        queue.file(f"{uuid.uuid4()}.delivered", "{}")
    cut = "0b0cfb3e-6a0a-44a2-8f64-7a3a7a8b2f10"
    head = f'{{"id": "{cut}", "channel": "'
    queue.file(f"{cut}.json", head + "x" * (310 - len(head) - len('", "to": ')) + '", "to": "-100')
    return queue


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(300)
def test_an_outbox_moves_to_postgresql_as_the_guide_says(walk: Walk, sqlite_outbox_url: str, postgres_url: str) -> None:
    _compose, moving = code("docs/guides/production.md", "console")
    walk.replaced |= {
        "systemctl stop shop outbox": "true",
        "sqlite:////srv/shop/app.db": sqlite_outbox_url,
        "postgresql://shop@db/shop": postgres_url,
        " doctor": " doctor || test $? = 1",  # the server of the tests does not wait for the disk, and is found out
    }
    walk.type(moving)
    outbox = Outbox(postgres_url)
    outbox.check_schema()
    outbox.close()
