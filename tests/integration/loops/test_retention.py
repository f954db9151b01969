"""What is over goes: the payload first, where that is wanted, and then the row; nobody has to ask for it."""

import pytest

from outbox import PermanentFailure
from outbox.policy.retention import HOUR_MS, Retention
from outbox.testing import FakeClock
from tests.integration.conftest import OpenOutbox
from tests.integration.loops.scene import Chat, Row, deliver, enqueue_many, raising

DAY_MS = 24 * HOUR_MS


@pytest.mark.proves("R7", "T27")
def test_maintenance_prunes_deliveries_after_two_days_and_failures_after_thirty(
    open_outbox: OpenOutbox, clock: FakeClock
) -> None:
    outbox = open_outbox(clock=clock)
    outbox.register(Chat(behaviour={"1": raising(PermanentFailure("chat not found"))}))
    delivered, failed = enqueue_many(outbox, 2)
    deliver(outbox)

    def kept() -> set[str]:
        outbox.maintain_once()
        return {message.id for message in outbox.list()}

    clock.advance(2 * DAY_MS)
    assert kept() == {delivered, failed}
    clock.advance(1)
    assert kept() == {failed}
    clock.advance(28 * DAY_MS)
    assert kept() == set()


@pytest.mark.proves("T42")
def test_the_payload_of_what_is_over_goes_before_its_row_where_that_is_wanted(
    open_outbox: OpenOutbox, clock: FakeClock
) -> None:
    outbox = open_outbox(clock=clock, retention=Retention(blank_after_ms=HOUR_MS))
    outbox.register(Chat())
    (delivered,) = enqueue_many(outbox, 1, payload={"text": "secret"}, headers={"who": "ada"})
    deliver(outbox)
    (waiting,) = enqueue_many(outbox, 1, payload={"text": "not yet"}, delay=3 * 3600)

    clock.advance(HOUR_MS)
    outbox.maintain_once()
    assert outbox.get(delivered).payload == {"text": "secret"}

    clock.advance(1)
    outbox.maintain_once()
    row = Row(outbox, delivered)
    assert (row.status, row.payload, row.headers) == ("delivered", None, None)
    assert outbox.get(waiting).payload == {"text": "not yet"}
