"""The audit: what the bot committed against what the receiver wrote down. A pure function of what three parties say.

The bot's own table says what was committed, the receiver's ledger what arrived. Of the outbox it is only asked how often it
tried, and whether it noticed itself when it could not know.
"""

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from examples.flask_bot.ledger import Entry, Verdict


@dataclass(frozen=True)
class Reply:
    """An answer of the bot's, as its own table has it."""

    conversation: str
    number: int
    text: str


@dataclass(frozen=True)
class Account:
    """What the outbox says of one message."""

    status: str
    attempts: int
    unknown: Sequence[str]
    """Why it did not know the outcome of an attempt, for each such attempt."""


@dataclass(frozen=True)
class Evidence:
    """All that the audit goes by. Moments are epoch seconds; the keys are message ids."""

    committed: Mapping[str, Reply]
    committed_at: Mapping[str, float]
    rolled_back: Collection[str]
    ledger: Sequence[Entry]
    accounts: Mapping[str, Account]
    kills: Sequence[float]


@dataclass(frozen=True)
class Findings:
    """The counts of the table, and everything that must not be."""

    committed: int
    delivered: int
    rolled_back: int
    retried: int
    duplicates: int
    lost: int
    median_s: float
    slow_s: float
    """95 of 100 answers arrived within so many seconds after their commit."""
    problems: Sequence[str]


def audit(evidence: Evidence) -> Findings:
    """Compare."""
    arrivals = _arrivals(evidence.ledger)
    delays = [arrivals[key][0].at - at for key, at in evidence.committed_at.items() if key in arrivals] or [0.0]
    return Findings(
        committed=len(evidence.committed),
        delivered=len(evidence.committed.keys() & arrivals.keys()),
        rolled_back=len(evidence.rolled_back),
        retried=sum(account.attempts > 1 for account in evidence.accounts.values()),
        duplicates=sum(len(entries) - 1 for entries in arrivals.values()),
        lost=len(evidence.committed.keys() - arrivals.keys()),
        median_s=statistics.median(delays),
        slow_s=sorted(delays)[len(delays) * 95 // 100],
        problems=[*_forged(evidence), *_lost(evidence, arrivals), *_unmeant(evidence, arrivals), *_changed(evidence, arrivals),
                  *_out_of_order(evidence), *_unexplained(evidence, arrivals), *_misreported(evidence)],
    )  # fmt: skip


def _arrivals(ledger: Iterable[Entry]) -> dict[str, list[Entry]]:
    arrivals: dict[str, list[Entry]] = defaultdict(list)
    for entry in ledger:
        if entry.verdict is Verdict.ACCEPTED:
            arrivals[entry.message_id].append(entry)
    return dict(arrivals)


def _forged(evidence: Evidence) -> Iterable[str]:
    forged = sum(entry.verdict is Verdict.FORGED for entry in evidence.ledger)
    if forged:
        yield f"{forged} requests had a wrong signature"


def _lost(evidence: Evidence, arrivals: Mapping[str, Sequence[Entry]]) -> Iterable[str]:
    for key in evidence.committed.keys() - arrivals.keys():
        yield f"lost: {key} was committed and never arrived"


def _unmeant(evidence: Evidence, arrivals: Mapping[str, Sequence[Entry]]) -> Iterable[str]:
    for key in arrivals.keys() - evidence.committed.keys():
        yield f"unmeant: {key} arrived and was {'rolled back' if key in evidence.rolled_back else 'never committed'}"


def _changed(evidence: Evidence, arrivals: Mapping[str, Sequence[Entry]]) -> Iterable[str]:
    for key, reply in evidence.committed.items():
        for entry in arrivals.get(key, ()):
            if (entry.conversation, entry.number, entry.text) != (reply.conversation, reply.number, reply.text):
                yield f"changed: {key} arrived with another content than was committed"


def _out_of_order(evidence: Evidence) -> Iterable[str]:
    """A duplicate may follow its first copy, and nothing else may come before its turn."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for entry in evidence.ledger:
        if entry.verdict is Verdict.ACCEPTED:
            numbers[entry.conversation].append(entry.number)
    for conversation, came in numbers.items():
        for before, after in pairwise([0, *came]):
            if not before <= after <= before + 1:
                yield f"out of order: in {conversation} number {after} came after {before}"


def _unexplained(evidence: Evidence, arrivals: Mapping[str, Sequence[Entry]]) -> Iterable[str]:
    """A second copy needs a kill between it and the first, or an answer that came too late; and the outbox must know."""
    for key, entries in arrivals.items():
        for first, second in pairwise(entries):
            reasons = evidence.accounts[key].unknown if key in evidence.accounts else ()
            killed = any(first.at <= at <= second.at for at in evidence.kills)
            too_late = any(reason.startswith("no answer within") for reason in reasons)
            if not reasons or not (killed or too_late):
                yield f"unexplained: {key} arrived twice, and there was neither a kill between nor an answer too late"


def _misreported(evidence: Evidence) -> Iterable[str]:
    for key in evidence.committed:
        status = evidence.accounts[key].status if key in evidence.accounts else "unknown to it"
        if status != "delivered":
            yield f"misreported: the outbox says that {key} is {status}"
