"""A process of this machine, as the nodes for tests are made of it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from outbox.local.process import LocalProcess
from tests.servers.supervised import PROJECT, eventually

WITH_A_CHILD = ["sh", "-c", 'sleep 1000 & echo "child $!"; echo ready; wait']
STUBBORN = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]
HOLDER = f"""
import sys, time
from pathlib import Path
from outbox.local.process import LocalProcess
held = LocalProcess({WITH_A_CHILD!r}, Path(sys.argv[1]))
held.start()
time.sleep(1000)
"""
PATIENCE_S = 60


@pytest.fixture
def process(tmp_path: Path) -> Iterator[LocalProcess]:
    process = LocalProcess(WITH_A_CHILD, tmp_path / "log")
    process.start()
    assert process.await_text("ready", PATIENCE_S)
    yield process
    process.kill()


def child_in(log: str) -> psutil.Process:
    """The latest child that a log tells of."""
    return psutil.Process(int(log.rpartition("child ")[2].split()[0]))


def test_its_descendants_are_killed_with_it(process: LocalProcess) -> None:
    child = child_in(process.log())

    process.kill()

    assert not process.is_running()
    eventually(lambda: not child.is_running(), "the child stays")


def test_descendants_that_outlived_it_are_ended_before_it_starts_again(process: LocalProcess) -> None:
    child = child_in(process.log())
    process.signal(signal.SIGKILL)
    eventually(lambda: not process.is_running(), "the process stays")
    assert child.is_running()

    process.start()

    eventually(lambda: not child.is_running(), "the child stays")
    assert process.await_text("ready", PATIENCE_S)
    assert child_in(process.log()).is_running()


def test_what_it_said_before_a_restart_does_not_count(tmp_path: Path) -> None:
    once = f"mkdir '{tmp_path}/begun' || exit 0; echo ready; exec sleep 1000"
    process = LocalProcess(["sh", "-c", once], tmp_path / "log")
    process.start()
    assert process.await_text("ready", PATIENCE_S)
    process.kill()

    process.start()

    assert not process.await_text("ready", PATIENCE_S), "it ended and said nothing"
    assert "ready" in process.log()
    process.kill()


def test_what_does_not_go_when_it_is_asked_is_killed(tmp_path: Path) -> None:
    process = LocalProcess(STUBBORN, tmp_path / "log")
    process.start()
    assert process.await_text("ready", PATIENCE_S)

    process.stop(timeout_s=0.1)

    assert not process.is_running()


def test_nothing_of_it_outlives_who_started_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(log)], env={**os.environ, "PYTHONPATH": str(PROJECT)})
    eventually(lambda: log.exists() and "ready" in log.read_text(), "it does not start")
    child = child_in(log.read_text())

    holder.kill()
    holder.wait()

    eventually(lambda: not child.is_running(), "the child stays")
