"""Parked messages wait for somebody who knows whether they were sent."""

from outbox.lifecycle import Event, Status
from outbox.store.records import MessageFilter, OperatorResult
from outbox.store.sqlstore import SQLStore
from tests.contract.steps import PARKED, begin, claim, enqueue_named, ids, settle, stored


def park(store: SQLStore, name: str, **fields: object) -> None:
    settle(store, begin(store, name, **fields), PARKED)
    assert stored(store, name).status == Status.PARKED


def resolve(store: SQLStore, name: str, *, sent: bool) -> OperatorResult:
    return store.resolve(MessageFilter(ids=[name]), 10, sent=sent, actor="ada", reason="asked them")


def test_a_message_known_to_be_sent_is_recorded_as_delivered_and_never_sent_again(store: SQLStore) -> None:
    park(store, "m")

    assert resolve(store, "m", sent=True).changed == ["m"]

    message = stored(store, "m")
    assert (message.status, message.terminal_reason) == (Status.DELIVERED, "resolved by an operator as sent")
    assert message.delivered_at is not None
    assert claim(store) == []


def test_a_message_known_to_be_unsent_is_due_again_from_the_first_attempt(store: SQLStore) -> None:
    park(store, "m")

    resolve(store, "m", sent=False)

    message = stored(store, "m")
    assert (message.status, message.attempt_count, bool(message.outcome_unknown)) == (Status.QUEUED, 0, False)
    assert ids(claim(store)) == ["m"]


def test_resolving_a_head_as_sent_lets_the_next_of_its_key_go(store: SQLStore) -> None:
    park(store, "head", ordering_key="k")
    enqueue_named(store, "next", ordering_key="k")
    assert claim(store) == []

    resolve(store, "head", sent=True)

    assert ids(claim(store)) == ["next"]


def test_a_message_that_is_not_parked_is_refused_by_name(store: SQLStore) -> None:
    enqueue_named(store, "m")

    result = resolve(store, "m", sent=True)

    assert (result.changed, [(refusal.id, "only a parked" in refusal.reason) for refusal in result.refused]) == (
        [],
        [("m", True)],
    )


def test_a_rehearsal_names_the_parked_among_those_meant_and_changes_nothing(store: SQLStore) -> None:
    park(store, "m", target="a")
    park(store, "elsewhere", target="b")
    enqueue_named(store, "waits", target="a")

    by_filter = store.rehearse(Event.RESOLVE_SENT, MessageFilter(target="a"), 10)
    by_name = store.rehearse(Event.RESOLVE_SENT, MessageFilter(ids=["m", "waits"]), 10)

    assert list(by_filter.changed) == list(by_name.changed) == ["m"]
    assert [refusal.id for refusal in by_name.refused] == ["waits"]
    assert stored(store, "m").status == Status.PARKED
