"""What an import came to, file by file, and how far it is."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from outbox.policy.classification import storable

LONGEST_REASON = 300


class Fate(StrEnum):
    """What became of a file's entry. The first four are what a receipt records."""

    IMPORTED = "imported"
    """It waits for its turn to be sent."""
    EXPIRED = "expired"
    """Older than its TTL: kept and replayable, never sent by itself."""
    DEAD = "dead"
    """A dead letter: kept and replayable, never sent by itself."""
    SENT = "already sent"
    """The old queue sent it; there is a receipt and no message."""
    KNOWN = "already imported"
    """An earlier import, or an equal file of this one, brought it."""


@dataclass(frozen=True, slots=True)
class Left:
    """A file that stays where it is, by its name below the directory, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The files of an import, each counted once. ``messages`` are the rows written: one for each part of a reply.

    ``refused`` files need somebody's attention; ``ignored`` ones are no entries. ``not_archived`` names files that are counted,
    and safe in the database, and yet could not be moved away: importing again moves them.
    """

    imported: int
    expired: int
    dead: int
    already_sent: int
    already_imported: int
    messages: int
    refused: Sequence[Left] = ()
    ignored: Sequence[Left] = ()
    not_archived: Sequence[Left] = ()
    dry_run: bool = False

    @property
    def is_clean(self) -> bool:
        """Whether nothing needs attention."""
        return not (self.refused or self.not_archived)


class Phase(StrEnum):
    """What an import is busy with. Reading puts the entries in order; until it ends, nobody knows how many there are."""

    READING = "reading"
    IMPORTING = "importing"


@dataclass(frozen=True, slots=True)
class Progress:
    """How many files of the phase are done, of how many (``None``: not known yet)."""

    phase: Phase
    done: int
    total: int | None


OnProgress = Callable[[Progress], None]


@dataclass(slots=True)
class Tally:
    """A summary in the making."""

    fates: Counter[Fate] = field(default_factory=Counter)
    messages: int = 0
    refused: list[Left] = field(default_factory=list)
    ignored: list[Left] = field(default_factory=list)
    not_archived: list[Left] = field(default_factory=list)

    def refuse(self, name: str, reason: object) -> None:
        """Note a file that needs attention."""
        self.refused.append(_left(name, reason))

    def ignore(self, name: str, reason: object) -> None:
        """Note a file that is no entry."""
        self.ignored.append(_left(name, reason))

    def keep(self, name: str, reason: object) -> None:
        """Note a file that could not be moved to the archive."""
        self.not_archived.append(_left(name, reason))

    def summary(self, *, dry_run: bool) -> Summary:
        """The summary as it stands."""
        return Summary(
            imported=self.fates[Fate.IMPORTED],
            expired=self.fates[Fate.EXPIRED],
            dead=self.fates[Fate.DEAD],
            already_sent=self.fates[Fate.SENT],
            already_imported=self.fates[Fate.KNOWN],
            messages=self.messages,
            refused=tuple(self.refused),
            ignored=tuple(self.ignored),
            not_archived=tuple(self.not_archived),
            dry_run=dry_run,
        )


def _left(name: str, reason: object) -> Left:
    return Left(name, storable(str(reason), LONGEST_REASON))
