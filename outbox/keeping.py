"""What is not on record yet: each outcome is kept until it is, and somebody tries to record it meanwhile."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from outbox.store.records import Settlement
from outbox.telemetry import AttemptFinished

RETRY_S = 2.0
"""Between the tries to record what is kept. A rescued row is due again after five seconds at the earliest."""

HURRY_S = 0.1
"""The same while somebody waits for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Ended:
    """An outcome on its way into the database, and what to tell once it stands."""

    settlement: Settlement
    event: AttemptFinished


class Kept:
    """The outcomes of one process that are not on record. Safe to share between threads.

    Each stays until it is on record, so that the process knows what it holds while somebody is writing it. Several may
    write it at once, and the lease lets one of them; ``remove`` says to one of them that it is over.
    """

    def __init__(self, record: Callable[[], None]) -> None:
        """``record`` tries to record all of them once, removes what is over, and raises nothing."""
        self._record = record
        self._outcomes: dict[Ended, bool] = {}
        """In the order in which they ended; whether it has been told that they are delayed."""
        self._thread: threading.Thread | None = None
        self._is_urgent = False
        self._hurrying = 0
        self._changed = threading.Condition()

    def all(self) -> list[Ended]:
        """Those that are kept now."""
        with self._changed:
            return list(self._outcomes)

    def add(self, ended: Iterable[Ended], *, is_urgent: bool = False) -> None:
        """Keep these too, and try again after a while; at once if nobody has tried yet."""
        with self._changed:
            for end in ended:
                self._outcomes.setdefault(end, False)
            self._try_soon(is_urgent)

    def remove(self, ended: Iterable[Ended]) -> list[Ended]:
        """These are over. Returns those that were kept still: theirs is the caller's to tell, and nobody else's."""
        with self._changed:
            removed = [end for end in ended if self._outcomes.pop(end, None) is not None]
            self._changed.notify_all()
        return removed

    def untold(self) -> list[Ended]:
        """Those of which nobody has told yet that they are delayed: it is the caller's to tell."""
        with self._changed:
            untold = [end for end, is_told in self._outcomes.items() if not is_told]
            self._outcomes.update(dict.fromkeys(untold, True))
        return untold

    def wait(self, timeout_s: float) -> bool:
        """Try often, for so many seconds, to have all recorded; whether none is left."""
        with self._changed:
            self._hurrying += 1
            has_thread = self._try_soon(True)
        try:
            if not has_thread:
                self._record()
            with self._changed:
                return self._changed.wait_for(lambda: not self._outcomes, timeout_s if has_thread else 0)
        finally:
            with self._changed:
                self._hurrying -= 1

    def _try_soon(self, is_urgent: bool) -> bool:
        """Whether there is a thread for it; where there is no room for one, whoever writes next writes these too."""
        if not self._outcomes:
            return True
        self._is_urgent |= is_urgent
        self._changed.notify_all()
        if self._thread is None:
            thread = threading.Thread(target=self._go_on, name="outbox-settle", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        return True

    def _go_on(self) -> None:
        while self._is_any_left():
            self._record()

    def _is_any_left(self) -> bool:
        """After the pause; where none is left, this thread ends, and the next outcome gets another."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_urgent or not self._outcomes, HURRY_S if self._hurrying else RETRY_S)
            self._is_urgent = False
            if not self._outcomes:
                self._thread = None
            return self._thread is not None
