"""The service under test: ``python -m workers`` as a process, and everything that belongs to it."""

import atexit
import functools
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import kombu.exceptions
import psutil
import redis
from celery import Celery

from config.settings import load_settings
from outbox.local.leash import Leash
from workers import broker, embedded_broker

PROJECT = Path(__file__).parents[2]
PATIENCE_S = 60
_ALONE = {"flower": "no", "metrics": "no", "dashboard": "no"}


class Service:
    """A supervisor in a process of its own, and everything that belongs to it."""

    def __init__(self, data_dir: Path, *options: str, deaf_after: str = "", **settings: str) -> None:
        self.data_dir = data_dir
        self._deaf_after = deaf_after
        self.lines: list[str] = []
        self.process = start(
            ["workers", *options],
            {"data_dir": str(data_dir), **_ALONE, "nodes": "1", "pool": "threads", **settings},
            cwd=data_dir.parent,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self._output = self.process.stdout
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with self._output:
            for line in self._output:
                self.lines.append(line)
                if self._deaf_after and self._deaf_after in line:
                    break

    def says(self, pattern: str) -> "re.Match[str]":
        """Wait for a line of output; the last one that matches."""

        def said() -> list[re.Match[str]]:
            return [match for line in list(self.lines) if (match := re.search(pattern, line))]

        eventually(lambda: said() or self.process.poll() is not None, f"{pattern!r} is not said")
        found = said()
        assert found, self.lines
        return found[-1]

    def pid_of(self, child: str) -> int:
        """The process id of a child, by its latest start."""
        return int(self.says(rf"{child} started, pid (\d+)")[1])

    def log_of(self, child: str) -> str:
        """What a child has logged so far."""
        return (self.data_dir / "log" / f"{child}.log").read_text(errors="replace")

    def pids_of(self, node: str) -> list[int]:
        """The processes of a worker node, whose name ends with ``@``."""
        return [process.pid for process in self.everyone() if f"--hostname={node}" in command_line(process)]

    def ping(self, broker_url: str | None = None) -> set[str]:
        """The names of the nodes that answer."""
        url = broker.broker_url(load_settings(data_dir=self.data_dir, broker_url=broker_url))
        with Celery(broker=url) as app:
            try:
                answers = app.control.ping(timeout=1)
            except (kombu.exceptions.OperationalError, redis.ConnectionError):
                return set()
        return {name.partition("@")[0] for answer in answers for name in answer}

    def is_up(self, broker_url: str | None = None) -> None:
        """Wait until the supervisor, its nodes and beat do their work."""
        self.says("running")
        missing = {"node-1", "relay", "beat"}

        def all_answered() -> bool:
            missing.difference_update(self.ping(broker_url))
            return not missing

        eventually(all_answered, "not everybody answers")

    def everyone(self) -> list[psutil.Process]:
        """Every process on this machine that was started for this data directory, the supervisor's included."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def leashes(self) -> list[psutil.Process]:
        """The processes that end the others."""
        return [process for process in self.everyone() if "leash.py" in command_line(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            # The broker writes its title over its environment.
            ours = process.environ().get("OUTBOX_DATA_DIR") == str(self.data_dir)
            ours = ours or str(embedded_broker.socket_path(self.data_dir)) in command_line(process)
            return ours and is_running(process)
        except psutil.Error:  # gone meanwhile, or somebody else's
            return False

    def ends(self) -> int:
        """Wait for the supervisor's end and return its status."""
        status = self.process.wait(PATIENCE_S)
        self._reader.join()
        return status

    def close(self) -> None:
        """End it as a crash would. Nobody stays behind, whatever the test did."""
        self.process.kill()
        self.process.wait()
        try:
            eventually(lambda: not self.everyone(), "processes stay behind")
        finally:
            for process in self.everyone():
                process.kill()
            self._reader.join()


def start(
    module: list[str], settings: dict[str, str], *, cwd: Path, stdout: int | IO[bytes] | None = None
) -> "subprocess.Popen[str]":
    """Run ``python -m`` something with settings of the service, as a process that ends with the tests at the latest."""
    leash().hold()
    return subprocess.Popen(
        [sys.executable, "-m", *module],
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            **{f"OUTBOX_{name.upper()}": value for name, value in settings.items()},
        },
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=leash().group,
    )


@functools.cache
def leash() -> Leash:
    """What ends the processes of the tests when the tests end, however they end."""
    held = Leash()
    atexit.register(held.let_go)
    return held


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], object], otherwise: str) -> None:
    """Wait until the condition holds, or fail."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)
