"""What one delivery task came to."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from outbox.policy.retry import RELEASED
from outbox.store.records import Settlement


@dataclass(slots=True)
class DeliveryReport:
    """What became of its claims, and whether others have work by it."""

    statuses: Counter[str] = field(default_factory=Counter)
    """Attempts by the status that their row got."""
    refused: int = 0
    """Claims that were not admitted at take."""
    released: int = 0
    """Rows given back unstarted."""
    aside: int = 0
    """Claims that the process sees to while the task itself is over."""
    unblocked: bool = False
    """Whether rows that waited behind one of these became due."""
    freed: bool = False
    """Whether the channel's allowance was used up, and these have left it."""

    def count(self, recorded: Iterable[Settlement]) -> None:
        """These outcomes are on record."""
        for settlement in recorded:
            if settlement.outcome == RELEASED:
                self.released += 1
            else:
                self.statuses[settlement.verdict.status] += 1

    @property
    def made_due(self) -> bool:
        """Whether rows are due that were not before."""
        return self.unblocked or self.released > 0

    @property
    def leaves_work(self) -> bool:
        """Whether more may be due than was before."""
        return self.made_due or self.freed
