"""When the supervisor starts a child again."""

import sys
import time
from pathlib import Path

import pytest

from workers.child import LONGEST_PAUSE_S, STABLE_AFTER_S, Child, Stage, restart_pause_s


def child(program: str, log: Path) -> Child:
    return Child("child", Stage.NODES, [sys.executable, "-c", program], {}, log)


def ended(one: Child) -> str:
    deadline = time.monotonic() + 30
    while (how := one.end_noticed()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return how


def test_the_pause_doubles_with_every_early_end_up_to_a_limit() -> None:
    assert [restart_pause_s(ends) for ends in range(5)] == [0, 1, 2, 4, 8]
    assert restart_pause_s(1000) == LONGEST_PAUSE_S


@pytest.mark.parametrize(
    ("program", "how"),
    [
        ("raise SystemExit(3)", "ended with status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was killed by signal 9"),
    ],
)
def test_an_end_is_noticed_once_and_told_as_it_was(tmp_path: Path, program: str, how: str) -> None:
    one = child(program, tmp_path / "log")
    one.start(group=0)

    assert ended(one) == how
    one.plan_restart()
    assert one.end_noticed() is None
    assert one.status.restarts == 1
    assert one.status.pid is None


def test_after_a_stable_run_it_starts_again_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = child("print('out'); raise SystemExit(1)", tmp_path / "log")
    started = time.monotonic()
    pauses = []
    for ran_s in (0.0, 0.0, STABLE_AFTER_S, 0.0):
        monkeypatch.setattr(time, "monotonic", lambda: started)
        one.start(group=0)
        monkeypatch.setattr(time, "monotonic", lambda ran_s=ran_s: started + ran_s)
        pauses.append(one.plan_restart())
        one.kill()

    assert pauses == [1, 2, 0, 1]


def test_output_and_errors_go_to_the_log_after_what_stands_there(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    one = child("import sys; print('out', flush=True); print('error', file=sys.stderr)", log)
    one.start(group=0)
    ended(one)

    assert log.read_text() == "before\nout\nerror\n"


def test_a_child_has_the_environment_that_it_is_given(tmp_path: Path) -> None:
    one = Child(
        "child", Stage.NODES, [sys.executable, "-c", "import os; print(os.environ['GIVEN'])"], {"GIVEN": "x"}, tmp_path / "log"
    )
    one.start(group=0)
    ended(one)

    assert (tmp_path / "log").read_text() == "x\n"
