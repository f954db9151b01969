"""pytest-celery's containers without a container engine: each is a process of this machine."""

import signal as signals
from typing import Any

from pytest_celery import CeleryWorkerContainer, RedisContainer

from tests.integration.celery.nodes import Node
from tests.servers.valkey import OwnValkeyServer


class LocalBroker(RedisContainer):
    """A Valkey of this machine. What a container engine would be asked is answered by the process."""

    def __init__(self, server: OwnValkeyServer) -> None:  # not the base class's: there is no container
        self._server = server
        self._running = True

    @property
    def id(self) -> str:
        return "local-broker"

    @property
    def name(self) -> str:
        return "local-broker"

    @property
    def status(self) -> str:
        return "running" if self._running else "exited"

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def host_url(self) -> str:
        return self._server.url

    @property
    def hostname(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        return int(self._server.url.rpartition(":")[2].partition("/")[0])

    def ready(self) -> bool:
        return self._running

    def reload(self) -> None:
        """The process is asked each time."""

    def logs(self) -> str:
        return ""

    def kill(self, signal: str | int = "SIGKILL") -> None:
        self._running = False
        if signal == "SIGKILL":
            self._server.process.kill()
        else:
            self._server.process.stop()

    def restart(self, timeout: int = 10) -> None:
        if self._running:
            self._server.process.stop()
        self._server.process.start()
        self._running = True


class LocalWorker(CeleryWorkerContainer):
    """A worker node of this machine."""

    def __init__(self, node: Node) -> None:  # not the base class's: there is no container
        self._node = node

    @property
    def id(self) -> str:
        return self._node.name

    @property
    def name(self) -> str:
        return self._node.name

    @property
    def status(self) -> str:
        return "running" if self._node.is_running() else "exited"

    def ready(self) -> bool:
        self._node.await_ready()
        return True

    def reload(self) -> None:
        """The process is asked each time."""

    def logs(self) -> str:
        return self._node.log()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        number = signals.Signals[signal] if isinstance(signal, str) else signal
        if number == signals.SIGKILL:
            self._node.kill()
        else:
            self._node.stop()

    def restart(self, timeout: int = 10, **_options: Any) -> None:
        if self._node.is_running():
            self._node.stop()
        self._node.revive()
