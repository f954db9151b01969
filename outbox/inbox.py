"""What other threads bring to a delivery loop: how its sends ended, and the claims of further tasks."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from outbox.message import Claim
from outbox.outcome import Outcome
from outbox.sending import Job


class Inbox:
    """Takes everything until the loop closes it; after that, whoever brings something has to see to it."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        self._claims = deque([claims])
        self._answers: deque[tuple[Job, Outcome | None]] = deque()
        self._enough = 1
        self._has_enough = threading.Event()
        self._is_closed = False
        self._lock = threading.Lock()

    def put_answer(self, job: Job, outcome: Outcome | None) -> bool:
        """How a send ended; false where it came too late."""
        with self._lock:
            if self._is_closed:
                return False
            self._answers.append((job, outcome))
            if len(self._answers) >= self._enough:
                self._has_enough.set()
        return True

    def put_claims(self, claims: Sequence[Claim], admit: Callable[[], bool]) -> bool:
        """The claims of another task, if it is not too late and the loop says so; nothing is closed meanwhile."""
        with self._lock:
            if self._is_closed or not admit():
                return False
            self._claims.append(claims)
        self._has_enough.set()
        return True

    def wait(self, answers: int, timeout_s: float) -> None:
        """Until there are so many answers, or claims, or the time is over."""
        self._has_enough.clear()
        self._enough = answers
        if not self._claims and len(self._answers) < answers:
            self._has_enough.wait(timeout_s)

    def answers(self) -> Iterator[tuple[Job, Outcome | None]]:
        """Take out all that have come, and those that come meanwhile."""
        while self._answers:
            yield self._answers.popleft()

    def claims(self) -> Iterator[Sequence[Claim]]:
        """The same for claims, task by task."""
        while self._claims:
            yield self._claims.popleft()

    def close(self) -> None:
        """Take nothing more."""
        with self._lock:
            self._is_closed = True

    def close_unless_claims(self) -> bool:
        """The same, unless a task has brought claims; whether it is closed."""
        with self._lock:
            self._is_closed = not self._claims
        return self._is_closed
