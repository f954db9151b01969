"""A real RabbitMQ: the one that ``OUTBOX_TEST_RABBITMQ_URL`` names, or one of our own from the system's package."""

import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kombu

from tests.servers.kept import KeptServer, free_port, new_directory

# Debian's /usr/sbin/rabbitmq-server insists on the system's account and directories; the scripts behind it do not.
SCRIPTS = (Path("/usr/lib/rabbitmq/bin"), Path("/opt/homebrew/sbin"), Path("/usr/local/sbin"))
HOW_TO_GET_ONE = "no RabbitMQ server: install the package rabbitmq-server, or set OUTBOX_TEST_RABBITMQ_URL"


class NotInstalled(Exception):
    """This machine has no RabbitMQ; the text says what to do."""


class RabbitServer:
    """Somebody's server, used as it is: tests share its virtual host."""

    def __init__(self, url: str) -> None:
        self.url = url

    @contextmanager
    def virtual_host(self) -> Iterator[str]:
        """The URL of a place for one test."""
        yield self.url


class OwnRabbitServer(RabbitServer):
    """A node of our own on loopback ports, with a port mapper of its own, since Erlang's would stay behind."""

    def __init__(self, scripts: Path) -> None:
        port, distribution_port, mapper_port = free_port(), free_port(), free_port()
        super().__init__(f"amqp://guest:guest@127.0.0.1:{port}//")
        directory = new_directory("rabbitmq")
        (directory / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\n")
        (directory / "enabled_plugins").write_text("[].")
        self._scripts = scripts
        self._environment = {
            "HOME": str(directory),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(mapper_port),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "no-such-file"),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_NODENAME": f"outbox-{uuid.uuid4().hex[:12]}@localhost",
            "RABBITMQ_PID_FILE": str(directory / "rabbitmq.pid"),
        }
        self.process = KeptServer([str(scripts / "rabbitmq-server")], directory, self._answers, self._environment)
        self._port_mapper = KeptServer(
            [shutil.which("epmd") or "epmd", "-port", str(mapper_port), "-address", "127.0.0.1"],
            new_directory("epmd"),
            is_ready=lambda: _listens(mapper_port),
        )

    def start(self) -> None:
        """Start the node; takes some ten seconds."""
        self._port_mapper.start()
        try:
            self.process.start()
        except BaseException:
            self._port_mapper.close()
            raise

    def close(self) -> None:
        """Stop the node and remove its data."""
        self.process.close()
        self._port_mapper.close()

    @contextmanager
    def virtual_host(self) -> Iterator[str]:
        """The URL of a virtual host that exists as long as the block runs."""
        name = f"test-{uuid.uuid4().hex}"
        self._control("add_vhost", name)
        try:
            self._control("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
            yield self.url.removesuffix("/") + name
        finally:
            self._control("delete_vhost", name)

    def _control(self, *command: str) -> None:
        subprocess.run(
            [self._scripts / "rabbitmqctl", "--quiet", *command],
            check=True,
            capture_output=True,
            cwd=self.process.directory,
            env={**os.environ, **self._environment},
        )

    def _answers(self) -> bool:
        with kombu.Connection(self.url, connect_timeout=2) as connection:
            connection.connect()
        return True


@contextmanager
def running() -> Iterator[RabbitServer]:
    """The server for this test process; raises `NotInstalled` where none is to be had."""
    given = os.environ.get("OUTBOX_TEST_RABBITMQ_URL")
    if given:
        yield RabbitServer(given)
        return
    scripts = next((path for path in SCRIPTS if (path / "rabbitmq-server").exists()), None)
    if scripts is None:
        raise NotInstalled(HOW_TO_GET_ONE)
    server = OwnRabbitServer(scripts)
    server.start()
    try:
        yield server
    finally:
        server.close()


def _listens(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), timeout=2).close()
    return True
