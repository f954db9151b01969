"""The dashboard on a server of its own: ``outbox web``, and as a process of the service."""

import signal
import socket
import subprocess
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from werkzeug.security import check_password_hash

from outbox import Outbox
from outbox.web.serving import is_loopback
from tests.command import Command
from tests.servers.kept import free_port
from tests.servers.supervised import Service, eventually

RIGHT = "a long enough password"


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'outbox.db'}"
    outbox = Outbox(url)
    outbox.upgrade_schema()
    outbox.close()
    return url


@pytest.fixture
def web(url: str) -> Iterator[Callable[..., tuple["subprocess.Popen[str]", str]]]:
    """Start `outbox web`; the process, and the address that it says."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> tuple["subprocess.Popen[str]", str]:
        process = Command(["--database", url]).start("web", "--port", "0", *options)
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("the dashboard is at "), line
        return process, line.removeprefix("the dashboard is at ").strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def status_of(address: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(
    web: Callable[..., tuple["subprocess.Popen[str]", str]], number: signal.Signals
) -> None:
    process, address = web()
    assert status_of(address) == 200
    assert status_of(f"{address}api/v1/overview") == 200
    assert status_of(address, Host="evil.example") == 421
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_where_users_are_named_people_log_in(web: Callable[..., tuple["subprocess.Popen[str]", str]], tmp_path: Path) -> None:
    table = Command().ok("web-user", "ada", "--role", "admin", stdin=f"{RIGHT}\n{RIGHT}\n").stdout
    (tmp_path / "users.toml").write_text(table)
    _, address = web("--users", str(tmp_path / "users.toml"))
    assert status_of(f"{address}api/v1/overview") == 401


@pytest.mark.parametrize("believed", [True, False])
def test_a_proxy_in_front_is_believed_where_there_is_one(
    web: Callable[..., tuple["subprocess.Popen[str]", str]], tmp_path: Path, believed: bool
) -> None:
    (tmp_path / "users.toml").write_text("[ada]\nrole = 'admin'\npassword = 'scrypt:x'")
    allowed = ["--users", str(tmp_path / "users.toml"), "--allow-host", "outbox.example"]
    _, address = web(*allowed, *(["--behind-proxy"] if believed else []))
    forwarded = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "outbox.example"}
    assert status_of(f"{address}login", **forwarded) == (200 if believed else 421)
    if believed:
        with urllib.request.urlopen(urllib.request.Request(f"{address}login", headers=forwarded), timeout=30) as answer:
            assert "Secure" in answer.headers["Set-Cookie"]


def test_nobody_comes_through_a_proxy_without_a_log_in(url: str) -> None:
    ended = Command(["--database", url])("web", "--behind-proxy")
    assert (ended.status, "name a file of those who may log in" in ended.complaint) == (2, True)


def test_a_users_password_is_printed_as_a_hash_alone() -> None:
    ended = Command().ok("web-user", 'a "quoted" name\\', "--role", "operator", stdin=f"{RIGHT}\n{RIGHT}\n")
    ((name, user),) = tomllib.loads(ended.stdout).items()
    assert (name, user["role"]) == ('a "quoted" name\\', "operator")
    assert RIGHT not in ended.stdout + ended.stderr
    assert check_password_hash(user["password"], RIGHT)


def test_an_address_that_others_reach_needs_users(url: str) -> None:
    ended = Command(["--database", url])("web", "--host", "0.0.0.0")
    assert ended.status == 2
    assert "name a file of those who may log in" in ended.complaint


def test_an_address_that_cannot_be_listened_on_is_told(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = Command(["--database", url])("web", "--port", str(taken.getsockname()[1]))
    assert ended.status == 2
    assert "cannot be listened on: Address already in use" in ended.complaint


USERS = {
    "": "names nobody",
    "ada = 3": "it is no table",
    "[ada": "is not TOML",
    "[ada]\nrole = 'admin'\npassword = 'plain secret'": "password is not a hash",
    "[ada]\nrole = 'admim'\npassword = 'scrypt:x'": "did you mean 'admin'?",
    "[ada]\nrole = 'admin'\npassword = 'scrypt:x'\npasword = 'y'": "there is no option 'pasword'; did you mean 'password'?",
}


@pytest.mark.parametrize("content", USERS)
def test_a_file_of_users_that_means_nothing_is_refused_without_its_secrets(url: str, tmp_path: Path, content: str) -> None:
    (tmp_path / "users.toml").write_text(content)
    ended = Command(["--database", url])("web", "--users", str(tmp_path / "users.toml"))
    assert ended.status == 2
    assert USERS[content] in ended.complaint
    assert "plain secret" not in ended.stderr


def test_a_file_of_users_that_is_not_there_is_told(url: str, tmp_path: Path) -> None:
    ended = Command(["--database", url])("web", "--users", str(tmp_path / "nothing.toml"))
    assert (ended.status, "No such file" in ended.complaint) == (2, True)


def test_a_secret_that_could_be_guessed_is_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users.toml").write_text("[ada]\nrole = 'admin'\npassword = 'scrypt:x'")
    monkeypatch.setenv("OUTBOX_DASHBOARD_SECRET", "short")
    ended = Command(["--database", url])("web", "--users", str(tmp_path / "users.toml"))
    assert (ended.status, "fewer than 32 characters" in ended.complaint) == (2, True)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("localhost.example", False)],
)  # fmt: skip
def test_only_the_machines_own_addresses_count_as_such(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_service_runs_it_and_says_where(tmp_path: Path) -> None:
    running = Service(tmp_path / "var", dashboard="yes", dashboard_port=str(free_port()))
    try:
        address = running.says(r"the dashboard is at (http://127\.0\.0\.1:\d+/)")[1]

        def is_shown() -> bool:
            try:
                return status_of(address) == 200
            except urllib.error.URLError:  # not yet
                return False

        eventually(is_shown, "the dashboard does not answer")
        with urllib.request.urlopen(f"{address}api/v1/overview", timeout=30) as answer:
            assert b'"max_in_flight": 1000' in answer.read()
    finally:
        running.close()


def test_the_service_refuses_to_start_where_anybody_could_act(tmp_path: Path) -> None:
    running = Service(tmp_path / "var", dashboard="yes", dashboard_host="0.0.0.0")
    try:
        assert running.ends() == 1
        assert "see OUTBOX_DASHBOARD_USERS" in running.lines[-1]
    finally:
        running.close()
