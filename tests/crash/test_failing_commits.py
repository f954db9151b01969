"""The database fails while a process lives: after a commit that took effect all the same, or for want of space before one."""

import sqlite3
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import OperationalError

from outbox import checkpoints
from tests.crash.lives import Life, Stage

LOST_ANSWER = OperationalError("commit", None, Exception("server closed the connection"), connection_invalidated=True)
FULL_DISK = OperationalError("update", None, sqlite3.OperationalError("database or disk is full"))
VERBS = ["stamp", "claim", "take", "settle", "settle_and_take", "release", "redispatch", "rescue", "expire", "prune", "mend"]


class Failure:
    """Fails the first time that the process comes to a checkpoint."""

    def __init__(self, checkpoint: str, error: Exception) -> None:
        self._checkpoint = checkpoint
        self._error = error
        self.has_happened = False

    def __call__(self, checkpoint: str) -> None:
        if checkpoint == self._checkpoint and not self.has_happened:
            self.has_happened = True
            raise self._error


@pytest.fixture(autouse=True)
def nobody_listens() -> Iterator[None]:
    yield
    checkpoints.listen(None)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("moment", "error"),
    [pytest.param("committed", LOST_ANSWER, id="lost answer"), pytest.param("before_commit", FULL_DISK, id="full disk")],
)
@pytest.mark.proves("T1", "T2")
def test_a_commit_that_fails_costs_time_and_never_a_message_or_a_second_send(
    stage: Stage, verb: str, moment: str, error: Exception
) -> None:
    life = Life(stage)
    failure = Failure(f"{verb}.{moment}", error)
    checkpoints.listen(failure)

    life.pass_by()

    assert failure.has_happened
    life.judge()
