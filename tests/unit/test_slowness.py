import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from outbox import Outbox
from outbox.slowness import REMEMBERED_S, SlowChannels


def in_child(work: Callable[[], object]) -> None:
    """Done by a forked process."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_one_process_of_a_pool_learns_the_others_know() -> None:
    slow = SlowChannels()

    in_child(lambda: slow.add("chat"))

    assert "chat" in slow
    assert "mail" not in slow


def test_a_forked_process_tells_its_parent(tmp_path: Path) -> None:
    outbox = Outbox(f"sqlite:///{tmp_path}/outbox.db")

    in_child(lambda: outbox.delivery.slow_channels.add("chat"))

    assert "chat" in outbox.delivery.slow_channels


def test_it_is_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowChannels()
    slow.add("chat")
    later = time.monotonic() + REMEMBERED_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)

    assert "chat" not in slow
