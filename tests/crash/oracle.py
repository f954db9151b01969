"""The oracle: what was committed, against what arrived, against what the outbox says. It is pure.

The application's own table says what was committed, the receiver's ledger what arrived; the outbox's rows have to agree with
both.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from outbox import Message
from outbox.lifecycle import TERMINAL, Status
from outbox.message import AttemptRecord
from tests.crash.arming import Deed
from tests.crash.receiver import Arrival, Verdict


class Fate(StrEnum):
    """What has to become of a message."""

    DELIVERED = "delivered"
    DEAD = "failed_terminal"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    GONE = "gone"
    """Delivered, and pruned since."""
    DELIVERED_OR_PARKED = "delivered or parked"
    """Parked where a death left the outcome unknown."""


STATUSES = {
    Fate.DELIVERED: {Status.DELIVERED},
    Fate.DEAD: {Status.FAILED_TERMINAL},
    Fate.EXPIRED: {Status.EXPIRED},
    Fate.CANCELLED: {Status.CANCELLED},
    Fate.GONE: {Status.DELIVERED, None},
    Fate.DELIVERED_OR_PARKED: {Status.DELIVERED, Status.PARKED},
}
ARRIVES = {Fate.DELIVERED, Fate.GONE}


@dataclass(frozen=True)
class Evidence:
    """All that the oracle goes by, about the messages of one run. Keys of the mappings are message ids."""

    wanted: Mapping[str, Fate]
    """What the application's own table says it committed, and what should have become of it."""
    rolled_back: Collection[str]
    """Idempotency keys of messages whose transaction came to nothing."""
    keys: Mapping[str, str]
    """The idempotency key of each committed message."""
    rows: Mapping[str, Message]
    attempts: Mapping[str, Sequence[AttemptRecord]]
    arrivals: Sequence[Arrival]
    effects: Sequence[str]
    """Ids of the messages of the transactional channel whose effect is in the application's database, one for each effect."""
    deeds: Sequence[Deed]
    violations: Sequence[str]


@dataclass(frozen=True)
class Findings:
    """The counts of a report, and everything that must not be."""

    messages: int
    lost: int
    duplicated: int
    cut_off: int
    """Duplicates of which the outbox knows that their sender died."""
    problems: Sequence[str]


def judge(evidence: Evidence, *, may_repeat: bool) -> Findings:
    """Compare. ``may_repeat``: whether a death at the run's checkpoint may leave an outcome unknown."""
    accepted = _accepted(evidence)
    extra = {name: len(arrivals) - 1 for name, arrivals in accepted.items() if len(arrivals) > 1}
    cut_off = {name: min(count, len(_deaths(evidence, name))) for name, count in extra.items()}
    lost = [name for name, fate in evidence.wanted.items() if fate in ARRIVES and name not in accepted]
    problems = [
        *(f"lost: {name} was committed and never arrived" for name in lost),
        *_unmeant(evidence),
        *_misplaced(evidence),
        *_misreported(evidence, accepted),
        *_unexplained(evidence, extra),
        *_out_of_order(evidence),
        *_overcharged(evidence),
        *evidence.violations,
    ]
    if not may_repeat:
        problems += [f"repeated: {name}, and no send was under way when its worker died" for name, n in cut_off.items() if n]
    return Findings(len(evidence.wanted), len(lost), sum(extra.values()), sum(cut_off.values()), problems)


def _accepted(evidence: Evidence) -> dict[str, list[Arrival | None]]:
    """By message id what was accepted, first to last; an effect in the database is one without a record of its arrival."""
    by_key: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in evidence.arrivals:
        if arrival.verdict is Verdict.ACCEPTED:
            by_key[arrival.key].append(arrival)
    effects = Counter(evidence.effects)
    found: dict[str, list[Arrival | None]] = {}
    for name, key in evidence.keys.items():
        all_of_it = [*by_key.get(key, []), *[None] * effects[name]]
        if all_of_it:
            found[name] = all_of_it
    return found


def _unmeant(evidence: Evidence) -> Iterable[str]:
    """Nothing arrived but what was committed, under the key that it was committed with."""
    known = set(evidence.keys.values())
    for arrival in evidence.arrivals:
        if arrival.key in evidence.rolled_back:
            yield f"unmeant: {arrival.key} was rolled back and arrived"
        elif arrival.key not in known:
            yield f"unmeant: {arrival.key} arrived and was never committed"
    for name in evidence.effects:
        if name not in evidence.wanted:
            yield f"unmeant: the effect of {name}, which was never committed"


def _misplaced(evidence: Evidence) -> Iterable[str]:
    """Each committed message is where it belongs, and no row is there that nobody committed."""
    for name, fate in evidence.wanted.items():
        row = evidence.rows.get(name)
        status = row.status if row is not None else None
        if status not in STATUSES[fate]:
            told = f": {row.last_error}" if row is not None and row.last_error else ""
            yield f"misplaced: {name} should be {fate} and is {status or 'not there'}{told}"
    for name in evidence.rows.keys() - evidence.wanted.keys():
        yield f"misplaced: a row {name} that the application did not commit"


def _misreported(evidence: Evidence, accepted: Mapping[str, Sequence[Arrival | None]]) -> Iterable[str]:
    """The rows and the ledger tell the same."""
    for name, row in evidence.rows.items():
        if row.status is Status.DELIVERED and name not in accepted:
            yield f"misreported: {name} is delivered in its row and never arrived"
        if row.status in TERMINAL - {Status.DELIVERED} and name in accepted and not row.outcome_unknown:
            yield f"misreported: {name} is {row.status} in its row and arrived"


def _unexplained(evidence: Evidence, extra: Mapping[str, int]) -> Iterable[str]:
    """Of each second copy the outbox must know itself why: an attempt whose outcome is on record as unknown."""
    for name, count in extra.items():
        unknown = [record for record in evidence.attempts.get(name, ()) if record.outcome in ("rescued", "unknown")]
        if len(unknown) < count:
            yield f"unexplained: {name} arrived {count + 1} times, with {len(unknown)} unknown outcomes on record"


def _deaths(evidence: Evidence, name: str) -> list[AttemptRecord]:
    """The attempts of a message whose process one of the plans ended."""
    dead = {str(deed.pid) for deed in evidence.deeds}
    records = evidence.attempts.get(name, ())
    return [r for r in records if r.outcome == "rescued" and r.owner is not None and r.owner.rpartition(":")[2] in dead]


def _out_of_order(evidence: Evidence) -> Iterable[str]:
    """Of one ordering key a copy may follow its first, and nothing else comes before its turn."""
    by_wire_key = {row.key: row for row in evidence.rows.values() if row.ordering_key is not None}
    came: dict[str, list[int]] = defaultdict(list)
    for arrival in evidence.arrivals:
        if arrival.verdict is Verdict.ACCEPTED and arrival.key in by_wire_key:
            row = by_wire_key[arrival.key]
            came[str(row.ordering_key)].append(row.seq)
    for key, seqs in came.items():
        for before, after in pairwise(seqs):
            if after < before:
                yield f"out of order: in {key} message {after} arrived after {before}"


def _overcharged(evidence: Evidence) -> Iterable[str]:
    for name, row in evidence.rows.items():
        allowed = row.max_attempts if row.max_attempts is not None else 5
        if row.attempt_count > allowed:
            yield f"overcharged: {name} had {row.attempt_count} attempts of {allowed}"
        leases = [record.lease for record in evidence.attempts.get(name, ())]
        if len(leases) != len(set(leases)):
            yield f"overcharged: one attempt of {name} is on record twice"
