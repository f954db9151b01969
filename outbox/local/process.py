"""One process of this machine with a log, which may be signalled, killed and started again."""

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from outbox.local.leash import Leash

PAUSE_S: Final = 0.02


class LocalProcess:
    """A command and the process that runs it. Whatever descends from it ends with it, and with this process at the latest.

    Output is appended to the file ``log``; ``environment`` is added to that of this process.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._command = list(command)
        self._log = log
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._leash = Leash()
        self._begins_at = 0

    def start(self) -> None:
        """Run the command; not again while it runs. Raises `OSError` where it cannot be executed."""
        if self.is_running():
            return
        self.kill()  # descendants may have outlived it
        with self._log.open("ab") as output:
            self._begins_at = output.tell()
            self._leash.hold()
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environment},
                process_group=self._leash.group,
            )

    def is_running(self) -> bool:
        """Whether the process itself is there."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the process itself, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End the process and its descendants now, as when a host dies."""
        self._leash.let_go()
        if self._process is not None:
            self._process.wait()

    def stop(self, timeout_s: float) -> None:
        """Ask the process to finish and go, and kill what is left of its family after so many seconds or before."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        self.kill()

    def await_text(self, text: str, timeout_s: float) -> bool:
        """Wait until the process has printed this since its start; whether it has, before its end and in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            may_print = self.is_running()  # asked first: what it printed last is read afterwards
            if text in self.log(since_start=True):
                return True
            if not may_print or time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_S)

    def log(self, *, since_start: bool = False) -> str:
        """What has been printed: by every run, or since the latest start."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            log.seek(self._begins_at if since_start else 0)
            return log.read().decode(errors="replace")
