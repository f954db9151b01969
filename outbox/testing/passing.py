"""Letting time pass until everything that was enqueued has come to its end."""

from collections import Counter
from datetime import timedelta

from outbox.lifecycle import DUE, Status
from outbox.outbox import Outbox
from outbox.testing.asserting import MOST
from outbox.testing.clock import FakeClock


def run_until_quiet(outbox: Outbox, clock: FakeClock, within: timedelta = timedelta(days=1)) -> Counter[Status]:
    """Deliver in this process, and let the outbox's clock jump from one due time to the next, until nothing is due any more.

    So every retry and every schedule within that span of time has come and gone. Returns the messages by status; what is still
    active is parked, paused, or due later than that.
    """
    end = clock.now_ms() + within // timedelta(milliseconds=1)
    while True:
        outbox.drain()
        outbox.maintain_once()
        waiting = [message for status in DUE for message in outbox.list(status=status, limit=MOST)]
        later = [message.next_attempt_at for message in waiting if clock.now_ms() < message.next_attempt_at <= end]
        if not later:
            break
        clock.now = min(later)
    return Counter(message.status for message in outbox.list(limit=MOST))
