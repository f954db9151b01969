"""The services of docker-compose.yml without containers: their commands and environments, on servers of the tests."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from outbox import Outbox
from tests.command import Command
from tests.rewriting import rewritten
from tests.servers.kept import free_port
from tests.servers.supervised import PROJECT, leash

PATIENCE_S = 90
SERVICES = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
MODULES = {"outbox": ["-m", "outbox.cli"], "celery": ["-m", "celery"], "waitress-serve": ["-m", "waitress"], "python": []}


class Host:
    """Runs a service's command in its environment, where its addresses and paths are those of the test."""

    def __init__(self, directory: Path, database_url: str, broker_url: str) -> None:
        self.directory = directory
        self.ports = {name: free_port() for name in ("shop", "flower", "dashboard", "metrics")}
        self.users = directory / "users.toml"
        self._places = {
            "postgresql+psycopg://outbox:outbox@postgres/outbox": database_url,
            "redis://valkey:6379/0": broker_url,
            "/etc/outbox/channels.toml": str(PROJECT / "deploy/channels.toml"),
            "/run/secrets/dashboard_users": str(self.users),
            "0.0.0.0:8000": f"127.0.0.1:{self.ports['shop']}",
            "--port=5555": f"--port={self.ports['flower']}",
            "8700": str(self.ports["dashboard"]),
            "0.0.0.0": "127.0.0.1",
        }

    def run(self, name: str) -> str:
        done = subprocess.run(
            self._command(name), cwd=PROJECT, env=self._environment(name), capture_output=True, text=True, check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        leash().hold()
        with (self.directory / f"{name}.log").open("wb") as output:
            process = subprocess.Popen(
                self._command(name), cwd=PROJECT, env=self._environment(name), stdout=output, stderr=subprocess.STDOUT,
                process_group=leash().group,
            )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE_S)

    def health(self, name: str) -> int:
        """What the image's health check says in the container of a service."""
        command = [sys.executable, "-m", "workers.health"]
        return subprocess.run(command, cwd=PROJECT, env=self._environment(name), check=False, timeout=PATIENCE_S).returncode

    def get(self, name: str, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.ports[name]}{path}", **options)

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def _command(self, name: str) -> list[str]:
        program, *rest = [self._here(word) for word in SERVICES[name]["command"]]
        return [sys.executable, *MODULES[program], *rest]

    def _environment(self, name: str) -> dict[str, str]:
        environment = {key: self._here(value) for key, value in SERVICES[name]["environment"].items()}
        own = {
            "OUTBOX_DATA_DIR": str(self.directory / "state"), "OUTBOX_METRICS_PORT": str(self.ports["metrics"]),
            "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(PROJECT),
        }  # fmt: skip
        return {**os.environ, **own, **environment}

    def _here(self, text: str) -> str:
        return rewritten(re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(text)), self._places)


def await_that(condition: Callable[[], bool], log: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, log()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.postgres
def test_what_is_ordered_over_http_is_delivered_by_the_services(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    host = Host(tmp_path, postgres_url, redis_url)
    assert "upgraded" in host.run("migrate")
    outbox = Outbox(postgres_url)
    with ExitStack() as stack:
        for name in ("relay", "worker", "beat", "shop"):
            stack.enter_context(host.running(name))
        await_that(lambda: _ordered(f"http://127.0.0.1:{host.ports['shop']}/orders"), lambda: host.log("shop"))
        await_that(
            lambda: {message.status for message in outbox.list()} == {"delivered"},
            lambda: host.log("relay") + host.log("worker"),
        )
        messages = outbox.list()
    outbox.close()
    assert sorted(message.channel for message in messages) == ["books", "warehouse"]
    assert all(message.id in host.log("worker") for message in messages)


@pytest.mark.long
@pytest.mark.postgres
def test_what_shows_the_outbox_is_there_for_who_may_see_it(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    host = Host(tmp_path, postgres_url, redis_url)
    host.users.write_text(Command().ok("web-user", "ada", "--role", "operator", stdin="a long password\n" * 2).stdout)
    assert host.health("worker") == 1  # nothing was migrated
    host.run("migrate")
    with ExitStack() as stack:
        for name in ("flower", "dashboard", "metrics"):
            stack.enter_context(host.running(name))
        for name, path in {"flower": "/healthcheck", "dashboard": "/login", "metrics": "/metrics"}.items():
            await_that(lambda name=name, path=path: _answers(host, name, path), lambda name=name: host.log(name))  # type: ignore[misc]
            assert host.health(name) == 0
        assert "outbox_database_up 1.0" in host.get("metrics", "/metrics").text
        ada, nobody = ("ada", "a long password"), ("ada", "guessed")
        assert [host.get("dashboard", "/api/v1/overview", auth=auth).status_code for auth in (ada, nobody)] == [200, 401]
        password = (tmp_path / "state/flower-password").read_text()
        assert [
            host.get("flower", "/api/workers", auth=auth).status_code for auth in (("outbox", password), ("outbox", "guessed"))
        ] == [200, 401]


def _answers(host: Host, name: str, path: str) -> bool:
    try:
        return host.get(name, path).status_code == 200
    except httpx.TransportError:
        return False


def _ordered(url: str) -> bool:
    try:
        return httpx.post(url, data={"customer": "ada@example.org", "item": "tea"}).status_code == 201
    except httpx.TransportError:
        return False
