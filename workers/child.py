"""One process that the supervisor keeps alive."""

import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import IO, Final

STABLE_AFTER_S: Final = 10.0
LONGEST_PAUSE_S: Final = 30.0


class Stage(IntEnum):
    """Children start in this order and stop in the reverse one, so that nobody misses what it relies on."""

    BROKER = 0
    NODES = 1
    BEAT_AND_FLOWER = 2


@dataclass(frozen=True)
class ChildStatus:
    """What a child is doing; ``pid`` is ``None`` while it does not run."""

    name: str
    pid: int | None
    restarts: int


@dataclass
class Child:
    """A command, the process that runs it, and when to run it again.

    Output is appended to the file ``log``; where that is ``None`` it goes to the supervisor's own output.
    """

    name: str
    stage: Stage
    command: list[str]
    environment: Mapping[str, str]
    log: Path | None
    restarts: int = 0
    start_at: float | None = 0.0
    """The monotonic time from which on it is to be started; ``None`` once it was."""
    _early_ends: int = 0
    _started_at: float = 0.0
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def status(self) -> ChildStatus:
        """A snapshot."""
        return ChildStatus(self.name, self.pid, self.restarts)

    def start(self, group: int) -> None:
        """Start the process in this process group. Raises `OSError`."""
        self._started_at = time.monotonic()
        with ExitStack() as files:
            output: IO[bytes] | None = files.enter_context(self.log.open("ab")) if self.log else None
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                env={**os.environ, **self.environment},
                process_group=group,
            )
        self.start_at = None

    def end_noticed(self) -> str | None:
        """How the process ended, told once; `plan_restart` is then due."""
        if self.start_at is not None or self._process is None or self._process.poll() is None:
            return None
        code = self._process.returncode
        return f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"

    def plan_restart(self) -> float:
        """Set the next start and return the seconds until then: none after a stable run, doubled at each early end."""
        now = time.monotonic()
        self._early_ends = 0 if now - self._started_at >= STABLE_AFTER_S else self._early_ends + 1
        pause_s = restart_pause_s(self._early_ends)
        self.start_at = now + pause_s
        self.restarts += 1
        return pause_s

    def terminate(self) -> None:
        """Ask the process to finish what it does and go."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End the process now."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def restart_pause_s(early_ends: int) -> float:
    """Seconds to wait before a restart, after so many early ends in a row."""
    return min(LONGEST_PAUSE_S, 2.0 ** (early_ends - 1)) if early_ends else 0.0
