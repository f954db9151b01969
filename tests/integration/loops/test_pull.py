"""A delivery task that claims: a batch for itself, or what its channel has room for; by the rules of every relay pass."""

import pytest

from outbox import NewMessage, Outbox
from outbox.batching import Batch
from outbox.errors import BrokerUnavailable, ConfigurationError
from outbox.policy.destination import Rate
from outbox.relay import Relay
from outbox.telemetry import Pulled, RelayPassed
from tests.integration.conftest import OpenOutbox
from tests.integration.loops.scene import Capture, Chat, Events, claim, deliver, enqueue, enqueue_many, put, statuses


class Broken(Capture):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def dispatch(self, batches: object) -> None:
        raise self._error


def pull(outbox: Outbox, channel: str = "chat", dispatcher: Capture | None = None) -> Batch | None:
    relay = Relay(outbox.store, outbox.channels, dispatcher or Capture(), outbox.telemetry, outbox.owner)
    return relay.pull(outbox.channels.get(channel))


def refill(outbox: Outbox, dispatcher: Capture | None = None) -> Capture:
    dispatcher = dispatcher or Capture()
    relay = Relay(outbox.store, outbox.channels, dispatcher, outbox.telemetry, outbox.owner)
    relay.refill(outbox.channels.get("chat"))
    return dispatcher


def test_a_pull_claims_one_batch_and_leaves_the_rest_due(outbox: Outbox) -> None:
    chat = Chat(batch_size=3)
    outbox.register(chat)
    ids = enqueue_many(outbox, 5)
    batch = pull(outbox)
    assert batch is not None
    assert {each.id for each in batch.claims} == set(ids[:3])
    assert statuses(outbox, ids) == ["dispatched"] * 3 + ["queued"] * 2
    deliver(outbox, batch.claims)
    assert len(chat.sent) == 3


def test_where_nothing_is_due_a_pull_costs_nothing_but_a_look(outbox: Outbox) -> None:
    outbox.register(Chat())
    enqueue(outbox, NewMessage(channel="chat", delay=60))
    assert pull(outbox) is None


def test_a_pull_leaves_other_channels_alone(outbox: Outbox) -> None:
    outbox.register(Chat())
    outbox.register(Chat("other"))
    (other,) = enqueue_many(outbox, 1, channel="other")
    assert pull(outbox) is None
    assert statuses(outbox, [other]) == ["queued"]


def test_a_pull_and_a_pass_never_claim_the_same_row(outbox: Outbox) -> None:
    outbox.register(Chat(batch_size=2))
    ids = enqueue_many(outbox, 4)
    pulled = pull(outbox)
    assert pulled is not None
    assert {each.id for each in claim(outbox)} == set(ids) - {each.id for each in pulled.claims}


def test_a_paused_channel_gives_a_pull_nothing(outbox: Outbox) -> None:
    outbox.register(Chat())
    enqueue_many(outbox, 1)
    outbox.pause("chat")
    assert pull(outbox) is None


def test_a_pull_keeps_to_the_channels_cap_and_says_that_it_is_full(outbox: Outbox) -> None:
    outbox.register(Chat(max_in_flight=2))
    enqueue_many(outbox, 3)
    batch = pull(outbox)
    assert batch is not None
    assert (len(batch.claims), batch.capped) == (2, True)
    assert pull(outbox) is None


def test_a_pull_keeps_to_the_channels_rate(outbox: Outbox) -> None:
    outbox.register(Chat(rate_limit=Rate(1, 60)))
    enqueue_many(outbox, 2)
    batch = pull(outbox)
    assert batch is not None
    assert len(batch.claims) == 1
    assert pull(outbox) is None


def test_a_pull_takes_the_most_urgent_first(outbox: Outbox) -> None:
    outbox.register(Chat(batch_size=1))
    _, urgent = enqueue(outbox, NewMessage(channel="chat"), NewMessage(channel="chat", priority=9))
    batch = pull(outbox)
    assert batch is not None
    assert [each.id for each in batch.claims] == [urgent]


def test_a_pull_brings_the_rows_of_a_key_in_their_order(outbox: Outbox) -> None:
    chat = Chat(concurrency=4)
    outbox.register(chat)
    enqueue_many(outbox, 4, ordering_key="room")
    batch = pull(outbox)
    assert batch is not None
    deliver(outbox, batch.claims)
    assert chat.sent == ["0", "1", "2", "3"]


def test_rows_whose_outcome_is_unknown_travel_alone_from_a_pull_too(outbox: Outbox) -> None:
    outbox.register(Chat())
    ids = enqueue_many(outbox, 3)
    for message_id in ids[:2]:
        put(outbox, message_id, outcome_unknown=1)
    others = Capture()
    batch = pull(outbox, dispatcher=others)
    assert batch is not None
    assert sorted(len(each.claims) for each in [batch, *others.batches]) == [1, 1, 1]
    assert {each.id for each in [*batch.claims, *others.claims]} == set(ids)


def test_what_a_pull_cannot_publish_is_given_back(outbox: Outbox) -> None:
    outbox.register(Chat())
    ids = enqueue_many(outbox, 2)
    for message_id in ids:
        put(outbox, message_id, outcome_unknown=1)
    batch = pull(outbox, dispatcher=Broken(BrokerUnavailable("gone")))
    assert batch is not None
    kept = [each.id for each in batch.claims]
    assert statuses(outbox, kept) == ["dispatched"]
    assert statuses(outbox, [message_id for message_id in ids if message_id not in kept]) == ["queued"]


@pytest.mark.parametrize("error", [RuntimeError("no such serializer"), ConfigurationError("nobody to publish to")])
def test_a_pull_that_fails_gives_back_all_that_it_claimed(outbox: Outbox, error: Exception) -> None:
    outbox.register(Chat())
    ids = enqueue_many(outbox, 3)
    for message_id in ids:
        put(outbox, message_id, outcome_unknown=1)
    with pytest.raises(type(error)):
        pull(outbox, dispatcher=Broken(error))
    assert statuses(outbox, ids) == ["queued"] * 3


def test_messages_of_an_application_that_does_not_know_the_channel_are_stamped_and_pulled(open_outbox: OpenOutbox) -> None:
    ids = enqueue_many(open_outbox(), 2)
    worker = open_outbox()
    worker.register(Chat(max_attempts=7))
    batch = pull(worker)
    assert batch is not None
    assert {each.id for each in batch.claims} == set(ids)
    assert worker.get(ids[0]).max_attempts == 7


def test_a_pull_is_told_as_such_and_is_no_sign_that_a_relay_runs(outbox: Outbox) -> None:
    outbox.register(Chat())
    enqueue_many(outbox, 2)
    events = Events(outbox)
    pull(outbox)
    (pulled,) = events.of(Pulled)
    assert (pulled.channel, pulled.claimed, pulled.tasks) == ("chat", 2, 1)
    assert events.of(RelayPassed) == []


def test_a_refill_hands_out_what_the_allowance_has_room_for(outbox: Outbox) -> None:
    outbox.register(Chat(batch_size=2, max_in_flight=4))
    outbox.register(Chat("other"))
    ids = enqueue_many(outbox, 6)
    (other,) = enqueue_many(outbox, 1, channel="other")
    first = refill(outbox)
    deliver(outbox, first.batches[0].claims)
    events = Events(outbox)
    second = refill(outbox)
    assert [[each.id for each in batch.claims] for batch in (*first.batches, *second.batches)] == [ids[:2], ids[2:4], ids[4:]]
    assert all(batch.capped for batch in (*first.batches, *second.batches)), "so that its tasks go on where it ended"
    assert statuses(outbox, [*ids, other]) == ["delivered"] * 2 + ["dispatched"] * 4 + ["queued"]
    (told,) = events.of(Pulled)
    assert (told.channel, told.claimed, told.tasks) == ("chat", 2, 1)


def test_the_last_refill_asks_for_no_other(outbox: Outbox) -> None:
    outbox.register(Chat())
    enqueue_many(outbox, 2)
    assert [batch.capped for batch in refill(outbox).batches] == [False]
    assert refill(outbox).batches == []


def test_a_refill_leaves_crumbs_of_the_allowance_to_the_tick(outbox: Outbox) -> None:
    outbox.register(Chat(max_in_flight=20))
    ids = enqueue_many(outbox, 25)
    (batch,) = refill(outbox).batches
    deliver(outbox, batch.claims[:1])
    assert refill(outbox).batches == []
    deliver(outbox, batch.claims[1:2])
    assert [len(batch.claims) for batch in refill(outbox).batches] == [2]
    assert statuses(outbox, ids[22:]) == ["queued"] * 3


def test_a_refill_takes_the_most_urgent_first(outbox: Outbox) -> None:
    outbox.register(Chat(batch_size=1))
    _, urgent = enqueue(outbox, NewMessage(channel="chat"), NewMessage(channel="chat", priority=9))
    assert next(each.id for each in refill(outbox).claims) == urgent


def test_a_paused_channel_gives_a_refill_nothing(outbox: Outbox) -> None:
    outbox.register(Chat())
    enqueue_many(outbox, 1)
    outbox.pause("chat")
    assert refill(outbox).batches == []


def test_what_a_refill_cannot_publish_is_given_back(outbox: Outbox) -> None:
    outbox.register(Chat())
    ids = enqueue_many(outbox, 2)
    refill(outbox, dispatcher=Broken(BrokerUnavailable("gone")))
    assert statuses(outbox, ids) == ["queued", "queued"]
