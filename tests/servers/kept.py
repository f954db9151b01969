"""A server process that cannot outlive the tests, and that tests may stop, kill, freeze and start again."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import keeper

START_TIMEOUT_S = 60


class ServerFailed(Exception):
    """The server ended or stayed silent while it was being started; the text ends with its log."""


@dataclass
class KeptServer:
    """One server and its data directory, held by a keeper process of its own.

    ``is_ready`` is asked until it returns true; it may raise `OSError` for "not yet".
    """

    command: Sequence[str]
    directory: Path
    is_ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None
    _keeper: "subprocess.Popen[str] | None" = None
    _pid: int | None = None

    @property
    def pid(self) -> int:
        """The process id of the server itself."""
        assert self._pid is not None, "the server has not been started"
        return self._pid

    def start(self) -> None:
        """Start the server on its directory and return when it answers."""
        assert self._keeper is None, "the server is already held"
        order = {
            "command": [str(part) for part in self.command],
            "directory": str(self.directory),
            "stop_signal": int(self.stop_signal),
            "user": self.user,
        }
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", keeper.__file__, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **self.environment},  # which the server inherits
            text=True,
            start_new_session=True,  # Ctrl-C is for pytest, which then closes the pipe
        )
        assert self._keeper.stdout is not None
        answer = self._keeper.stdout.readline()
        if not answer:
            self._let_go("")
            self.close()
            raise ServerFailed(f"{self.command[0]} could not be executed")
        self._pid = int(answer)
        self._await_ready()

    def stop(self) -> None:
        """Stop the server in good order; its data stays, and `start` brings it back."""
        self._let_go(keeper.KEEP_DIRECTORY)

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would; its data stays."""
        for process in keeper.process_tree(self.pid):
            process.kill()
        self._let_go(keeper.KEEP_DIRECTORY)

    def freeze(self) -> None:
        """Suspend the server: connections stay open and nothing answers."""
        for process in keeper.process_tree(self.pid):
            process.suspend()

    def thaw(self) -> None:
        """End what `freeze` began."""
        for process in keeper.process_tree(self.pid):
            process.resume()

    def close(self) -> None:
        """Stop the server, if it runs, and remove its data."""
        if self._keeper is None:
            shutil.rmtree(self.directory)
        else:
            self._let_go("")

    def is_running(self) -> bool:
        """Whether the server's process exists."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _let_go(self, last_word: str) -> None:
        assert self._keeper is not None, "the server is not running"
        held, self._keeper = self._keeper, None
        held.communicate(last_word)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            alive = self.is_running()
            try:
                if self.is_ready():
                    return
            except OSError:
                pass
            if not alive:
                break
            time.sleep(0.02)
        log = (self.directory / "server.log").read_text(errors="replace")
        self._let_go("")
        raise ServerFailed(f"{self.command[0]} did not start\n{log}")


def new_directory(prefix: str) -> Path:
    """A directory for a server's data, outside pytest's own, which other users cannot enter."""
    return Path(tempfile.mkdtemp(prefix=f"outbox-{prefix}-"))


def free_port() -> int:
    """A port that was free on the loopback interface a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
