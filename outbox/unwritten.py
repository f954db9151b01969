"""What one delivery loop still has to write: gathered, so that one transaction serves many."""

import time
from collections.abc import Iterable

from outbox.keeping import Ended
from outbox.message import Claim

GROUP_SIZE = 100
GROUP_AGE_S = 0.025


class Unwritten:
    """Outcomes to record and claims to give back; due when they are many, or when the first has waited for a moment."""

    def __init__(self) -> None:
        self._ended: list[Ended] = []
        self._unstarted: list[Claim] = []
        self._since = 0.0

    def __len__(self) -> int:
        """How many messages it is about."""
        return len(self._ended) + len(self._unstarted)

    @property
    def due_at(self) -> float:
        """When to write what there is (monotonic seconds), whatever else comes."""
        return self._since + GROUP_AGE_S

    @property
    def room(self) -> int:
        """How many outcomes more a group can have."""
        return GROUP_SIZE - len(self._ended)

    @property
    def is_due(self) -> bool:
        """Whether to write now."""
        return self.room <= 0 or (len(self) > 0 and time.monotonic() >= self.due_at)

    def add(self, ended: Ended) -> None:
        """An outcome to record."""
        self._begin()
        self._ended.append(ended)

    def give_back(self, claims: Iterable[Claim]) -> None:
        """Claims that were not begun, and will not be."""
        unstarted = list(claims)
        if unstarted:
            self._begin()
            self._unstarted += unstarted

    def take_ended(self) -> list[Ended]:
        """The outcomes, which are the caller's to record."""
        ended, self._ended = self._ended, []
        return ended

    def take_unstarted(self) -> list[Claim]:
        """The claims, which are the caller's to release."""
        unstarted, self._unstarted = self._unstarted, []
        return unstarted

    def _begin(self) -> None:
        if not self:
            self._since = time.monotonic()
