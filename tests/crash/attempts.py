"""Attempts: what rows and records counted against what the receiver heard. It is pure.

Each request goes out under a lease of its own, and belongs to an attempt that was charged before it began. A channel that says
that it is not ready gets its attempt back; nothing else does once it has been sent.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from outbox import Message
from outbox.lifecycle import Status
from outbox.message import AttemptRecord
from tests.crash.evidence import Evidence
from tests.crash.receiver import Arrival, Verdict

ANSWERED = {Verdict.ACCEPTED: "delivered", Verdict.REFUSED: "retry", Verdict.REJECTED: "rejected", Verdict.UNREADY: "deferred"}
"""As what a sender that lived to hear the answer records it."""
NOT_HEARD = ("rescued", "unknown")
BY_AN_OPERATOR = "resolved by an operator as sent"


def faults(evidence: Evidence) -> Iterable[str]:
    """Everything about attempts that must not be, of the messages that are kept."""
    by_id = evidence.arrivals_by_id()
    for name, row in evidence.rows.items():
        records, arrivals = evidence.attempts.get(name, ()), by_id.get(name, [])
        yield from _overcharged(row, records, arrivals)
        yield from _unfenced(row, arrivals)
        yield from _uncounted(row, records, arrivals)
        if name not in evidence.effects:  # work in the application's own database, which asks no receiver, and may be undone
            yield from _misrecorded(row, records, arrivals)
            if not evidence.receiver_has_died:
                yield from _unanswered(row, records, arrivals)
            yield from _unacknowledged(row, arrivals)


def _overcharged(row: Message, records: Sequence[AttemptRecord], arrivals: Sequence[Arrival]) -> Iterable[str]:
    allowed = row.max_attempts if row.max_attempts is not None else 5
    if row.attempt_count > allowed:
        yield f"overcharged: {row.id} had {row.attempt_count} attempts of {allowed}"
    if late := [number for number in (*(r.number for r in records), *(a.attempt for a in arrivals)) if (number or 0) > allowed]:
        yield f"overcharged: {row.id} was tried a {max(filter(None, late))}th time, of {allowed}"
    if len(records) != len({record.lease for record in records}):
        yield f"overcharged: one attempt of {row.id} is on record twice"


def _unfenced(row: Message, arrivals: Sequence[Arrival]) -> Iterable[str]:
    """One lease, one request: who wants to send again has to take the row again, and gets another."""
    for lease, count in Counter(arrival.lease for arrival in arrivals if arrival.lease is not None).items():
        if count > 1:
            yield f"unfenced: {count} requests of {row.id} under lease {lease}"


def _uncounted(row: Message, records: Sequence[AttemptRecord], arrivals: Sequence[Arrival]) -> Iterable[str]:
    """Each request is of an attempt on record, or of the last one, whose success stands in the row."""
    charged = {record.lease: record.number for record in records}
    if row.status is Status.DELIVERED:
        charged.setdefault(row.lease, row.attempt_count)
    heard = [arrival for arrival in arrivals if arrival.verdict is not Verdict.UNREADY]
    if len(heard) > len(charged):
        yield f"uncounted: {row.id} arrived {len(heard)} times, in {len(charged)} attempts"
    for arrival in heard:
        if arrival.lease is not None and charged.get(arrival.lease) != arrival.attempt:
            told = f"attempt {arrival.attempt} under lease {arrival.lease}"
            yield f"uncounted: {row.id} arrived as {told}, where {charged.get(arrival.lease, 'none')} was charged"


def _misrecorded(row: Message, records: Sequence[AttemptRecord], arrivals: Sequence[Arrival]) -> Iterable[str]:
    """What the sender recorded of an attempt is what it was answered."""
    answers = {arrival.lease: arrival.verdict for arrival in arrivals}
    for record in records:
        answer = answers.get(record.lease)
        if answer is not None and record.outcome not in (ANSWERED[answer], *NOT_HEARD):
            yield f"misrecorded: {row.id} was {answer} under lease {record.lease}, and on record it is {record.outcome}"


def _unanswered(row: Message, records: Sequence[AttemptRecord], arrivals: Sequence[Arrival]) -> Iterable[str]:
    """So many attempts came to a refusal, so many were refused."""
    given = Counter(ANSWERED[arrival.verdict] for arrival in arrivals)
    for outcome, count in Counter(record.outcome for record in records).items():
        if outcome in ("retry", "rejected") and count > given[outcome]:
            yield f"unanswered: {row.id} has {count} attempts that came to {outcome}, of {given[outcome]} answered so"


def _unacknowledged(row: Message, arrivals: Sequence[Arrival]) -> Iterable[str]:
    """The receipt of what is delivered names one of its own requests, and one that was accepted."""
    if row.status is not Status.DELIVERED or row.terminal_reason == BY_AN_OPERATOR:
        return
    receipt = (row.receipt or {}).get("provider_id")
    if receipt not in {str(arrival.id) for arrival in arrivals if arrival.verdict is Verdict.ACCEPTED}:
        yield f"unacknowledged: {row.id} is delivered by a receipt {receipt} that nobody gave for it"
