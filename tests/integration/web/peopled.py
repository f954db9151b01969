"""An outbox in which there is something of everything, for whoever asks at random."""

from outbox import Outbox
from outbox.lifecycle import TERMINAL, Status
from tests.contract.steps import bring_to, cancel, enqueue_named, put, replay

CHANNEL, TARGET, TURN = "webhook", "https://receiver.example/hook", "turn-7"
OF_EACH = 6


def people(outbox: Outbox) -> list[str]:
    """Messages in every status, half of them with keys, with attempts and operations on record; and gates. The ids."""
    for status in Status:
        for number in range(OF_EACH):
            _bring_to(outbox, f"{status}-{number}", status)
            keys = {"ordering_key": f"customer {number % 2}", "idempotency_key": f"order {status}-{number}"}
            put(outbox.store, f"{status}-{number}", turn_id=TURN, **(keys if number % 2 else {}))
    outbox.pause(CHANNEL, for_s=3600, actor="ada", reason="they asked for it")
    outbox.pause(CHANNEL, target=TARGET, actor="ada")
    outbox.pause("mail")
    outbox.resume("mail", actor="ada")
    ids = [f"{status}-{number}" for status in Status for number in range(OF_EACH)]
    found = {status: sum(message.status == status for message in outbox.list(limit=1_000)) for status in Status}
    assert found == dict.fromkeys(Status, OF_EACH)
    return ids


def _bring_to(outbox: Outbox, name: str, status: Status) -> None:
    store = outbox.store
    if status is Status.QUEUED:
        enqueue_named(store, name, delay_ms=3_600_000)  # or whoever claims comes upon it
        return
    bring_to(store, name, status)
    if status in TERMINAL:  # and once more, so that it has been operated on
        replay(store, name)
        cancel(store, name)
        put(store, name, status=status)
