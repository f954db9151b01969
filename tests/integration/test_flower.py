"""``celery -A workers flower``: only on this machine, only with the password, and only for looking."""

import base64
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from config.settings import load_settings
from tests.servers.kept import free_port
from tests.servers.supervised import start
from tests.servers.valkey import OwnValkeyServer
from workers.flowertab import link_to_dashboard
from workers.password import flower_password

pytestmark = pytest.mark.timeout(120)


class Flower:
    """Flower in a process of its own, as a user starts it."""

    def __init__(self, data_dir: Path, broker_url: str) -> None:
        self.port = free_port()
        self.data_dir = data_dir
        self.log = data_dir.parent / "flower.log"
        settings = {"data_dir": str(data_dir), "broker_url": broker_url, "flower_port": str(self.port)}
        with self.log.open("wb") as log:
            self.process = start(["celery", "-A", "workers", "flower"], settings, cwd=data_dir.parent, stdout=log)

    def await_answer(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                self.get("/healthcheck")
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError(self.log.read_text())

    def get(self, path: str, *, user: str = "", password: str = "", method: str = "GET") -> tuple[int, str]:
        """Status and body of the answer."""
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}"} if user else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()


@pytest.fixture(scope="module")
def flower(tmp_path_factory: pytest.TempPathFactory, redis_server: OwnValkeyServer) -> Iterator[Flower]:
    running = Flower(tmp_path_factory.mktemp("flower") / "var", redis_server.url)
    try:
        running.await_answer()
        yield running
    finally:
        running.process.terminate()
        assert running.process.wait(20) == 0


@pytest.fixture
def password(flower: Flower) -> str:
    return (flower.data_dir / "flower-password").read_text()


@pytest.mark.parametrize("path", ["/", "/tasks", "/broker", "/api/workers", "/api/tasks"])
def test_flower_shows_nothing_without_the_password(flower: Flower, path: str) -> None:
    assert flower.get(path)[0] == 401
    assert flower.get(path, user="outbox", password="guessed")[0] == 401


def test_flower_shows_its_pages_with_the_password(flower: Flower, password: str) -> None:
    status, page = flower.get("/", user="outbox", password=password)

    assert status == 200
    assert "Flower" in page


@pytest.mark.parametrize("page", ["/", "/tasks", "/broker"])
def test_flowers_pages_lead_to_the_dashboard_and_are_whole(flower: Flower, password: str, page: str) -> None:
    status, shown = flower.get(page, user="outbox", password=password)

    assert status == 200
    assert shown.count('href="http://127.0.0.1:8700/">Outbox</a>') == 1
    assert shown.rstrip().endswith("</html>")


@pytest.mark.parametrize("navigation", [None, "<nav>other insides</nav>"])
def test_a_flower_that_is_built_otherwise_goes_without_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, navigation: str | None
) -> None:
    if navigation is not None:
        (tmp_path / "navbar.html").write_text(navigation)
    settings = {"template_path": str(tmp_path)}
    monkeypatch.setattr("flower.urls.settings", settings)

    link_to_dashboard(load_settings(data_dir=tmp_path))

    assert settings == {"template_path": str(tmp_path)}
    assert "Flower has no link to the dashboard" in caplog.text


@pytest.mark.parametrize(
    "path", ["/api/task/send-task/outbox.relay", "/api/worker/shutdown/node-1", "/api/task/revoke/some-id"]
)
def test_flower_lets_nobody_change_anything(flower: Flower, password: str, path: str) -> None:
    assert flower.get(path, user="outbox", password=password, method="POST")[0] == 403


def test_flower_listens_on_the_loopback_interface_alone(flower: Flower) -> None:
    listening = [
        connection.laddr
        for connection in psutil.Process(flower.process.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]

    assert listening == [("127.0.0.1", flower.port)]


def test_the_password_is_kept_where_only_its_user_can_read_it(flower: Flower) -> None:
    file = flower.data_dir / "flower-password"

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in flower.data_dir.glob("flower-*")] == [file.name]


def test_the_password_is_in_no_log(flower: Flower, password: str) -> None:
    assert password not in flower.log.read_text()


def test_a_generated_password_stays_the_same_and_a_given_one_is_taken(tmp_path: Path) -> None:
    generated = flower_password(load_settings(data_dir=tmp_path))

    assert len(generated) >= 20
    assert flower_password(load_settings(data_dir=tmp_path)) == generated
    assert flower_password(load_settings(data_dir=tmp_path, flower_password="given")) == "given"
    assert flower_password(load_settings(data_dir=tmp_path / "other")) != generated
