"""``stamp``: the channel's defaults for rows of an application that does not know the channel."""

import pytest

from outbox.message import Message
from outbox.store.records import Stamp
from outbox.store.sqlstore import SQLStore
from tests.contract.steps import CHANNEL, MINUTE, NOW, cancel, claim, enqueue, enqueue_named, ids, new_row, replay, stored

UNKNOWING = {"stamped": False, "max_attempts": None}


def defaults(message: Message) -> Stamp:
    return Stamp(message.id, max_attempts=5, ttl_ms=30 * MINUTE, ordering_key=f"chat-{message.target}")


def test_a_row_without_its_channels_defaults_is_pending_but_not_claimed(store: SQLStore) -> None:
    enqueue_named(store, "m", **UNKNOWING)
    assert store.pending([CHANNEL]).unstamped
    assert not store.pending([CHANNEL]).lanes
    assert not store.pending(["email"])
    assert claim(store) == []


def test_stamped_with_the_defaults_it_is_claimed(store: SQLStore) -> None:
    enqueue_named(store, "m", target="7", **UNKNOWING)
    assert store.stamp([CHANNEL], defaults, 100) == 1
    row = stored(store, "m")
    assert (row.max_attempts, row.ordering_key, row.expires_at) == (5, "chat-7", NOW + 30 * MINUTE)
    assert not store.pending([CHANNEL]).unstamped
    assert ids(claim(store)) == ["m"]


def test_what_the_application_said_itself_wins(store: SQLStore) -> None:
    enqueue(store, new_row(id="m", stamped=False, max_attempts=2, ttl_ms=MINUTE, ordering_key="own"))
    store.stamp([CHANNEL], defaults, 100)
    row = stored(store, "m")
    assert (row.max_attempts, row.ordering_key, row.expires_at) == (2, "own", NOW + MINUTE)


@pytest.mark.proves("R6")
def test_the_ttl_of_the_defaults_counts_from_the_first_due_time_and_not_from_the_stamp(store: SQLStore) -> None:
    enqueue_named(store, "m", delay_ms=10 * MINUTE, **UNKNOWING)
    store.stamp([CHANNEL], defaults, 100)
    assert stored(store, "m").expires_at == NOW + 40 * MINUTE


def test_a_channel_without_ttl_or_order_leaves_both_out(store: SQLStore) -> None:
    enqueue_named(store, "m", **UNKNOWING)
    store.stamp([CHANNEL], lambda message: Stamp(message.id, 3, None, None), 100)
    row = stored(store, "m")
    assert (row.max_attempts, row.ordering_key, row.expires_at) == (3, None, None)


def test_only_the_channels_that_are_known_here_are_stamped(store: SQLStore) -> None:
    enqueue_named(store, "foreign", channel="foreign", **UNKNOWING)
    assert store.stamp([CHANNEL], defaults, 100) == 0
    assert store.stamp([], defaults, 100) == 0


def test_stamping_goes_in_bounded_batches_in_the_order_of_the_rows(store: SQLStore) -> None:
    for number, channel in enumerate(("b", "a", "b", "a", "b")):
        enqueue_named(store, f"{number}", channel=channel, **UNKNOWING)
    seen: list[str] = []

    def note(message: Message) -> Stamp:
        seen.append(message.id)
        return defaults(message)

    assert [store.stamp(["a", "b"], note, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert seen == ["0", "1", "2", "3", "4"]


def test_a_row_that_was_cancelled_before_its_stamp_is_stamped_when_it_is_replayed(store: SQLStore) -> None:
    enqueue_named(store, "m", **UNKNOWING)
    cancel(store, "m")
    assert store.stamp([CHANNEL], defaults, 100) == 0
    replay(store, "m")
    assert store.stamp([CHANNEL], defaults, 100) == 1
    assert stored(store, "m").expires_at == NOW + 30 * MINUTE
    assert ids(claim(store)) == ["m"]


def test_the_ttl_of_the_defaults_starts_afresh_at_replay_too(store: SQLStore) -> None:
    enqueue_named(store, "m", delay_ms=10 * MINUTE, **UNKNOWING)
    store.stamp([CHANNEL], defaults, 100)
    cancel(store, "m")
    replay(store, "m")
    assert stored(store, "m").expires_at == NOW + 30 * MINUTE
