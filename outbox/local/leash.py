"""A process group that cannot outlive the process that holds it.

The holder puts every child into one group, whose first member is this file, run as a program, with its standard input a
pipe from the holder. However the holder ends, SIGKILL included, the kernel closes the pipe; the program then kills
its whole group, itself included, and no process stays behind: neither a child nor a child's child. A child that is being
started inherits the pipe until it has joined the group, so it cannot slip through.
"""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass


@dataclass
class Leash:
    """The holder's side; ``group`` is the process group for its children."""

    group: int = 0
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def pid(self) -> int | None:
        """The process that holds the group, while there is one."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def hold(self) -> None:
        """Make sure that the group exists and is held, even if somebody killed the process that held it."""
        if self.pid is not None:
            return
        self._reap()
        try:
            self._process = self._run(self.group)
        except PermissionError:  # nobody is left in the group, and it with them
            self._process = self._run(0)
            self.group = 0
        self.group = self.group or self._process.pid

    def let_go(self) -> None:
        """End whatever is in the group."""
        if self._process is not None:
            self.hold()
            self._reap()

    @staticmethod
    def _run(group: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-I", __file__], stdin=subprocess.PIPE, process_group=group)

    def _reap(self) -> None:
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate()


def main() -> None:
    """Wait until nobody holds the other end of the pipe, then end the group."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
