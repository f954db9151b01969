"""What every benchmark stands on: durable servers, and processes that end with the run."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path

import redis

from tests.servers import postgresql, valkey
from tests.servers.postgresql import OwnPostgresServer
from tests.servers.valkey import OwnValkeyServer

PROJECT = Path(__file__).parents[1]
PATIENCE_S = 300.0


class Stuck(Exception):
    """A benchmark waited in vain; the text tells for what, and ends with the processes' logs."""


@dataclass
class Lab:
    """Servers are started when they are first asked for, and everything ends with the ``with`` block of :func:`opened`."""

    directory: Path
    rounds: int
    quick: bool
    told: Callable[[], None]
    """Call it after each measurement: it moves the progress bar."""
    running: list[int] = field(default_factory=list)
    """Process ids of what :meth:`processes` has running."""
    _closing: ExitStack = field(default_factory=ExitStack)
    _logs: list[Path] = field(default_factory=list)
    _brokers: Iterator[int] = field(default_factory=count)
    _numbers: Iterator[int] = field(default_factory=count)

    @cached_property
    def valkey(self) -> OwnValkeyServer:
        return self._closing.enter_context(valkey.running())

    def broker(self) -> str:
        """The URL of a broker with nothing in it: a database of its own on the one Redis-protocol server."""
        return self.valkey.url.removesuffix("/0") + f"/{next(self._brokers)}"

    def client(self, broker: str) -> "redis.Redis":
        """For the counters that live beside a broker's queues."""
        client: redis.Redis = redis.Redis.from_url(broker)
        self._closing.callback(client.close)
        return client

    @cached_property
    def postgres(self) -> OwnPostgresServer:
        return self._closing.enter_context(postgresql.running_own(durable=True))

    def database(self, kind: str) -> str:
        """The URL of a new, empty database: of ``sqlite`` or ``postgresql``."""
        if kind == "sqlite":
            return f"sqlite:///{self.directory}/{next(self._numbers)}.db"
        return self._closing.enter_context(self.postgres.database())

    def sized(self, full: int, quick: int) -> int:
        """How many, in this mode."""
        return quick if self.quick else full

    @contextmanager
    def processes(
        self, commands: Sequence[Sequence[str]], environment: Mapping[str, str], *, python: Path | str = sys.executable
    ) -> Iterator[list[int]]:
        """Python processes (``-m`` and arguments) for the length of the block; yields their ids."""
        started = [self._start(python, command, environment) for command in commands]
        pids = [process.pid for process in started]
        self.running += pids
        try:
            yield pids
        finally:
            for process in started:
                process.terminate()
            for process in started:
                _await_end(process)
                self.running.remove(process.pid)

    def _start(self, python: Path | str, command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        log = self.directory / f"{next(self._numbers)}.log"
        self._logs.append(log)
        with log.open("wb") as output:
            return subprocess.Popen(
                [str(python), "-m", *command],
                cwd=PROJECT, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def wait(
        self, condition: Callable[[], object], what: str, *, every_s: float = 0.005, patience_s: float = PATIENCE_S
    ) -> None:
        """Poll until the condition holds. Raises :class:`Stuck` when patience is at its end."""
        deadline = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-2000:]}" for log in self._logs)
                raise Stuck(f"waited {patience_s:g} s for {what}\n{logs}")
            time.sleep(every_s)


@contextmanager
def opened(*, rounds: int, quick: bool, told: Callable[[], None]) -> Iterator[Lab]:
    """A lab whose servers, processes and files are gone after the block."""
    with tempfile.TemporaryDirectory(prefix="outbox-bench-") as directory:
        lab = Lab(Path(directory), rounds, quick, told)
        with lab._closing:
            yield lab


def _await_end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
