"""The controls: outboxes as they are often written. The same table, relay and broker, but none of the fences.

They claim and publish; the task sends what is not delivered, without taking it; an attempt is counted when it has failed; and
whoever has an outcome writes it by id. The harness must find them wanting, or it would find nothing at all.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update

from outbox import Outbox
from outbox.delivery import Delivery
from outbox.lifecycle import TERMINAL, Status
from outbox.message import Claim, Message
from outbox.policy.retry import Verdict
from outbox.store.records import Settled, Settlement, Taker
from outbox.store.schema import status_in
from outbox.store.sql import Transaction, columns_of_message, to_message
from outbox.store.sqlstore import SQLStore


class NaiveStore(SQLStore):
    """Ids are all that counts. It repeats what it need not."""

    def take(self, claims: Sequence[Claim], taker: Taker) -> list[Message]:
        def take(tx: Transaction) -> list[Message]:
            m = tx.sql.tables.messages
            unsent = select(*columns_of_message(m)).where(m.c.id.in_([claim.id for claim in claims]), ~status_in(m, TERMINAL))
            return [to_message(row) for row in tx.connection.execute(unsent.order_by(m.c.seq))]

        return self._write(take)

    def settle(self, settlements: Sequence[Settlement]) -> Settled:
        def settle(tx: Transaction) -> Settled:
            for settlement in settlements:
                tx.connection.execute(_by_id(tx, settlement))
            return Settled(frozenset(settlement.id for settlement in settlements))

        return self._write(settle)

    def settle_and_take(
        self, settlements: Sequence[Settlement], claims: Sequence[Claim], taker: Taker
    ) -> tuple[Settled, list[Message]]:
        return self.settle(settlements), self.take(claims, taker)

    def extend(self, held: Sequence[Message], *, run_lease_ms: int, longest_ms: int) -> set[str]:
        return {message.id for message in held}


class HastyStore(NaiveStore):
    """What it hands out to be sent is delivered, as far as it is concerned. It loses what was not sent after all."""

    def take(self, claims: Sequence[Claim], taker: Taker) -> list[Message]:
        messages = super().take(claims, taker)
        self.settle([Settlement(message.id, message.lease, Verdict(Status.DELIVERED), "delivered") for message in messages])
        return messages


STORES = {"naive": NaiveStore, "hasty": HastyStore}


def disarm(outbox: Outbox, store: str) -> None:
    """Let ``outbox`` work without its fences, on one of :data:`STORES`."""
    fenced = outbox.store
    outbox.store = STORES[store](fenced.engine, fenced.tables)
    outbox.delivery = Delivery(outbox.store, outbox.telemetry, outbox.owner)


def _by_id(tx: Transaction, settlement: Settlement) -> Any:
    m, verdict = tx.sql.tables.messages, settlement.verdict
    over = verdict.status in TERMINAL
    return (
        update(m)
        .where(m.c.id == settlement.id)
        .values(
            status=str(verdict.status),
            attempt_count=m.c.attempt_count + int(verdict.status is not Status.DELIVERED),
            next_attempt_at=tx.now_ms + verdict.delay_ms,
            last_error=verdict.error,
            receipt=settlement.receipt,
            completed_at=tx.now_ms if over else None,
            lease_until=None,
        )
    )
