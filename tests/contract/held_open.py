"""The steps of a message's life inside a transaction that the test holds open: what came first, and is not committed yet."""

from collections.abc import Sequence

from outbox.message import Claim, Message
from outbox.policy.destination import Limits
from outbox.policy.retry import Verdict
from outbox.store import claiming, operating, settling, sweeping, taking
from outbox.store.records import Claimed, Lane, MessageFilter, OperatorResult, Settled, Taker
from outbox.store.sql import Transaction
from tests.contract.steps import CHANNEL, RESCUED, RUN_LEASE_MS, settlement

LANE = Lane(CHANNEL, 0, 0)


def claim_in(tx: Transaction, limit: int = 100) -> Claimed:
    return claiming.claim(tx, LANE, limit, Limits())


def take_in(tx: Transaction, claims: Sequence[Claim]) -> list[Message]:
    return taking.take(tx, claims, Taker(CHANNEL, "worker-1", RUN_LEASE_MS))


def settle_in(tx: Transaction, *messages: Message, verdict: Verdict) -> Settled:
    return settling.settle(tx, [settlement(message, verdict) for message in messages])


def extend_in(tx: Transaction, message: Message) -> set[str]:
    return taking.extend(tx, [message], run_lease_ms=RUN_LEASE_MS, longest_ms=10 * RUN_LEASE_MS)


def rescue_in(tx: Transaction, verdict: Verdict = RESCUED, *, owner: str | None = None) -> int:
    return sweeping.rescue(tx, lambda _message: verdict, 100, owner=owner)


def expire_in(tx: Transaction) -> int:
    return sweeping.expire(tx, 100)


def cancel_in(tx: Transaction, name: str) -> OperatorResult:
    return operating.cancel(tx, MessageFilter(ids=[name]), 1, actor=None, reason=None)


def replay_in(tx: Transaction, name: str) -> OperatorResult:
    return operating.replay(tx, MessageFilter(ids=[name]), 1, actor=None, reason=None)
