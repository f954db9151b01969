"""Second copies: how many there may be, and of whom. It is pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum

from outbox.message import AttemptRecord
from tests.crash.arming import Act
from tests.crash.evidence import Evidence


class Copies(Enum):
    """Which second copies a run may leave. A copy under another key is never one of them: nobody committed it."""

    NONE = "no send can have been cut off"
    OF_THE_DEAD = "one of each send that was under way in a process that a plan has ended"
    ON_RECORD = "one of each attempt that is on record as unknown: a living process, too, may lose its database or its lease"


def faults(evidence: Evidence, extra: Mapping[str, int], allowed: Copies) -> Iterable[str]:
    """``extra``: by message, how many copies came beside the first."""
    yield from _unexplained(evidence, extra)
    if allowed is not Copies.ON_RECORD:
        yield from _repeated(evidence, extra, allowed)
        yield from _too_many_at_once(evidence)


def cut_off(evidence: Evidence, name: str, extra: int) -> int:
    """How many of a message's copies the outbox puts down to a process that a plan has ended."""
    return min(extra, sum(_is_of_the_dead(evidence, record) for record in evidence.attempts.get(name, ())))


def _unexplained(evidence: Evidence, extra: Mapping[str, int]) -> Iterable[str]:
    """Of each second copy the outbox must know itself why: an attempt whose outcome is on record as unknown."""
    for name, count in extra.items():
        unknown = [record for record in evidence.attempts.get(name, ()) if record.outcome in ("rescued", "unknown")]
        if len(unknown) < count:
            yield f"unexplained: {name} arrived {count + 1} times, with {len(unknown)} unknown outcomes on record"


def _repeated(evidence: Evidence, extra: Mapping[str, int], allowed: Copies) -> Iterable[str]:
    """That it is on record excuses no copy: what a living process sends must not be rescued and sent again."""
    for name, count in extra.items():
        excused = cut_off(evidence, name, count) if allowed is Copies.OF_THE_DEAD else 0
        if count > excused:
            yield f"repeated: {name} arrived {count + 1} times, and {allowed.value}"


def _too_many_at_once(evidence: Evidence) -> Iterable[str]:
    """A process that dies makes no more outcomes unknown than it may have sends under way: it records before it goes on."""
    held = Counter(
        (record.owner, evidence.rows[name].channel)
        for name, records in evidence.attempts.items()
        for record in records
        if name in evidence.rows and _is_of_the_dead(evidence, record)
    )
    for (owner, channel), count in held.items():
        if count > (most := evidence.at_once.get(channel, 1)):
            yield f"too many at once: process {owner} died with {count} sends of {channel}, and may have had {most}"


def _is_of_the_dead(evidence: Evidence, record: AttemptRecord) -> bool:
    """Whether its process, or the whole node of that process, was ended by a plan."""
    if record.outcome != "rescued" or record.owner is None:
        return False
    return any(
        record.owner == deed.owner or (deed.act is Act.NODE and _node(record.owner) == _node(deed.owner))
        for deed in evidence.deeds
        if deed.act is not Act.STOP and deed.owner
    )


def _node(owner: str) -> str:
    """What the names of all processes of a node begin with."""
    return owner.rpartition(":")[0]
