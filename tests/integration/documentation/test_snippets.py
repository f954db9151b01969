"""The code of the pages that need no server: each page's blocks are run in order, with the names that its text presumes."""

import json
import logging
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from standardwebhooks import Webhook
from werkzeug.test import Client

from outbox import Message, Outbox
from outbox.channels.matrix import Matrix
from outbox.channels.registry import build
from outbox.store.examining import Begin, begin_of
from tests.integration.documentation.blocks import PROJECT, code
from tests.integration.legacy.queues import LegacyQueue
from tests.servers.kept import free_port
from tests.servers.postgresql import libpq_url
from tests.servers.supervised import eventually
from workers.logs import JsonLines

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLhAb2bHQ5p2x3q8="
MATRIX_TOKEN = "syt_c2hvcA_tGKuZJHwzDYjRfQxPnVb_0dK3mN"
CHANNELS: dict[str, dict[str, Any]] = {
    "apprise": {"services": {"ops": "json://localhost"}},
    "discord": {"token": "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs-abcdefghij"},
    "email": {"host": "mail.example.com", "sender": "shop@example.com"},
    "matrix": {"token": MATRIX_TOKEN, "base_url": "https://matrix.example.org"},
    "slack": {"token": "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcBrzbqgy"},
    "telegram": {"token": "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"},
    "webhook": {"secret": SECRET},
}
TARGETS = {"email": "Ann <ann@example.com>", "telegram": "-1001234567890"}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def outbox(engine: Engine) -> Iterator[Outbox]:
    outbox = Outbox(engine=engine)
    outbox.upgrade_schema()
    yield outbox
    outbox.close()


def run(page: str, **names: Any) -> dict[str, Any]:
    """Run the page's Python in this process; the names that are there then."""
    for number, block in enumerate(code(page, "python"), 1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names


def python(directory: Path, *blocks: str, **environment: str) -> str:
    """Run them as one program; what it prints."""
    program = directory / "program.py"
    program.write_text("\n\n".join(blocks), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=directory, env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("kind", CHANNELS)
def test_what_the_page_of_a_channel_enqueues_its_channel_accepts(kind: str, outbox: Outbox, engine: Engine) -> None:
    outbox.register(build(kind, CHANNELS[kind]))
    presumed = {"logo": b"\x89PNG", "label": b"\x89PNG", "secret": SECRET}
    with Session(engine) as session, session.begin():
        names = run(f"docs/channels/{kind}.md", outbox=outbox, session=session, **presumed)
        if "payload" in names:
            outbox.enqueue(session, kind, target=TARGETS[kind], payload=names["payload"])
    assert len(outbox.list()) == (2 if kind in TARGETS else 1)
    assert kind != "webhook" or receives_once(names)


def test_the_tables_of_matrix_make_channels() -> None:
    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            return MATRIX_TOKEN if value.keys() == {"from_env"} else {name: resolved(one) for name, one in value.items()}
        return value

    tables = [tomllib.loads(block) for block in code("docs/channels/matrix.md", "toml")]
    for name, options in (one for table in tables for one in table.items()):
        assert isinstance(build(name, resolved(options)), Matrix)


@pytest.mark.parametrize("driver", ["sqlite3", pytest.param("psycopg", marks=pytest.mark.postgres)])
def test_a_drivers_connection_commits_a_message_with_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, driver: str
) -> None:
    monkeypatch.chdir(tmp_path)
    [block] = [block for block in code("docs/guides/plain-connections.md", "python") if f"import {driver}\n" in block]
    if driver == "psycopg":
        url = make_url(request.getfixturevalue("postgres_url"))
        block = block.replace('Outbox("postgresql://shop@db/shop")', f"Outbox({url.render_as_string(hide_password=False)!r})")
        block = block.replace('"postgresql://shop@db/shop"', repr(libpq_url(url)))
        assert "@db/" not in block
    names: dict[str, Any] = {}
    exec(compile(block, "plain-connections.md", "exec"), names)
    with closing(names["outbox"]) as outbox:
        [message] = outbox.list(channel="warehouse")
        assert (message.payload, names["number"]) == ({"order": 1}, 1)


def receives_once(names: dict[str, Any]) -> bool:
    """Whether the page's receiver verifies what is signed, and handles a repetition once."""
    seen: set[str] = set()
    handled: list[object] = []
    names["handle"] = handled.append
    names["seen_before"] = lambda key: key in seen or seen.add(key)
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", now, '{"order": 42}'),
    }  # fmt: skip
    for _ in range(2):
        names["receive"](b'{"order": 42}', headers)
    return handled == [{"order": 42}]


@pytest.mark.parametrize("guide", ["conversations", "policies"])
def test_the_code_of_a_guide_does_what_the_guide_says(guide: str, tmp_path: Path) -> None:
    python(tmp_path, *code(f"docs/guides/{guide}.md", "python"))


def test_the_engine_of_the_reference_begins_immediate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = run("docs/reference/cli.md")["engine"]
    try:
        assert begin_of(engine) is Begin.IMMEDIATE
    finally:
        engine.dispose()


def test_the_engine_of_the_guide_queues_its_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = run("docs/guides/production.md")["engine"]
    with engine.connect() as connection:
        connection.exec_driver_sql("create table orders (number integer)")
        connection.exec_driver_sql("insert into orders values (1)")
        assert connection.connection.dbapi_connection.is_at_head
    engine.dispose()


def test_the_dashboard_asks_the_application_who_is_there(outbox: Outbox) -> None:
    def my_session(environ: dict[str, Any]) -> SimpleNamespace | None:
        name = environ.get("HTTP_X_PERSON")
        return SimpleNamespace(name=name, is_staff=name == "ada") if name else None

    names = run("docs/guides/dashboard.md", outbox=outbox, my_session=my_session, SECRET=b"0" * 32)
    visitor = Client(names["dashboard"])
    assert visitor.get("/", headers={"X-Person": "ada"}).status_code == 200
    for stranger in ({}, {"X-Person": "bob"}):
        answer = visitor.get("/", headers=stranger)
        assert (answer.status_code, answer.location.partition("?")[0]) == (303, "/login")


PRESUMED_OF_TASKS = """
from celery import chain, chord, group
from sqlalchemy import create_engine, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from outbox import Outbox

class Base(DeclarativeBase): pass

class Order(Base):
    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(primary_key=True)

class Account(Base):
    __tablename__ = "accounts"
    number: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]

class Done(Base):
    __tablename__ = "done"
    task_id: Mapped[str] = mapped_column(primary_key=True)

engine = create_engine("sqlite:///shop.db")
Base.metadata.create_all(engine)
outbox = Outbox(engine=engine)
outbox.upgrade_schema()
order, session, orders = Order(number=42), Session(engine), [1, 2]
"""
BETWEEN_TASKS = """
@app.task
def ship(packed): ...

@app.task
def notify(packed): ...
"""
TASKS_ARE = """
session.add(Account(number=7, balance=100))
session.commit()
for _ in range(2):
    pay_out.apply((7, 30), task_id="once")
with Session(engine) as look:
    assert look.get_one(Account, 7).balance == 70
print(len(outbox.list()))
"""


def test_durable_tasks_are_enqueued_as_the_guide_says(tmp_path: Path, redis_url: str) -> None:
    first, by_name, twice, canvas = code("docs/guides/durable-tasks.md", "python")
    printed = python(
        tmp_path, PRESUMED_OF_TASKS, first.replace("redis://localhost:6379/0", redis_url), by_name, "session.commit()", twice,
        BETWEEN_TASKS, canvas, TASKS_ARE, CELERY_RESULT_BACKEND=redis_url,
    )  # fmt: skip
    two_of_pack, one_by_name, of_canvases = 2, 1, 1 + 2 + 2
    assert printed.split() == [str(two_of_pack + one_by_name + of_canvases)]


def test_the_celery_table_of_the_guide_makes_the_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [table] = code("docs/guides/durable-tasks.md", "toml")
    [(name, options)] = tomllib.loads(table).items()
    assert build(name, options).name == "celery"


def test_a_task_class_for_both_ways_of_enqueueing(tmp_path: Path) -> None:
    [block] = code("docs/guides/from-delay-on-commit.md", "python")
    presumed = "from celery import Celery\nfrom outbox import Outbox\noutbox = Outbox('sqlite:///shop.db')\n"
    told = "@app.task\ndef pack(): ...\n\nprint(pack.enqueue.__name__, pack.delay_on_commit.__name__)"
    assert python(tmp_path, presumed, block, told).split() == ["enqueue", "delay_on_commit"]


def test_a_directory_is_imported_and_an_adapter_finds_what_was_in_the_file(outbox: Outbox, tmp_path: Path) -> None:
    queue = LegacyQueue(tmp_path / "delivery-queue")
    queue.pending(gifPlayback=True)
    importing, finding = code("docs/guides/import-legacy.md", "python")
    names: dict[str, Any] = {"outbox": outbox}
    exec(importing.replace("/var/lib/gateway/delivery-queue", str(queue.path)), names)
    assert names["summary"].imported == 1
    exec(finding + "    return as_gif\n", names)
    [message] = outbox.list()
    assert names["send_final"](None, message, None) is True


PRESUMED_OF_METRICS = """
from outbox import Outbox
outbox = Outbox("sqlite:///shop.db")
outbox.upgrade_schema()
outbox.channel("chat")(lambda message, attempt: None)
"""
METRICS_ARE = """
import prometheus_client
with outbox.store.engine.begin() as connection:
    outbox.enqueue(connection, "chat", payload="hello")
outbox.drain()
print(prometheus_client.generate_latest().decode())
"""


def test_an_application_counts_and_traces_with_a_line_each(tmp_path: Path) -> None:
    metrics, _processes, traces = code("docs/guides/monitoring.md", "python")
    printed = python(tmp_path, PRESUMED_OF_METRICS, metrics, traces, METRICS_ARE)
    assert 'outbox_enqueued_total{channel="chat"} 1.0' in printed


def test_several_processes_are_scraped_as_one(tmp_path: Path) -> None:
    _metrics, block, _traces = code("docs/guides/monitoring.md", "python")
    port, counts = free_port(), tmp_path / "counts"
    counts.mkdir()
    assert "9745" in block
    program = tmp_path / "exporter.py"
    program.write_text(PRESUMED_OF_METRICS + block.replace("9745", str(port)))
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PROMETHEUS_MULTIPROC_DIR": str(counts)}
    with subprocess.Popen([sys.executable, program], cwd=tmp_path, env=environment) as exporter:
        try:
            eventually(lambda: exporter.poll() is not None or _answer(f"http://127.0.0.1:{port}/metrics"), "no metrics")
            assert "outbox_messages" in _answer(f"http://127.0.0.1:{port}/metrics")
        finally:
            exporter.kill()


def test_the_settings_for_prometheus_name_what_there_is() -> None:
    [block] = code("docs/guides/monitoring.md", "yaml")
    settings = yaml.safe_load(block)
    [job] = settings["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:9745"]}]
    assert [(PROJECT / "monitoring/prometheus" / name).is_file() for name in settings["rule_files"]] == [True]


def test_a_line_of_the_log_has_the_fields_that_are_shown(caplog: pytest.LogCaptureFixture, outbox: Outbox) -> None:
    [block] = code("docs/guides/monitoring.md", "json")
    shown = json.loads(block)

    @outbox.channel("webhook")
    def busy(message: Message, attempt: object) -> None:
        raise ConnectionRefusedError

    with Session(outbox.store.engine) as session, session.begin():  # type: ignore[attr-defined]
        outbox.enqueue(session, "webhook")
    with caplog.at_level(logging.INFO, "outbox"):
        outbox.relay_once()
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records if "AttemptFinished" in record.getMessage()]
    [line] = lines
    assert list(line) == list(shown)
    assert set(shown["outbox"]) <= set(line["outbox"])


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    number: Mapped[int] = mapped_column(primary_key=True)
    points: Mapped[int]


def test_a_transactional_channel_does_its_work_and_is_done_with_it_at_once(outbox: Outbox, engine: Engine) -> None:
    _pager, bonus, _kit = code("docs/guides/write-a-channel.md", "python")
    exec(bonus, {"outbox": outbox, "Account": Account})
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Account(number=7, points=1))
        for number in (7, 8):
            outbox.enqueue(session, "bonus", payload={"account": number, "points": 2})
    outbox.drain()
    with Session(engine) as session:
        assert session.get_one(Account, 7).points == 3
    assert {message.payload["account"]: message.status for message in outbox.list()} == {7: "delivered", 8: "failed_retryable"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_channel_that_is_written_passes_the_kit_and_is_known_by_its_kind(tmp_path: Path) -> None:
    pager, _bonus, kit = code("docs/guides/write-a-channel.md", "python")
    exec(pager, {})  # what it does: tests/unit/testing/test_guide_to_channels.py
    (tmp_path / "test_ntfy.py").write_text(f"from outbox_ntfy import Ntfy\n{kit}")
    example = PROJECT / "examples/third_party_channel"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "accepts or refused"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(example), str(PROJECT)])},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 4  # all of them: tests/integration/channels/test_third_party.py
    published, used = (tomllib.loads(block) for block in code("docs/guides/write-a-channel.md", "toml"))
    assert published["project"] == {
        "entry-points": tomllib.loads((example / "pyproject.toml").read_text())["project"]["entry-points"]
    }
    assert used["phones"]["kind"] in published["project"]["entry-points"]["outbox.channels"]


def _answer(url: str) -> str:
    try:
        return httpx.get(url).text
    except httpx.TransportError:
        return ""
