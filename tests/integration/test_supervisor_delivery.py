"""The service at its work: what an application commits goes out through the processes that the documentation names."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

from outbox import Outbox
from tests.servers.supervised import PATIENCE_S, Service, eventually, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Receiver(ThreadingHTTPServer):
    """Accepts webhooks; answers each when it is let."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Accept)
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.ids: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class Accept(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.ids.append(self.headers["webhook-id"])
        self.server.may_answer.wait(PATIENCE_S)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server
        server.may_answer.set()
        server.shutdown()


@pytest.fixture
def channels(tmp_path: Path) -> Path:
    file = tmp_path / "channels.toml"
    file.write_text('[webhook]\nallow_http = true\nallow_networks = ["127.0.0.0/8"]\n')
    return file


class Application:
    """An application with the same database as the service, which only enqueues."""

    def __init__(self, database_url: str) -> None:
        self.engine = sa.create_engine(database_url)
        self.outbox = Outbox(engine=self.engine)

    def enqueue(self, target: str, count: int = 1) -> list[str]:
        with self.engine.begin() as transaction:
            return [self.outbox.enqueue(transaction, "webhook", target=target, payload={"n": n}).id for n in range(count)]

    def statuses(self, ids: list[str]) -> set[str]:
        return {str(self.outbox.get(message_id).status) for message_id in ids}

    def close(self) -> None:
        self.outbox.close()
        self.engine.dispose()


@contextmanager
def application(database_url: str) -> Iterator[Application]:
    running = Application(database_url)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def service(tmp_path: Path, channels: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def run(**settings: str) -> Service:
        started.append(Service(tmp_path / "var", channels=str(channels), **settings))
        return started[-1]

    yield run
    for one in reversed(started):
        one.close()


@pytest.mark.long_on("postgresql")
def test_one_command_delivers_what_an_application_commits(
    service: Callable[..., Service], receiver: Receiver, database_url: str
) -> None:
    running = service(database_url=database_url, pool="prefork", nodes="2")
    running.says("running")

    with application(database_url) as app:
        ids = app.enqueue(receiver.url, count=50)
        eventually(lambda: app.statuses(ids) == {"delivered"}, "not everything is delivered")

    assert sorted(receiver.ids) == sorted(ids)


def test_a_send_under_way_is_finished_and_recorded_before_the_service_stops(
    service: Callable[..., Service], receiver: Receiver, sqlite_url: str
) -> None:
    running = service(database_url=sqlite_url)
    running.says("running")

    with application(sqlite_url) as app:
        receiver.may_answer.clear()
        ids = app.enqueue(receiver.url)
        eventually(lambda: receiver.ids == ids, "nothing is being sent")
        running.process.send_signal(signal.SIGTERM)
        running.says("stopping")
        eventually(lambda: "Warm shutdown" in running.log_of("node-1"), "the node does not hear of it")
        receiver.may_answer.set()

        assert running.ends() == 0
        assert app.statuses(ids) == {"delivered"}
    assert receiver.ids == ids


@pytest.mark.long
def test_what_was_cut_off_when_the_grace_was_over_is_sent_again_by_the_next_service(
    service: Callable[..., Service], channels: Path, receiver: Receiver, database_url: str
) -> None:
    channels.write_text(f"{channels.read_text()}timeout = 2\n")  # and 10 s, for which the row is held
    running = service(database_url=database_url, shutdown_grace_s="0")
    running.says("running")

    with application(database_url) as app:
        receiver.may_answer.clear()
        ids = app.enqueue(receiver.url)
        eventually(lambda: receiver.ids == ids, "nothing is being sent")
        os.kill(running.pid_of("node-1"), signal.SIGSTOP)  # or it would give the send up itself
        running.process.send_signal(signal.SIGTERM)
        assert running.ends() == 0
        assert any("node-1 is killed: it did not end in time" in line for line in running.lines)
        receiver.may_answer.set()
        assert app.statuses(ids) == {"sending"}

        service(database_url=database_url)

        eventually(lambda: app.statuses(ids) == {"delivered"}, "what was cut off is not sent again")
        assert [record.outcome for record in app.outbox.attempts(ids[0])] == ["rescued"]
    assert receiver.ids == ids * 2


def test_a_message_waits_in_the_database_while_the_service_is_down(
    service: Callable[..., Service], receiver: Receiver, sqlite_url: str
) -> None:
    with application(sqlite_url) as app:
        app.outbox.upgrade_schema()
        ids = app.enqueue(receiver.url)

        service(database_url=sqlite_url)

        eventually(lambda: app.statuses(ids) == {"delivered"}, "it is not delivered")


@pytest.mark.long_on("rabbitmq_url")
@pytest.mark.parametrize("broker", ["redis_url", pytest.param("rabbitmq_url", marks=pytest.mark.rabbitmq)])
def test_worker_and_beat_started_each_by_itself_deliver(
    tmp_path: Path, channels: Path, receiver: Receiver, sqlite_url: str, broker: str, request: pytest.FixtureRequest
) -> None:
    settings = {
        "data_dir": str(tmp_path / "var"),
        "database_url": sqlite_url,
        "broker_url": request.getfixturevalue(broker),
        "channels": str(channels),
    }
    with application(sqlite_url) as app, ExitStack() as processes:
        app.outbox.upgrade_schema()
        for command in (["worker", "--concurrency=1"], ["beat"]):
            processes.enter_context(celery(command, settings, tmp_path))
        ids = app.enqueue(receiver.url, count=3)

        eventually(lambda: app.statuses(ids) == {"delivered"}, "not everything is delivered")
    assert list((tmp_path / "var").glob("celerybeat-schedule*"))
    assert not list(tmp_path.glob("celerybeat*"))


@pytest.mark.parametrize("command", ["worker", "beat", "flower"])
def test_a_process_started_alone_without_any_broker_says_in_one_line_what_to_do(tmp_path: Path, command: str) -> None:
    with start(["celery", "-A", "workers", command], {}, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        said, _ = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 1
    [line] = said.splitlines()
    assert line.startswith(f"outbox: no broker: the embedded one of {tmp_path}/var is not running.")
    assert "python -m workers" in line


@contextmanager
def celery(command: list[str], settings: dict[str, str], directory: Path) -> Iterator[None]:
    with (directory / f"{command[0]}.log").open("wb") as log:
        process = start(["celery", "-A", "workers", *command], settings, cwd=directory, stdout=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()
