"""The oracle: what was committed, against what arrived, against what the outbox says. It is pure.

The application's own table says what was committed, the receiver's ledger what arrived; the outbox's rows have to agree with
both.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from outbox.lifecycle import TERMINAL, Status
from tests.crash import attempts, copies
from tests.crash.copies import Copies
from tests.crash.evidence import Evidence, Fate
from tests.crash.receiver import Verdict

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
class Findings:
    """The counts of a report, and everything that must not be."""

    messages: int
    lost: int
    duplicated: int
    cut_off: int
    """Duplicates of which the outbox knows that their sender died."""
    problems: Sequence[str]


def judge(evidence: Evidence, allowed: Copies) -> Findings:
    """Compare. ``allowed``: which second copies the run may leave."""
    accepted = evidence.accepted()
    extra = {name: count - 1 for name, count in accepted.items() if count > 1}
    lost = [name for name, fate in evidence.wanted.items() if fate in ARRIVES and name not in accepted]
    problems = [
        *(f"lost: {name} was committed and never arrived" for name in lost),
        *_unmeant(evidence),
        *_misplaced(evidence),
        *_misreported(evidence, accepted),
        *copies.faults(evidence, extra, allowed),
        *attempts.faults(evidence),
        *_out_of_order(evidence),
        *evidence.violations,
    ]
    cut_off = sum(copies.cut_off(evidence, name, count) for name, count in extra.items())
    return Findings(len(evidence.wanted), len(lost), sum(extra.values()), cut_off, problems)


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


def _misreported(evidence: Evidence, accepted: Collection[str]) -> Iterable[str]:
    """The rows and the ledger tell the same."""
    for name, row in evidence.rows.items():
        if row.status is Status.DELIVERED and name not in accepted:
            yield f"misreported: {name} is delivered in its row and never arrived"
        if row.status in TERMINAL - {Status.DELIVERED} and name in accepted and not row.outcome_unknown:
            yield f"misreported: {name} is {row.status} in its row and arrived"


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
