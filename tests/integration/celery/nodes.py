"""Worker and beat processes that end with their test, and waiting for what they do."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from tests.integration.celery import nursery
from tests.servers.keeper import process_tree
from tests.servers.kept import new_directory

PROJECT = Path(__file__).parents[3]
APPLICATION = "tests.integration.celery.app"
PATIENCE_S = 60.0


def eventually(condition: Callable[[], object], what: str | Callable[[], str], *, patience_s: float = PATIENCE_S) -> None:
    """Wait until the condition holds; ``what`` tells what was waited for in vain.

    Who has waited for long looks more rarely: it takes the processor from those who are waited for.
    """
    began = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - began
        if waited_s > patience_s:
            raise AssertionError(f"in vain: {what() if callable(what) else what}")
        time.sleep(min(0.02 + waited_s / 50, 0.1))


class Nursery:
    """The process that nodes are forked from; it has imported what every node needs, and the modules named ``warm`` too."""

    def __init__(self, *warm: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", nursery.__name__, *warm],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], directory: Path) -> psutil.Process:
        order = {"arguments": list(arguments), "environment": dict(environment), "directory": str(directory)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return psutil.Process(int(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate("")


class Node:
    """One ``celery`` process with its children and its log."""

    def __init__(
        self, nursery: Nursery, name: str, arguments: Sequence[str], environment: Mapping[str, str], ready: str,
        application: str = APPLICATION,
    ) -> None:  # fmt: skip
        self.name = name
        self._ready = ready
        self._directory = new_directory(name)
        self._start = lambda: nursery.start(["-A", application, *arguments], environment, self._directory)
        self._process = self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.is_running()

    def revive(self) -> None:
        """Start the node again if it has ended, as whoever runs it in production would."""
        if not self.is_running():
            self._process = self._start()

    def await_ready(self) -> "Node":
        eventually(lambda: self._ready in self.log() or not self.is_running(), lambda: f"{self.name} is ready:\n{self.log()}")
        assert self.is_running(), f"{self.name} ended:\n{self.log()}"
        return self

    def log(self) -> str:
        log = self._directory / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def says(self, text: str) -> None:
        """Wait for a text in the log."""
        eventually(lambda: text in self.log(), lambda: f"{text!r} in the log of {self.name}:\n{self.log()}")

    def children(self) -> set[int]:
        """The process ids of the pool's processes."""
        return {child.pid for child in self._process.children()}

    def terminate(self) -> None:
        """Ask for a warm shutdown."""
        os.kill(self.pid, signal.SIGTERM)

    def await_end(self) -> None:
        eventually(lambda: not self.is_running(), lambda: f"the end of {self.name}:\n{self.log()}")

    def stop(self) -> None:
        """A warm shutdown, to its end."""
        self.terminate()
        self.await_end()

    def kill(self) -> None:
        """SIGKILL for the node and its pool, as when a host dies."""
        family = process_tree(self.pid) if self.is_running() else []
        for process in family:
            process.kill()
        self.await_end()

    def close(self) -> None:
        """End whatever is left and forget the log."""
        self.kill()
        shutil.rmtree(self._directory)
