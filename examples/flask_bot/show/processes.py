"""The bot and its receiver as processes of their own, which end with this one however it ends."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outbox.errors import OutboxError
from outbox.local.leash import Leash


class DidNotStart(OutboxError):
    """A process of the example ended before it served; the text says where to read why."""


@contextmanager
def leash() -> Iterator[Leash]:
    """A process group that cannot outlive this process."""
    held = Leash()
    held.hold()
    try:
        yield held
    finally:
        held.let_go()


def start(module: str, *arguments: str, on: Leash, log: Path, **environment: str) -> str:
    """Run a module that serves HTTP and prints its address first; returns the address."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **environment},
            process_group=on.group,
            text=True,
        )
    assert process.stdout is not None  # noqa: S101 - it was asked for
    with process.stdout as output:
        address = output.readline().strip()
    if not address:
        raise DidNotStart(f"{module} did not start (see {log})")
    return address
