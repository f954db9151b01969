"""Work and settle in one transaction: for channels whose whole effect is in the outbox's own database.

The handler's writes and the row's settle commit together or not at all, so the effect happens exactly once, whatever dies.
"""

from typing import Any

from outbox.channels.base import Channel
from outbox.lifecycle import Status
from outbox.message import Attempt, Message, Receipt
from outbox.outcome import Delivered, Outcome, Retry, Unknown
from outbox.policy.classification import classify
from outbox.policy.retry import Verdict
from outbox.receipts import storable_receipt
from outbox.store.protocol import Store
from outbox.store.records import Settlement


def transact(store: Store, channel: Channel, message: Message, attempt: Attempt) -> Outcome:
    """Call the adapter with the session in which the row is settled; what it raises undoes both.

    The settle that the delivery loop makes of the outcome then finds it recorded, as after an ambiguous commit.
    """
    from sqlalchemy.orm import Session  # only for channels that want one; it takes a process a while to load

    receipt = Receipt()

    def work(connection: Any) -> str | None:
        nonlocal receipt
        session = Session(bind=connection)  # its commit ends at the transaction that it joined
        try:
            answer = channel.send_final(message, attempt.within(session))
            session.commit()
        finally:
            session.close()
        receipt = answer if isinstance(answer, Receipt) else Receipt()
        return storable_receipt(receipt)

    settlement = Settlement(message.id, message.lease, Verdict(Status.DELIVERED), "delivered")
    try:
        recorded = store.work_and_settle(settlement, work)
    except BaseException as error:
        outcome = classify(error)
        # Rolled back, so nothing can have happened that nobody knows of.
        return Retry(outcome.error) if isinstance(outcome, Unknown) else outcome
    if not recorded and not store.already_settled([settlement]):
        return Retry("somebody else took the row meanwhile; what was done for it is undone")
    return Delivered(receipt)
